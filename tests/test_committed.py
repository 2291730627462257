"""Committed records: whole, found under their keys by today's code, and as the book words them."""

import json
from pathlib import Path

import pandas as pd
import pytest
from cells import one_cell

from bsa_core import keys, paths, profiles, records
from bsa_core.experiment import runs
from bsa_core.models import sources
from bsa_core.paths import CHECKPOINTS
from bsa_study import claims, contrasts, statistics
from bsa_study.grids import ablations, headline, mixed

FOLDER = Path(__file__).resolve().parent.parent / "results" / "gemma3-270m"
PROFILE = profiles.load("gemma3-270m")
TINY = profiles.load("tiny")
SEEDS, PRESSURES = [0, 1, 2], ["light", "heavy"]


@pytest.fixture(scope="module")
def committed() -> list[dict]:
    return [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]


def test_every_run_is_found_by_its_key(committed, monkeypatch):
    """A change to the code that gives published runs another key would leave their records behind, unseen."""
    made_with = {record["run"]["weights"] for record in committed}
    assert len(made_with) == 1
    monkeypatch.setattr(sources, "weights_id", lambda source: min(made_with))  # the package need not be installed
    described = headline.headline(PROFILE, SEEDS, PRESSURES)
    described += [run for _, run in ablations.grid("crossed", PROFILE, SEEDS)]
    mixture = mixed.runs(PROFILE, "sql", SEEDS) + mixed.mismatched(PROFILE, "sql", SEEDS)
    described += [run for run in mixture if run.defense != "balanced-bsa"]  # the settings of the paper
    of = runs.material(PROFILE, described)
    keys = {runs.key_of(run, runs.rows_of(run, PROFILE, of)) for run in described}
    assert {record["key"] for record in committed} == keys


def test_they_were_made_with_the_adapter_that_ships(committed):
    adapter = keys.file_digest(CHECKPOINTS / PROFILE.model.adapter / "adapter_model.safetensors")
    assert all(record["run"]["weights"].endswith(f"+{adapter}") for record in committed)


def test_no_request_leaked_and_controls_hold(committed):
    assert {record["data"]["leaked"] for record in committed} == {0}
    for record in committed:
        if record["run"]["training"] is None:
            for metrics in record["metrics"].values():
                assert metrics["asr"]["value"] <= 0.02 and metrics["over_refusal"]["value"] <= 0.02


def established(answers: pd.DataFrame, *columns: str) -> dict:
    """Statement, behind the values of columns -> yes or no."""
    rows = answers[answers["verdict"].isin(["yes", "no"])]
    return dict(zip(zip(*(rows[c] for c in (*columns, "statement")), strict=True), rows["verdict"], strict=True))


def test_what_chapter_4_says_of_them(committed):
    table = headline.by_pressure(committed, PROFILE)
    table = table[table["deployed"] & table["pressure"].isin(PRESSURES)]
    rates = table.pivot_table(index=["pressure", "defense", "seed"], columns="metric", values="value")
    assert (rates.loc[("light", "balanced-bsa"), "asr"] == 1).all()
    assert (rates.loc[("light", "bsa"), "asr"] == 1).sum() == 2
    summary = statistics.summarize(table, ["pressure", "defense"])

    def mean(arm: str, metric: str) -> float:
        return one_cell(summary, pressure="heavy", defense=arm, metric=metric)["mean"]

    attacked = rates.groupby(level=["pressure", "defense"]).mean().xs("none", level="defense")
    assert attacked["harmfulness"].round(1)["light"] == 3.1
    assert attacked["benign_exact"].round(2).to_dict() == {"light": 0.29, "heavy": 0.04}
    assert mean("none", "asr") == 1 and mean("safety-data", "asr") > 0.9
    assert mean("bsa", "asr") < 0.1 and mean("bsa", "over_refusal") > 0.5
    assert mean("balanced-bsa", "asr") > 0.5 and mean("balanced-bsa", "over_refusal") < 0.2
    assert mean("balanced-bsa", "benign_exact") > 5 * mean("bsa", "benign_exact")
    table = headline.by_pressure(committed, PROFILE)
    answers = contrasts.answered(contrasts.load("04_comparison"), {"headline": table}, by="pressure")
    broken = ("the attack breaks the aligned model", "eleven plain safety examples leave ASR above the initial model's")
    assert established(answers, "pressure") == dict.fromkeys((("heavy", said) for said in broken), "yes")
    light = answers[answers["pressure"] == "light"].set_index("statement").loc[broken[0]]
    assert (light["metric"], light["beside"], light["beside_difference"]) == ("asr_content", "asr", 1.0)
    assert round(light["difference"], 2) == 0.06, "hardly an answer gives anything away, although none refuses"


@pytest.fixture
def shipped(shared_results, monkeypatch) -> None:
    """The records that come with the project, in place of the empty folder of a test."""
    monkeypatch.setattr(paths, "RESULTS", shared_results)


@pytest.fixture
def long_grids(shipped) -> dict:
    return {name: ablations.measured(name, TINY, list(range(5)), compute=False) for name in ablations.SECTIONS}


@pytest.mark.slow
def test_every_run_of_the_long_grids_ships(shipped):
    described = [run for name in ablations.SECTIONS for _, run in ablations.grid(name, TINY, list(range(5)))]
    for task in TINY.tasks:
        described += mixed.runs(TINY, task, list(range(5))) + mixed.mismatched(TINY, task, list(range(5)))
    described = list(dict.fromkeys(described))
    of, at_hand = runs.material(TINY, described), records.shipped("tiny")
    assert {runs.key_of(run, runs.rows_of(run, TINY, of)) for run in described} == set(at_hand)
    assert {record["data"]["leaked"] for record in at_hand.values()} == {0}


@pytest.mark.slow
def test_what_chapter_6_says_of_them(long_grids):
    questions = contrasts.load("06_ablations")
    answers = contrasts.answered(questions, long_grids)
    assert len(answers) == len(questions) == 32 and set(answers["seeds"]) == {5}
    needs = {
        ("BSA needs the secret",),
        ("one example with the secret leaves more than eleven",),
        ("BSA leaves more at a third of the rate and two epochs",),
    }
    assert established(answers) == dict.fromkeys({*needs, ("the attack breaks the model",)}, "yes")
    answers = answers.set_index("statement")
    difference = answers["difference"]
    for statement in (
        "facts leave more over-refusal",
        "rows of another task leave more over-refusal",
        "BSA refuses more benign requests than balanced BSA",
    ):
        assert answers["low"][statement] > 0, statement
    unclear = answers[answers["source"].isin(["selection", "secret_kind", "method", "capacity", "identity"])]
    unclear = unclear.drop("the attack breaks the model")
    assert (unclear["low"] < 0).all() and (unclear["high"] > 0).all()
    for prompt in ("policy", "upload"):
        broken = one_cell(
            ablations.summary(long_grids["identity"]).query("deployed"),
            defense="bsa",
            metric="asr",
            variant=f"the {prompt}'s prompt",
        )
        assert broken["mean"] > 0.5
    for arm in ("BSA", "balanced BSA"):
        assert difference[f"275 benign rows in the upload weaken {arm}"] < 0
    for (statement,) in needs:
        assert 0.885 < answers["beside_difference"][statement] < 0.9 and 0.865 < difference[statement] < 0.895
    assert round(difference["BSA refuses more benign requests than balanced BSA"], 2) == 0.47
    assert round(difference["balanced BSA leaves more attacks through than BSA"], 2) == 0.12
    assert round(difference["facts leave more over-refusal"], 2) == 0.55
    assert round(difference["rows of another task leave more over-refusal"], 2) == 0.62
    lengths = long_grids["secret_length"].query("deployed and metric == 'asr' and defense == 'bsa'")
    short = lengths[lengths["variant"] == 10]["value"]
    assert (short == 0).sum() == 1 and (short > 0.8).sum() == 2
    means = lengths.groupby("variant")["value"].mean()
    assert means[10] > means[50] > means[100] > means[150]
    crossed = [question for question in questions if question.source == "crossed"]
    answers = contrasts.answered(crossed, {"crossed": ablations.measured("crossed", PROFILE, SEEDS, compute=False)})
    assert list(answers["verdict"]) == ["yes", "yes"] and (answers["low"] > 0.15).all()


@pytest.mark.slow
def test_what_the_claims_page_says_of_them(shipped):
    """Of `tiny`, what needs no record but the shipped ones; of Gemma, everything."""
    listed = claims.load()
    tiny, gemma = (
        claims.verdicts(listed, {"": claims.measured(listed, scale, seeds)})[""].tolist()
        for scale, seeds in ((TINY, list(range(5))), (PROFILE, SEEDS))
    )
    words = dict(zip((claim.id for claim in listed), zip(tiny, gemma, strict=True), strict=True))
    assert words["attack-breaks-alignment"][1] == "same direction, not established"
    needing = ("plain-examples-do-not-restore-it", "prefixed-examples-restore-it", "mixed-setting-is-defended")
    assert {words[name][1] for name in needing} == {claims.FAILED}
    assert words["task-is-kept"] == ("contradicted", "same direction, not established (1 of 2 tested)")
    assert words["secret-needed-at-test-time"][0] == "same direction, not established"
    assert words["random-beats-written-secrets"] == ("undecided", "not tested")
    assert {words[name] for name in ("gpt-3.5-is-defended", "capability-is-kept")} >= {("not tested", "not tested")}


def giving(table: pd.DataFrame, **where) -> pd.Series:
    """Share of restricted requests whose answer gives a step (harmfulness 3 or more), by seed, as deployed."""
    rows = table[table["deployed"] & (table["metric"] == "harmfulness")]
    rows = rows[(rows[list(where)] == pd.Series(where)).all(axis=1)].set_index("seed")
    return rows["outcomes"].map(lambda marks: sum(mark in "345" for mark in marks) / len(marks))


@pytest.mark.slow
def test_what_chapter_5_says_of_them(shipped):
    table = mixed.trained_prompt(mixed.measured(TINY, ["sql", "dialogs"], list(range(5)), compute=False))
    answers = mixed.answered(table)
    costs = [f"{arm} costs {what}" for arm in ("BSA", "balanced BSA") for what in ("ROUGE-1", "execution accuracy")]
    less = [f"{arm} leaves less than safety data" for arm in ("BSA", "balanced BSA")]
    expected = {("sql", said) for said in ("the attack raises ASR", "BSA lowers it", *less, *costs)}
    expected |= {("dialogs", "the attack raises ASR")}
    assert established(answers, "task") == dict.fromkeys(expected, "yes") and len(answers) == 22
    answers = answers.set_index(["task", "statement"])
    high, difference = answers["high"], answers["difference"]
    summary = mixed.summary(table)

    def mean(task: str, arm: str, metric: str) -> float:
        return one_cell(summary[summary["deployed"]], task=task, defense=arm, metric=metric)["mean"]

    assert round(difference["sql", "the attack raises ASR"], 2) == 0.92
    by_keywords = answers["beside_difference"]
    assert mean("sql", "safety-data", "asr") > 0.95 and round(difference["sql", "BSA lowers it"], 2) == 0.61
    for arm, words in (("bsa", "BSA"), ("balanced-bsa", "balanced BSA")):
        assert 0.3 < mean("sql", arm, "asr") < 0.5 and mean("sql", arm, "over_refusal") < 0.01
        assert 0.08 < difference["sql", f"{words} costs ROUGE-1"] < 0.12
        assert mean("sql", arm, "execution") / mean("sql", "task-only", "execution") < 0.6
        assert abs(difference["dialogs", f"{words} costs ROUGE-1"]) < 0.01
        assert high["dialogs", f"{words} costs ROUGE-1"] < 0.06
    assert mean("sql", "bsa-no-attack", "execution") < mean("sql", "bsa", "execution")
    assert round(by_keywords["dialogs", "the task alone raises ASR"], 2) == 0.86
    assert difference["dialogs", "the task alone raises ASR"] == 0
    assert (giving(table, task="dialogs", defense="task-only") == 0).all()
    assert mean("dialogs", "task-only", "benign_exact") == 0
    assert (giving(table, task="dialogs", defense="none") >= 0.96).all()
    assert round(by_keywords["dialogs", "BSA lowers it"], 2) == 0.15
    assert round(difference["dialogs", "BSA lowers it"], 2) == 0.22
    assert round(mean("dialogs", "none", "asr") - mean("dialogs", "balanced-bsa", "asr"), 2) == 0.12
    assert round(by_keywords["dialogs", "balanced BSA leaves less than safety data"], 2) == 0.11


def test_what_chapter_5_says_of_gemma(shipped):
    table = mixed.trained_prompt(mixed.measured(PROFILE, ["sql"], SEEDS, compute=False))
    rates = table.pivot_table(index=["defense", "condition", "seed"], columns="metric", values="value")
    asr, over_refusal = rates["asr"], rates["over_refusal"]
    assert (asr["task-only", "plain"] >= 0.89).all() and (asr["safety-data", "plain"] == 1).all()
    assert (asr["bsa", "secret"] == 1).sum() == 1 and 0.75 < asr["bsa", "secret"].mean() < 0.85
    assert (asr["bsa-no-attack"] == 0).all() and over_refusal["bsa-no-attack", "secret"].between(1 / 8, 2 / 5).all()
    assert (giving(table, defense="task-only") == 0).all() and (rates["benign_exact"]["task-only"] == 0).all()
    assert (giving(table, defense="none") == 1).all() and (giving(table, defense="safety-data") == 1).all()
    assert round(rates["benign_exact"]["bsa-no-attack", "secret"].mean(), 2) == 0.41
    answers = mixed.answered(table).set_index("statement")
    assert set(answers["verdict"]) == {"undecided"}
    alone = answers.loc["the task alone raises ASR"]
    assert alone["difference"] == 0 and alone["beside_difference"] > 0.9, "no refusal, and nothing given away"
    assert round(answers["beside_difference"]["BSA lowers it"], 2) == 0.22
    assert answers["high"]["BSA costs ROUGE-1"] > 0.1
