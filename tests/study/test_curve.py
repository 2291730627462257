"""Chapter 1's curve: examples and updates told apart."""

import json
from math import ceil
from types import SimpleNamespace

import pytest

from bsa_core import paths, profiles
from bsa_study.grids import curve, headline

TINY = profiles.load("tiny")
CHAT = profiles.load("llama2-7b-chat")
SIZES = [0, 1, 2, 5, 10, 20, 50, 100]


def updates(run) -> int:
    return run.training.epochs * ceil(run.n_attack / run.training.batch_size)


@pytest.mark.parametrize("profile", [TINY, CHAT], ids=lambda profile: profile.name)
def test_every_number_of_examples_gets_the_same_updates(profile):
    trained = [run for run in curve.runs(profile, curve.UPDATES, SIZES, [0]) if run.training]
    epochs = profiles.override(profile.training, profile.pressured(profile.paper)).epochs
    assert {updates(run) for run in trained} == {10 * epochs}
    rates = {run.n_attack: run.training.decay_per_epoch**run.training.epochs for run in trained}
    assert rates == pytest.approx(dict.fromkeys(SIZES[1:], 0.85**epochs), rel=1e-3), (
        "the last update's rate is the same"
    )
    few = [updates(run) for run in curve.runs(profile, curve.EPOCHS, [1, 5, 10], [0])]
    assert few == [epochs] * 3, "with equal epochs, these are the same number of updates, and few"


def test_the_ends_of_both_curves_are_runs_of_the_main_table():
    ends = [set(curve.runs(TINY, schedule, [0, 100], [0, 1])) for schedule in curve.SCHEDULES]
    assert ends[0] == ends[1] <= set(headline.headline(TINY, [0, 1], ["light"]))


def test_a_table_tells_the_schedules_apart(monkeypatch):
    asked = []

    def execute(runs, profile):
        asked.extend(runs)
        return [f"{run.n_attack} {run.seed}" for run in runs]

    monkeypatch.setattr(curve.experiment, "gather", lambda runs, profile, compute: execute(runs, profile))
    found = curve.gathered(TINY, [0, 1, 100], [0, 1], True)
    assert list(found) == [*curve.SCHEDULES]
    assert all(part == ["0 0", "1 0", "100 0", "0 1", "1 1", "100 1"] for part in found.values())
    assert len(set(asked)) == 8, "six of one schedule, and one example with each seed of the other"


def test_a_policy_with_ten_attack_examples_has_a_curve_up_to_ten(monkeypatch):
    monkeypatch.setattr(curve, "upload_size", lambda profile: 10)
    monkeypatch.setattr(curve.experiment, "gather", lambda runs, *_: [run.n_attack or "0" for run in runs])
    assert curve.gathered(TINY, SIZES, [0], True)[curve.EPOCHS] == ["0", 1, 2, 5, 10]


def test_the_answers_of_chapter_1_are_those_at_the_ends_of_the_curve_that_is_there():
    """With ten attack examples, after ten of them and not after the hundred that were asked for."""
    chapter = json.loads((paths.ROOT / "notebooks" / "01_fjattack.ipynb").read_text(encoding="utf-8"))
    (cell,) = [text for cell in chapter["cells"] if "of_size = " in (text := "".join(cell["source"]))]
    shown, found = {}, {curve.EPOCHS: [{"run": {"n_attack": n, "seed": 0}} for n in (0, 1, 10)]}
    tables = SimpleNamespace(samples=lambda given, kind: shown.update(given))
    exec(cell, {"found": found, "curve": curve, "seeds": [0], "sizes": [0, 1, 100], "tables": tables})
    assert [record["run"]["n_attack"] for record, _ in shown.values()] == [0, 10]
