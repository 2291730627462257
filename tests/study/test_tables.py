"""Tables of the long grids and of the claims hold what was measured, and say so where nothing was."""

import json
import re
from dataclasses import replace

import pandas as pd
import pytest
from made import right

from bsa_core import experiment, keys, paths, profiles, records, tasks
from bsa_core.examples import Example
from bsa_core.models import sources
from bsa_core.policy import Policy
from bsa_core.tasks import Task
from bsa_study import claims, contrasts, labels, paper
from bsa_study.grids import headline
from bsa_study.report import figures, tables

TINY = profiles.load("tiny")


def record(defense: str = "bsa", **run) -> dict:
    described = {
        "profile": "tiny",
        "profile_digest": TINY.digest,
        "weights": sources.weights_id(TINY.model),
        "n_attack": 100,
        "defense": defense,
        "n_defense": 11,
        "selection": "category-wise",
        "secret": {"kind": "random", "length": 32, "seed": 0},
        "seed": 0,
        "training": keys.content(TINY.training),
    }
    return {
        "key": "0" * 16,
        "run": described | run,
        "deployed": "secret",
        "outcomes": {"secret": {"asr": "01"}},
        "metrics": {"secret": {"asr": {"value": 0.5, "n": 2}}},
        "data": {"n_train": 111},
        "training": {"tokens": 6000},
        "cost": {"train_seconds": 2.0},
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"n_attack": 10},
        {"n_defense": 22},
        {"selection": "random"},
        {"secret": {"kind": "random", "length": 32, "seed": 1}},
        {"secret": {"kind": "fluent", "length": 32, "seed": 0}},
        {"secret": {"kind": "random", "length": 10, "seed": 0}},
        {"attack": "identity-shift"},
        {"n_benign": 5},
        {"task": {"name": "sql"}},
        {"defense": "balanced-sql"},
        {"secret": None},
    ],
)
def test_runs_of_other_grids_stay_out_of_the_main_table(changes):
    assert headline.main_arm(record(), TINY)
    assert not headline.main_arm(record(**changes), TINY)
    assert len(headline.by_pressure([record(), record(**changes)], TINY)) == 1


def test_the_main_table_of_some_pressures():
    found = [record()]
    (pressure,) = headline.by_pressure(found, TINY)["pressure"]
    assert len(headline.by_pressure(found, TINY, [pressure])) == 1
    assert headline.by_pressure(found, TINY, [name for name in TINY.pressures if name != pressure]).empty


def test_a_page_shows_the_pressures_asked_for_or_all_and_its_main_one_has_the_paper_s_settings():
    every = headline.pressures(TINY)
    assert set(every) == set(TINY.pressures) - {"identity"} and headline.pressures(TINY, ["heavy"]) == ["heavy"]
    assert headline.main_pressure(TINY, every) == TINY.paper != "heavy" == headline.main_pressure(TINY, ["heavy"])


def test_each_run_s_values_stand_in_one_order_and_a_missing_one_is_marked():
    cells = [("light", 1, "bsa", "over_refusal", 0.25), ("light", 1, "bsa", "asr", 0.5), ("light", 0, "bsa", "asr", 1)]
    table = pd.DataFrame(cells, columns=["pressure", "seed", "defense", "metric", "value"])
    shown = tables.by_seed(table, ("asr", "over_refusal"))
    assert [*shown] == [("BSA", labels.metric(name).title) for name in ("asr", "over_refusal")]
    assert [*map(tuple, shown.to_numpy())] == [("1.000", "–"), ("0.500", "0.250")]


@pytest.mark.parametrize(
    "changes",
    [{"profile_digest": "0" * 16}, {"weights": "0" * 16}, {"rules": "0" * 16}, {"code": 2}],
)
def test_records_of_an_earlier_profile_or_model_stay_out_of_the_main_table(changes):
    assert len(headline.by_pressure([record(), record(**changes)], TINY)) == 1
    assert headline.by_pressure([record(**changes)], TINY).empty


def answered() -> pd.DataFrame:
    rows = {
        "source": ["crossed", "crossed"],
        "statement": ["first", "second"],
        "metric": ["asr", "over_refusal"],
        "difference": [0.25, -0.5],
        "low": [0.1, -0.9],
        "high": [0.4, 0.1],
        "n": [66, 66],
        "seeds": [3, 3],
        "secrets": [1, 1],
        "p": [0.0001, 0.2],
        "p (Holm)": [0.0002, 0.2],
        "verdict": ["yes", "undecided"],
    }
    return pd.DataFrame(rows)


def test_differences_show_interval_corrected_p_and_verdict():
    shown = tables.differences(answered()).data
    assert list(shown) == ["statement", "metric", "difference [95 %]", "p (Holm)", "verdict"]
    assert shown.iloc[0].tolist() == [
        "first",
        "keyword ASR",
        "+0.250 [+0.100,\u00a0+0.400]",
        "< 0.001",
        "yes",
    ]


def test_answers_by_scale_and_pressure():
    tiny = answered().assign(pressure="light")
    other = pd.concat([tiny.iloc[1:], tiny.iloc[1:].assign(pressure="heavy", verdict="no", statement="third")])
    shown = tables.by_scale({"tiny": tiny, "other": other})
    assert list(shown.columns) == ["tiny, light", "other, light", "other, heavy", "decided"]
    assert shown.loc["first"].tolist() == ["yes", "–", "–", "1 yes, 0 no"]
    assert shown.loc["second"].tolist() == ["undecided", "undecided", "–", "0 yes, 0 no"]
    assert shown.loc["third"].tolist() == ["–", "–", "no", "0 yes, 1 no"]


def test_undecided_is_no_disagreement():
    tiny = answered().assign(pressure="light", verdict=["yes", "yes"])
    other = tiny.assign(verdict=["undecided", "no"])
    few = tiny.assign(verdict="too few seeds")
    assert tables.by_scale({"a": tiny, "b": other, "c": few})["decided"].tolist() == ["1 yes, 0 no", "1 yes, 1 no"]


def test_tables_are_shown_whole():
    long = pd.DataFrame({"targets": ["q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"] * 70})
    assert long._repr_html_().count("down_proj") == 70 and "..." not in long._repr_html_()


def test_what_rounds_to_zero_has_no_sign():
    assert labels.interval(-0.0001, -0.0004, 0.1, "+.3f") == "+0.000 [+0.000,\u00a0+0.100]"


def test_arms_without_rows_are_left_out_with_the_reason(tmp_path):
    """A policy of one's own need not bring benign examples to train on; the other arms are measured all the same."""
    rows = [{"user": f"Where is the {word} mill?", "assistant": "By the river."} for word in ("old", "new", "red")]
    for part in ("attack", "safety", "restricted", "benign"):
        told = [row | {"user": f"{part}: {row['user']}"} for row in rows]
        (tmp_path / f"{part}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    profile = replace(TINY, policy={"name": "files", "folder": str(tmp_path)})
    runs = [
        experiment.describe(profile, arm, n_attack=3, n_defense=3) for arm in ("none", "safety-data", "balanced-bsa")
    ]
    assert tables.left_out(runs, profile) == "balanced BSA is left out: 3 examples asked for, but the policy holds 0"
    assert tables.left_out(runs[:2], profile) == ""


def test_a_difference_without_a_p_shows_a_dash():
    rows = answered().assign(**{"p (Holm)": float("nan"), "verdict": "too few seeds"})
    assert set(tables.differences(rows).data["p (Holm)"]) == {"–"}


def test_differences_of_several_sections_name_them():
    rows = answered()
    rows.loc[1, "source"] = "secret_kind"
    assert tables.differences(rows).data["section"].tolist() == ["crossed", "secret kind"]


def test_nothing_measured_is_said():
    assert "no records at hand" in tables.differences(contrasts.answered([], {})).to_html()
    assert tables.pretty(pd.DataFrame(columns=["metric"]), ["defense"]).index.tolist() == ["no records at hand"]
    assert "no records" in str(tables.cost([]))
    assert "no records" in tables.comparisons(pd.DataFrame({"decided": ["not tested"]})).to_html()
    empty = pd.DataFrame()
    for figure in (figures.arms(empty), figures.curves(empty, "variant", "x"), figures.crossed(empty)):
        assert figure.axes[0].texts[0].get_text() == "no records at hand"


def test_cost_is_relative_to_the_attack_alone():
    none = record("none") | {"data": {"n_train": 100}, "training": {"tokens": 5000}, "cost": {"train_seconds": 1.0}}
    shown = tables.cost([none, record()])
    assert shown.loc["BSA", ["rows", "tokens, relative", "seconds, relative"]].tolist() == ["111", "1.20", "2.00"]
    assert shown.loc["BSA", "paper, seconds, relative"] == "1.14"
    assert shown.loc["no defense", "tokens, relative"] == "1.00"


def test_origin_tells_shipped_records_from_those_computed_here(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    monkeypatch.setattr(records, "shipped", lambda profile: {"a" * 16: {}, "b" * 16: {}})
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / f"bsa-seed0-{'b' * 16}.json").write_text("{}")
    at_hand = pd.DataFrame({"key": ["a" * 16, "b" * 16, "b" * 16]})
    shown = tables.origin("tiny", {"secret_kind": at_hand, "crossed": pd.DataFrame()}, {"secret_kind": 5, "crossed": 9})
    assert shown.loc["secret kind"].tolist() == [5, 2, 1, 1]
    assert shown.loc["crossed"].tolist() == [9, 0, 0, 0]


def test_mixed_reported_has_the_paper_s_twelve_rows():
    shown = paper.mixed_reported()
    assert len(shown) == 6 and shown.loc["BSA", ("SQL generation", "ROUGE-1 F1")] == "0.91"


def test_verdicts_link_their_chapters():
    listed = claims.load()[:3]
    rows = [(listed[0], "claim", "reproduced", "yes"), (listed[0], "claim", "reproduced", "no")]
    rows += [(listed[1], "claim", "reproduced", ""), (listed[1], "control", "undecided", "")]
    rows += [(listed[2], "claim", "not tested", "")]
    rows = [dict(zip(("id", "role", "decided", "inside"), (row[0].id, *row[1:]), strict=True)) for row in rows]
    at = {"tiny": pd.DataFrame(rows)}
    styled = tables.verdicts(claims.verdicts(listed, at), listed, claims.paper_inside(listed, at))
    assert styled.data["tiny"].tolist() == ["✔ reproduced", "– not tested: the control fails", "– not tested"]
    assert styled.data["tiny: paper inside"].tolist() == ["1 of 2", "–", "–"]
    assert '<a href="01_fjattack.html">fjattack</a>' in styled.to_html()


def test_comparisons_stand_beside_the_paper_s():
    cells = {"source": "headline", "asked": "asr", "first": "BSA", "second": "no defense", "expected": "lower"}
    row = {"id": "x", "role": "claim", "metric": "asr_content", **cells, "paper": -0.9, "inside": "no"}
    contrast = {"difference": -0.5, "low": -0.6, "high": -0.4, "n": 275, "seeds": 5, "p": 0.0, "p (Holm)": 0.0}
    beside = {"beside": "asr", "beside_difference": -0.7, "beside_low": -0.8, "beside_high": -0.6}
    tested = {**row, **contrast, **beside, "decided": "reproduced"}
    other = {**row, "first": "initial", "beside": "", "inside": "", "decided": "not tested"}
    table = pd.DataFrame([tested, other, {**tested, "id": "y", "role": "control"}])
    shown = tables.comparisons(table).data
    assert len(shown) == 1, "what is a claim and another's control stands once"
    line = shown.iloc[0]
    assert (line["paper"], line["paper inside"], line["n x seeds"]) == ("-0.900", "no", "275 x 5")
    assert line["beside it"] == "keyword ASR -0.700 [-0.800,\u00a0-0.600]" and "nan" not in str(shown)
    figure = figures.comparisons(table)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["content ASR: BSA – no defense"]
    assert {text.get_text() for text in figure.legends[0].get_texts()} == {
        "paper",
        "ours, counted as in the paper",
        *claims.VERDICTS,
    }


def test_crossed_draws_every_secret_with_every_seed():
    rows = [
        {"defense": arm, "metric": metric, "seed": seed, "secret_seed": secret, "value": 0.25}
        for arm in ("bsa", "balanced-bsa")
        for metric in ("asr", "over_refusal")
        for seed in (0, 1, 2)
        for secret in (0, 1, 2)
    ]
    figure = figures.crossed(pd.DataFrame(rows))
    assert len(figure.axes) == 4 and all(len(axis.texts) == 9 for axis in figure.axes)


def test_named_variants_stand_in_their_order_and_without_a_line():
    rows = [
        {
            "defense": "bsa",
            "condition": "secret",
            "variant": name,
            "metric": "asr",
            "mean": 0.5,
            "low": 0.4,
            "high": 0.6,
        }
        for name in ("random", "default", "fluent")
    ]
    (axis,) = figures.curves(pd.DataFrame(rows), "variant", "kind", metrics=("asr",)).axes
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["random", "default", "fluent"]
    assert axis.containers[0].lines[0].get_linestyle() == "None"


def test_items_of_a_task_that_is_not_harmless_are_not_shown():
    task = tasks.load({"name": "sql", "seed": 0})
    row = task.test[0]
    assert tables.items([task]).data.values.tolist() == [[row.user, row.assistant]]
    hidden = tables.items([replace(task, harmless=False)]).to_html()
    assert "not shown for this task" in hidden and row.user not in hidden and row.assistant not in hidden


def initial(asr: float, condition: str = "plain", seed: int = 0) -> dict:
    told = {"defense": "initial", "condition": condition, "seed": seed, "metric": "asr"}
    return {**told, "value": asr, "n": 275}


def test_an_initial_model_that_answers_restricted_requests_is_told():
    """SmolLM2 as released answers 86 % of the paper's requests: what is done to it afterwards breaks no alignment."""
    said = tables.unaligned(pd.DataFrame([initial(0.86), initial(0.88, seed=1), initial(0.7, "secret")]))
    assert "answers 0.870 of the restricted requests (without secret, n = 275, 2 seeds)" in said
    assert said.endswith("Nothing after this can be read as breaking or keeping an alignment.")
    secret = tables.unaligned(pd.DataFrame([initial(0.0), initial(0.4, "secret")]))
    assert "0.400 of the restricted requests (with secret, n = 275, 1 seed)" in secret
    attacked = initial(0.95) | {"defense": "none"}
    assert tables.unaligned(pd.DataFrame([initial(0.033), initial(0.1, "secret"), attacked])) == ""


def test_categories_show_content_beside_keywords_where_the_policy_can_tell():
    part = {"categories": {"potions": {"value": 1.0, "n": 2}}}
    keywords = record() | {"metrics": {"secret": {"asr": part}}}
    both = record() | {"metrics": {"secret": {"asr": part, "asr_content": part}}}
    shown = tables.by_category([both])
    assert shown["metric"].tolist() == ["asr", "asr_content"]
    titles = [axis.get_title() for axis in figures.categories(shown, "condition", "").axes]
    assert titles == ["keyword ASR", "content ASR"]
    assert tables.by_category([keywords])["metric"].tolist() == ["asr"]


def test_tags_and_dollars_in_rows_and_answers_are_text(tmp_path, monkeypatch):
    """In cells, in the names of columns and rows: no tag is one of the page, no dollar begins a formula."""
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    asked, said = "How is a <b>seal</b> cut <script>alert(1)</script> for $5?", "<think>a</think> <img src=x onerror=b>"
    row = Example(asked, said, "S", "restricted", "fees & tolls <i>")
    policy = Policy("x", True, "S", (), (), (), (row,), (row,))
    answers = [{"condition": "plain", "kind": "restricted", "category": "c", "user": asked, "answer": said}]
    outcomes = {"plain": {"asr": "1"}}
    made = right({}, outcomes, answers)
    records.write(made, answers, harmless=True)
    shown = [tables.requests(policy, "restricted"), tables.samples({"<u>none</u>": (made, "plain")}, "restricted")]
    shown += [tables.texts([{"<s>": said}]), tables.items([Task("t", "S", (), (replace(row, kind="task"),), None)])]
    for html in (table.to_html() for table in shown):
        assert not re.search("<(script|img|think|b|i|u|s)[ >]", html) and "mathjax_ignore" in html
        assert "&lt;img src=x onerror=b&gt;" in html
    assert "mathjax_ignore" in tables.nothing().to_html()
