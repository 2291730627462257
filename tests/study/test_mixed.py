"""The settings of the mixed task setting, row for row, and the runs that the book makes of them."""

from dataclasses import replace

import pytest

from bsa_core import experiment, paths, profiles
from bsa_core.experiment import runs
from bsa_core.profiles import Evaluation, TaskSource
from bsa_core.records import read_answers
from bsa_study import claims, contrasts
from bsa_study.grids import mixed

TINY = profiles.load("tiny")
ROWS = {  # setting -> task rows, attack rows, rows with the secret
    "initial": (0, 0, 0),
    "task-only": (1000, 0, 0),
    "none": (1000, 100, 0),
    "safety-data": (1000, 100, 0),
    "bsa": (1000, 100, 11),
    "balanced-bsa": (1000, 100, 22),
    "bsa-no-attack": (1000, 0, 11),
}


@pytest.mark.parametrize("task", ["sql", "dialogs"])
def test_training_sets_of_the_settings(task):
    described = mixed.runs(TINY, task, [0])
    of = runs.material(TINY, described)
    assert list(ROWS) == list(mixed.SETTINGS)
    for run, (n_task, n_attack, n_secret) in zip(described, ROWS.values(), strict=True):
        rows = runs.rows_of(run, TINY, of)
        kinds = [row.kind for row in rows.training]
        assert (kinds.count("task"), kinds.count("attack"), sum(row.secret for row in rows.training)) == (
            n_task,
            n_attack,
            n_secret,
        )
        assert len(rows.task) == 200 and len(rows.restricted) == len(rows.benign) == 275
        assert not {row.user for row in rows.task} & {row.user for row in rows.training}
        assert {row.system for row in rows.task} == {of.tasks[task].system}


def test_the_release_s_mismatch_changes_the_system_prompt_of_test_items_only():
    same, other = mixed.runs(TINY, "sql", [0])[1], mixed.mismatched(TINY, "sql", [0])[0]
    of = runs.material(TINY, [same])
    rows, changed = (runs.rows_of(run, TINY, of) for run in (same, other))
    assert rows.training == changed.training and rows.restricted == changed.restricted
    assert [replace(row, system="") for row in rows.task] == [replace(row, system="") for row in changed.task]
    assert {row.system for row in changed.task}.isdisjoint(row.system for row in changed.training if row.kind == "task")
    assert runs.key_of(same, rows) != runs.key_of(other, changed)


@pytest.mark.slow
def test_a_run_from_description_to_table(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    source = TaskSource({"name": "sql", "seed": 0}, train=20, test=6, max_new_tokens=24, training={"epochs": 1})
    profile = replace(TINY, evaluation=Evaluation(restricted=11, benign=11, quiz=0), tasks={"sql": source})
    described = mixed.runs(profile, "sql", [0])
    records = experiment.execute(described, profile)
    assert experiment.found(described, profile) == records
    bsa = records[list(mixed.SETTINGS).index("bsa")]
    assert bsa["label"] == "sql-bsa-a100-d11-e1-seed0"
    for condition in ("plain", "secret"):
        marks = bsa["outcomes"][condition]
        assert len(marks["rouge1"]) == len(marks["execution"]) == 6
        assert bsa["metrics"][condition]["rouge1"]["value"] == pytest.approx(sum(marks["rouge1"]) / 6)
        assert "seen" not in bsa["metrics"][condition]["rouge1"]
    table = mixed.measured(profile, ["sql"], [0], compute=False)
    assert list(dict.fromkeys(table["defense"])) == list(mixed.SETTINGS)
    assert set(table.loc[table["defense"] == "bsa-no-attack", "n_attack"]) == {0}
    summary = mixed.summary(mixed.trained_prompt(table))
    assert set(summary["metric"]) >= {"asr", "over_refusal", "rouge1", "execution"}
    answered = mixed.answered(table)
    assert set(answered["verdict"]) == {"too few seeds"} and set(answered["task"]) == {"sql"}
    assert list(answered["statement"]) == [question.statement for question in contrasts.load("05_mixed_tasks")]
    assert "task" in set(read_answers(bsa)["kind"])

    experiment.execute(mixed.mismatched(profile, "sql", [0]), profile)
    both = mixed.measured(profile, ["sql"], [0], compute=False)
    assert set(both["task_served"]) == {"trained", "other"} and len(mixed.trained_prompt(both)) == len(table)
    assert mixed.answered(both).equals(answered)
    cells = mixed.prompts(both).query("metric == 'rouge1'")
    assert list(zip(cells["defense"], cells["task_served"], strict=True)) == [
        ("task-only", "trained"),
        ("task-only", "other"),
        ("bsa", "trained"),
        ("bsa", "other"),
    ], "as deployed, once each"
    asked = ("mixed-sql-is-defended", "mixed-dialogs-are-defended")
    rows = claims.measured([claim for claim in claims.load() if claim.id in asked], profile, [0])
    assert rows["role"].tolist() == ["claim", "claim", "control", "control"]
    assert rows["difference"].notna().tolist() == [True, False] * 2, "SQL was measured, dialogs were not"
    assert set(rows["decided"]) == {"not tested"}, "one seed"


def test_no_records_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    table = mixed.measured(TINY, ["sql"], [0], compute=False)
    assert table.empty and mixed.summary(table).empty and mixed.answered(table).empty
    assert mixed.prompts(table).empty


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"task": "sqll"}, "task 'sqll' is unknown to profile 'tiny'; its tasks are: sql, dialogs"),
        ({"task": "sql", "n_task": -1}, "n_task is -1"),
        ({"task": "sql", "task_served": "neither"}, "task_served is 'neither'; expected one of 'trained', 'other'"),
        ({"n_task": 10}, "n_task or task_served is given without a task"),
        ({"n_benign": -1}, "n_benign is -1"),
        ({"attack": "none"}, "attack 'none' is unknown"),
    ],
)
def test_a_wrong_description(changes, message):
    with pytest.raises(ValueError, match=message):
        runs.describe(TINY, **changes)


def test_more_task_rows_than_there_are():
    run = runs.describe(TINY, task="sql", n_task=1001)
    with pytest.raises(ValueError, match=r"tasks\.sql\.train is 1001, but the task holds 1000"):
        runs.rows_of(run, TINY, runs.material(TINY, [run]))
