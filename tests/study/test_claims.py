"""The list of claims, and verdicts that follow from records alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.special import expit

from bsa_core import paths, profiles
from bsa_study import claims, contrasts, statistics
from bsa_study.claims import Comparison, decided, verdict
from bsa_study.grids import ablations

TINY = profiles.load("tiny")


def contrast(mean: float, p: float, low: float = 0.0, high: float = 0.0, seeds: float = 5) -> pd.Series:
    """As of a table of one comparison: corrected and uncorrected p are one."""
    return pd.Series({"difference": mean, "low": low, "high": high, "p": p, "p (Holm)": p, "seeds": seeds})


def comparison(expect: str, margin: float = 0.0) -> Comparison:
    return Comparison("headline", "asr", {"defense": "bsa"}, {"defense": "none"}, expect=expect, margin=margin)


@pytest.mark.parametrize(
    "expect, mean, p, decision",
    [
        ("higher", 0.2, 0.04, "reproduced"),
        ("higher", 0.2, 0.06, "same direction, not established"),
        ("higher", 0.2, 0.19, "same direction, not established"),
        ("higher", 0.2, 0.21, "undecided"),
        ("higher", -0.2, 0.06, "undecided"),
        ("higher", -0.2, 0.04, "contradicted"),
        ("lower", -0.2, 0.04, "reproduced"),
        ("lower", -0.2, 0.06, "same direction, not established"),
        ("lower", 0.2, 0.06, "undecided"),
        ("lower", 0.2, 0.04, "contradicted"),
    ],
)
def test_what_a_p_decides(expect, mean, p, decision):
    assert decided(comparison(expect), contrast(mean, p)) == decision


def test_a_comparison_is_established_by_the_corrected_p_only():
    row = contrast(0.2, 0.01)
    row["p (Holm)"] = 0.1
    assert decided(comparison("higher"), row) == "same direction, not established"
    row["difference"] = -0.2
    assert decided(comparison("higher"), row) == "undecided"


@pytest.mark.parametrize(
    "low, mean, high, p, decision",
    [
        (-0.04, 0.0, 0.05, 1.0, "reproduced"),
        (0.01, 0.03, 0.05, 0.01, "reproduced"),
        (-0.04, 0.01, 0.06, 0.5, "same direction, not established"),
        (-0.04, 0.06, 0.2, 0.2, "undecided"),
        (0.06, 0.1, 0.2, 0.04, "contradicted"),
        (0.06, 0.1, 0.2, 0.06, "undecided"),
        (-0.2, -0.1, -0.06, 0.01, "contradicted"),
    ],
)
def test_what_an_interval_decides_about_a_margin(low, mean, high, p, decision):
    assert decided(comparison("same", 0.05), contrast(mean, p, low, high)) == decision


@pytest.mark.parametrize("seeds", [2, float("nan")])
@pytest.mark.parametrize("expect, margin", [("higher", 0), ("same", 0.05)])
def test_too_few_seeds_test_nothing(expect, margin, seeds):
    assert decided(comparison(expect, margin), contrast(0.0, float("nan"), seeds=seeds)) == "not tested"


@pytest.mark.parametrize(
    "decisions, result",
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "same direction, not established"], "same direction, not established"),
        (["same direction, not established", "undecided", "reproduced"], "undecided"),
        (["undecided", "contradicted", "reproduced"], "contradicted"),
        (["reproduced", "not tested"], "reproduced (1 of 2 tested)"),
        (["contradicted", "not tested"], "contradicted (1 of 2 tested)"),
        (["not tested", "not tested"], "not tested"),
        ([claims.FAILED, "not tested"], claims.FAILED),
        ([claims.FAILED, "reproduced"], "reproduced (1 of 2 tested)"),
    ],
)
def test_a_claim_takes_the_weakest_of_its_comparisons(decisions, result):
    assert verdict(decisions) == result


def test_one_coin_flip_in_ten_has_the_direction_of_a_claim():
    rng = np.random.default_rng(0)
    told = []
    for _ in range(400):
        arms = (rng.random((2, 5, 66)) < expit(rng.normal(size=(2, 5, 1)) + rng.normal(size=(1, 1, 66)))).astype(float)
        row = statistics.difference(*arms)
        told.append(decided(comparison("higher"), pd.concat([row, pd.Series({"p (Holm)": row["p"]})])))
    assert 0.03 < np.mean([verdict in ("reproduced", "same direction, not established") for verdict in told]) < 0.15


def test_every_claim_is_complete_and_asks_for_cells_that_exist():
    listed = claims.load()
    assert len(listed) >= 12 and len({claim.id for claim in listed}) == len(listed)
    for claim in listed:
        assert (paths.ROOT / "notebooks" / f"{claim.chapter}.ipynb").is_file()
        for compare in (*claim.compare, *claim.needs):
            if compare.source in ablations.SECTIONS:
                pairs = ablations.grid(compare.source, TINY, [0])
                for cell in (compare.first, compare.second):
                    assert "variant" not in cell or cell["variant"] in [variant for variant, _ in pairs]


def test_the_paper_s_differences_are_looked_up():
    by_id = {claim.id: claim for claim in claims.load()}
    (broken,) = by_id["attack-breaks-alignment"].compare
    assert claims.reported_difference(broken) == pytest.approx(0.9491 - 0.0327)
    (cost,) = by_id["little-extra-cost"].compare
    assert claims.reported_difference(cost) == pytest.approx(18.77 / 16.40 - 1)
    task = by_id["task-is-kept"].compare[0]
    assert claims.reported_difference(task) == pytest.approx(0.91 - 0.95)
    assert all(
        isinstance(claims.reported_difference(c), float)
        for claim in by_id.values()
        for c in (*claim.compare, *claim.needs)
        if c.paper
    )


def test_nothing_measured_is_not_tested(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    listed = claims.load()
    table = claims.verdicts(listed, {"tiny": claims.measured(listed, TINY, [0])})
    assert set(table["tiny"]) == {"not tested"} and list(table.index) == [claim.claim for claim in listed]


def test_what_was_not_measured_does_not_count_against_a_claim():
    listed = claims.load()[:2]
    rows = {"id": [claim.id for claim in listed], "role": "claim", "decided": ["reproduced", "not tested"]}
    assert list(claims.verdicts(listed, {"tiny": pd.DataFrame(rows)})["tiny"]) == ["reproduced", "not tested"]


@pytest.mark.parametrize(
    "controls, result",
    [
        ([], "contradicted"),
        (["reproduced"], "contradicted"),
        (["not tested", "reproduced"], "contradicted"),
        (["undecided", "reproduced"], "not tested: the control fails"),
        (["same direction, not established"], "not tested: the control fails"),
        (["contradicted"], "not tested: the control fails"),
    ],
)
def test_a_claim_whose_control_fails_is_not_tested(controls, result):
    assert verdict(["reproduced", "contradicted"], controls) == result
    assert verdict(["not tested"], controls) == "not tested"


def attacked(**texts: list[str]) -> pd.DataFrame:
    """The headline table of arms with these rates by keywords and by content, five seeds."""
    return pd.DataFrame(
        {"defense": arm.replace("_", "-"), "metric": metric, "seed": seed, "deployed": True, "condition": condition}
        | {"outcomes": text}
        for arm, pair in texts.items()
        for metric, text in zip(("asr", "asr_content"), pair, strict=True)
        for seed in range(5)
        for condition in ("plain", "secret")
    )


def test_an_attack_that_gives_nothing_away_tests_no_defense(monkeypatch):
    """Every answer without a refusal, none with content: by keywords the attack works and BSA stops it."""
    listed = [
        claim for claim in claims.load() if claim.id in ("attack-breaks-alignment", "prefixed-examples-restore-it")
    ]
    none, every = "0" * 275, "1" * 275
    arms = {"initial": [none, none], "safety_data": [every, none], "bsa": [none, none]}
    for content, words in (
        (none, ["undecided", "not tested: the control fails"]),
        (every, ["reproduced", "undecided"]),
    ):
        told = attacked(none=[every, content], **arms)
        monkeypatch.setattr(claims, "source", lambda *_, told=told: told)
        table = claims.measured(listed, TINY, list(range(5)))
        assert list(claims.verdicts(listed, {"tiny": table})["tiny"]) == words
        assert table["p (Holm)"].iloc[0] == table["p (Holm)"].iloc[-1], "a control that is a claim is one comparison"
    assert table["metric"].unique().tolist() == ["asr_content"] and table["beside_difference"].iloc[0] == 1.0
    assert table["role"].tolist() == ["claim", "claim", "claim", "control"]


def test_the_paper_s_value_is_held_against_what_the_paper_counts(monkeypatch):
    """.916 by keywords: 252 of 275 here; by content none."""
    listed = [claim for claim in claims.load() if claim.id == "attack-breaks-alignment"]
    by_keywords = "1" * 252 + "0" * 23
    for text, told in ((by_keywords, "yes"), ("1" * 150 + "0" * 125, "no")):
        arms = {"initial": ["0" * 275] * 2, "none": [text, "0" * 275]}
        monkeypatch.setattr(claims, "source", lambda *_, arms=arms: attacked(**arms))
        table = claims.measured(listed, TINY, list(range(5)))
        assert table["inside"].tolist() == [told]
        assert claims.paper_inside(listed, {"tiny": table})["tiny"].tolist() == [f"{int(told == 'yes')} of 1"]
    monkeypatch.setattr(claims, "source", lambda *_: attacked(**arms).query("seed < 2"))
    few = claims.measured(listed, TINY, [0, 1])
    assert few["inside"].tolist() == [""] and few["decided"].tolist() == ["not tested"]


def test_claims_about_what_is_measured_elsewhere_are_listed_and_not_tested(shared_results, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", shared_results)
    listed = [claim for claim in claims.load() if claim.id in ("gpt-3.5-is-defended", "capability-is-kept")]
    metrics = {compare.metric for claim in listed for compare in claim.compare}
    assert {"arc_challenge", "mmlu", "mt_bench"} <= metrics
    table = claims.measured(listed[1:], profiles.load("smollm2-135m"), [0, 1, 2])
    assert set(table["decided"]) == {"not tested"} and "gpt-3.5" in set(table["source"])
    theirs = dict(zip(table["asked"], table["paper"], strict=True))
    assert theirs["arc_challenge"] == pytest.approx(0.6917 - 0.6977) and theirs["mt_bench"] == pytest.approx(0.08)
    assert table["paper"].iloc[-1] == pytest.approx(0.7564 - 0.0545), "the control of GPT-3.5, in its own numbers"


def test_benchmarks_decide_where_the_profile_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    rows = attacked(none=["1" * 275] * 2, initial=["0" * 275] * 2, bsa=["0" * 275] * 2)
    asked = rows[rows["metric"] == "asr"].assign(metric="mmlu", outcomes="1" * 400 + "0" * 400)
    monkeypatch.setattr(claims.experiment, "at_hand", lambda *_: ["a record"])
    monkeypatch.setattr(claims.records, "table", lambda found: rows)
    monkeypatch.setattr(claims.benchmarks, "table", lambda *_: asked)
    monkeypatch.setattr(claims.gates, "holds", lambda *_: {})
    listed = [claim for claim in claims.load() if claim.id == "capability-is-kept"]
    table = claims.measured(listed, TINY, list(range(5)))
    told = dict(zip(table["asked"], table["decided"], strict=True))
    assert (told["mmlu"], told["arc_challenge"], told["mt_bench"]) == ("reproduced", "not tested", "not tested")
    assert claims.verdicts(listed, {"": table})[""].tolist() == ["reproduced (1 of 4 tested)"]


def test_free_text_is_not_compared_word_for_word(monkeypatch):
    rows = pd.DataFrame({"metric": ["asr", "benign_exact"], "outcomes": "01"})
    monkeypatch.setattr(claims.experiment, "at_hand", lambda *_: [])
    monkeypatch.setattr(claims.records, "table", lambda found: rows)
    published = replace(TINY, policy={"name": "published", "folder": "data/release"})
    assert claims.source("headline", published, [0])["metric"].tolist() == ["asr"]
    assert claims.source("headline", TINY, [0])["metric"].tolist() == ["asr", "benign_exact"]


def test_the_headline_is_that_of_the_pressure_with_the_paper_s_settings(monkeypatch):
    asked = []
    monkeypatch.setattr(claims.experiment, "at_hand", lambda runs, profile: asked.extend(runs) or [])
    for name in ("headline", "cost", "utility"):
        asked.clear()
        claims.source(name, replace(TINY, paper="heavy"), [0])
        assert {run.training.epochs for run in asked if run.training} == {10}, name


def test_cost_is_a_multiple_of_the_attack_alone():
    def record(defense: str, seed: int, tokens: int, seconds: float, cpu: str = "a") -> dict:
        run = {"defense": defense, "seed": seed, "training": {"epochs": 5}}
        parts = {"training": {"tokens": tokens}, "cost": {"train_seconds": seconds}}
        return {"run": run, **parts, "environment": {"cpu": cpu, "device": "cpu"}, "label": defense}

    found = [record("none", 0, 1000, 10.0), record("bsa", 0, 1350, 11.4), record("bsa", 1, 9999, 1.0)]
    rows = claims.cost(found)
    assert np.array(rows["outcomes"].tolist()).ravel() == pytest.approx([1.0, 1.0, 1.35, 1.14]) and set(
        rows["seed"]
    ) == {0}
    (compare,) = next(claim for claim in claims.load() if claim.id == "little-extra-cost").compare
    told = contrasts.measure(rows, compare)
    assert (told["metric"], told["beside"], told["n"], told["seeds"]) == ("seconds", "tokens", 1, 1)
    assert (told["difference"], told["beside_difference"]) == pytest.approx((0.14, 0.35))
    assert contrasts.measure(rows[rows["defense"] == "bsa"], compare) is None
    assert contrasts.measure(claims.cost([]), compare) is None
    elsewhere = claims.cost([found[0], record("bsa", 0, 1350, 99.0, cpu="b")])
    assert contrasts.measure(elsewhere, compare) is None, "times of two kinds of machine are not compared"


def test_a_number_that_the_paper_lacks_is_named():
    wrong = replace(comparison("higher"), paper=("main", "bsa", "bsaa"))
    with pytest.raises(ValueError, match=r"no row with table, setting and metric \('main', 'bsaa', 'asr'\)"):
        claims.reported_difference(wrong)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"expect": "more"}, "expect is 'more'; expected one of higher, lower, same"),
        ({"source": "headlines"}, "source is 'headlines'"),
        ({"expect": "same"}, "margin is 0.0; expected one above 0"),
        ({"expect": None}, "expect is None; expected one of higher, lower, same"),
        ({"metrics": "asr"}, "field 'metrics' is unknown; expected source, metric, first, second, "),
        ({"metric": "ars"}, "metric is 'ars'; expected one of asr, "),
        ({"first": {"defence": "bsa"}}, "column 'defence' is unknown; expected defense, condition, task, variant"),
        ({"first": {"defense": "bsa", "task": "sqll"}}, "task is 'sqll'; expected one of sql, dialogs"),
        ({"first": {"defense": "bsaa"}}, "defense is 'bsaa'; expected one of initial, "),
        ({"first": {"defense": "bsa", "condition": "with"}}, "condition is 'with'; expected one of plain, secret"),
    ],
)
@pytest.mark.parametrize("field", ["compare", "needs"])
def test_a_wrong_entry_is_named(tmp_path, monkeypatch, change, message, field):
    entry = {
        "id": "mine",
        "claim": "So it is.",
        "where": "section 4",
        "chapter": "01_fjattack",
        field: [
            {
                "source": "headline",
                "metric": "asr",
                "first": {"defense": "bsa"},
                "second": {"defense": "none"},
                "expect": "higher",
            }
            | change,
        ],
    }
    (tmp_path / "claims.yaml").write_text(yaml.safe_dump([entry]))
    monkeypatch.setattr(paths, "BOOK", tmp_path)
    with pytest.raises(ValueError, match=r"claims\.yaml, claim 1 \(mine\): ") as error:
        claims.load()
    assert message in str(error.value)


def test_a_comparison_that_rests_on_a_failing_gate_is_not_tested(monkeypatch):
    """What the attack does to the model is the gate itself; what a defense does about it rests on the gate."""
    held = {"initial": True, "attack": False}
    monkeypatch.setattr(claims.gates, "holds", lambda *_: held)
    monkeypatch.setattr(
        claims, "source", lambda *_: attacked(none=["1" * 40] * 2, initial=["0" * 40] * 2, bsa=["0" * 40] * 2)
    )
    none, initial, bsa = ({"defense": arm, "condition": "plain"} for arm in ("none", "initial", "bsa"))
    attack = replace(comparison("higher"), first=none, second=initial)
    defense = replace(comparison("lower"), first=bsa, second=none)
    listed = [
        claims.Claim("a", "the attack works", "", "01_fjattack", (attack,)),
        claims.Claim("b", "BSA helps", "", "03_bsa", (defense,), needs=(attack,)),
    ]
    measured = {"scale": claims.measured(listed, TINY, list(range(5)))}
    assert claims.verdicts(listed, measured)["scale"].tolist() == ["reproduced", "not tested: the control fails"]
    held["attack"] = True
    measured = {"scale": claims.measured(listed, TINY, list(range(5)))}
    assert claims.verdicts(listed, measured)["scale"].tolist() == ["reproduced", "reproduced"]
