"""Rank correlations of the arms between two scales, from cells made by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from bsa_core import profiles
from bsa_study import claims, transfer
from bsa_study.report import foreseen

TINY = profiles.load("tiny")


def scale(rates, spread: float = 0.0, seeds: int = 5, section: str = "safety_examples") -> pd.DataFrame:
    """`transfer.cells` of one arm with so many variants: their content ASR, and how far its seeds are apart."""
    apart = spread * np.random.default_rng(0).normal(size=(len(rates), seeds))
    values = np.clip(np.asarray(rates)[:, None] + apart, 0, 1)
    index = [(section, str(n), "bsa", "secret", "asr_content") for n in range(len(rates))]
    cells = pd.DataFrame(values, index=pd.MultiIndex.from_tuples(index, names=transfer.CELL))
    return cells.assign(first=[f"key {n}" for n in range(len(rates))])


def rows(section: str, variant=None, conditions=("secret",), key: str = "a", arm: str = "bsa", **more) -> pd.DataFrame:
    """As of `claims.source`: three seeds of one cell in each condition; deployed with the secret."""
    told = {"defense": arm, "metric": "asr_content", "secret_seed": 0, **more}
    told |= {"variant": variant} if variant is not None else {}
    return pd.DataFrame(
        {**told, "condition": of, "deployed": of == "secret", "seed": seed, "value": seed / 4, "key": f"{key}{seed}"}
        for of in conditions
        for seed in (2, 0, 1)
    )


@pytest.fixture
def measured(monkeypatch):
    """Puts tables in the place of records: section -> rows."""

    def put(**tables: pd.DataFrame) -> pd.DataFrame:
        monkeypatch.setattr(transfer, "seeds_of", lambda profile: [0, 1, 2])
        monkeypatch.setattr(claims, "source", lambda name, *_: tables.get(name, pd.DataFrame()))
        return transfer.cells(TINY)

    return put


def test_a_cell_is_as_deployed_except_where_the_secret_is_the_question(measured):
    both = ("plain", "secret")
    cells = measured(headline=rows("headline", conditions=both), secret_at_test=rows("", "light", both, "b"))
    assert sorted(cells.index) == [
        ("headline", "", "bsa", "secret", "asr_content"),
        ("secret_at_test", "", "bsa", "plain", "asr_content"),
        ("secret_at_test", "", "bsa", "secret", "asr_content"),
    ], "a pressure has another name in another profile"
    assert cells[[0, 1, 2]].to_numpy().tolist() == [[0, 0.25, 0.5]] * 3 and [*cells["first"]] == ["a0", "b0", "b0"]


def test_the_same_runs_in_two_sections_count_once(measured):
    parts = [rows("", 11, key="a"), rows("", 25, key="b")]
    one = measured(headline=rows(""), safety_examples=pd.concat(parts), mixed=rows("", task="sql", key="c"))
    other = measured(headline=rows(""), safety_examples=pd.concat(parts[1:]), mixed=rows("", task="sql", key="c"))
    assert len(one) == 4
    shared = transfer.matched(one, one)[0].reset_index()
    assert [*shared["section"]] == ["headline", "mixed", "safety_examples"] and [*shared["variant"]] == [
        "",
        "sql",
        "25",
    ]
    assert len(transfer.matched(one, other)[0]) == 2, "only what both measured, under one name"


def test_a_scale_without_records_shares_nothing():
    nothing = transfer.cells(profiles.load("llama2-7b-chat"))  # whose data are not here either
    shared = transfer.matched(scale([0.1, 0.2]), nothing)
    assert [len(of) for of in shared] == [0, 0] and foreseen.scatter(*shared).axes
    assert foreseen.correlations(transfer.correlations(*shared)).index.tolist() == ["no records of both scales"]


def test_correlations_are_spearman_s():
    rng = np.random.default_rng(1)
    rates = [rng.random(12).round(1) for _ in range(2)]  # with ties
    told = transfer.correlation(*map(scale, rates))
    assert told["mean"] == pytest.approx(spearmanr(*rates).statistic)
    assert [told["low"], told["high"]] == pytest.approx([told["mean"]] * 2), "seeds agree"
    assert told["arms_low"] < told["mean"] < told["arms_high"]
    assert 0.01 < told["chance"] < 1


def test_seeds_that_differ_make_the_interval_longer():
    rates = np.linspace(0.1, 0.9, 10)
    few, many = (transfer.correlation(scale(rates, 0.2, seeds), scale(rates, 0.2, seeds)) for seeds in (3, 20))
    assert few["high"] - few["low"] > many["high"] - many["low"] > 0


def test_an_arm_with_fewer_seeds_than_others_has_the_mean_of_its_own():
    agreeing = scale(np.linspace(0.1, 0.9, 10), seeds=20)
    lacking = agreeing.copy()
    lacking.iloc[::2, 5:20] = np.nan
    told = transfer.correlation(lacking, agreeing)
    assert [told["low"], told["mean"]] == pytest.approx([1, 1], abs=1e-3)


def test_the_order_of_four_arms_is_right_by_chance_once_in_24():
    told = transfer.correlation(scale([0.1, 0.2, 0.3, 0.4]), scale([0.5, 0.6, 0.7, 0.9]))
    assert told["mean"] == 1 and 0.03 < told["chance"] < 0.055 and np.isnan(told["arms_low"])


@pytest.mark.parametrize("rates", [[0.1, 0.2, 0.3], [0.0] * 6])
def test_too_few_arms_or_equal_ones_have_no_correlation(rates):
    told = transfer.correlation(scale(rates), scale(range(len(rates))))
    assert told["arms"] == len(rates) and np.isnan([told["mean"], told["low"], told["chance"]]).all()


def test_the_page_shows_every_arm_and_every_part():
    one, other = (
        pd.concat([scale(rates, 0.1), scale(rates[:5], 0.1, section="headline")])
        for rates in (np.linspace(0, 1, 9), np.linspace(1, 0, 9))
    )
    axis = foreseen.scatter(one, other).axes[0]
    assert sum(len(drawn.get_offsets()) for drawn in axis.collections) == 14
    assert {text.get_text().partition(":")[0] for text in axis.texts} <= {"main arms", "Number of safety examples"}
    assert len(axis.texts) == foreseen.NAMED
    table = foreseen.correlations(transfer.correlations(one, other))
    assert (
        table.loc[("content ASR", "all"), "cells"] == 14 and table.loc[("content ASR", "mixed setting"), "cells"] == 0
    )
    cells = table.loc["content ASR", "rank correlation [95 % over seeds]"]
    assert cells["main arms"].startswith("-") and cells["mixed setting"] == "–"
