"""Which runs ship with the project, and the command that writes their records and answers."""

import runpy
import sys

import pytest
from made import right
from test_records import ANSWERED, ANSWERS, METRICS, OUTCOMES, RUN

from bsa_core import experiment, paths, profiles, records
from bsa_study.grids import shipped

TINY = profiles.load("tiny")


def test_seeds_of_the_main_arms_and_of_the_rest():
    runs = shipped.runs(TINY, [0, 1, 2], [0, 1])
    assert len(set(runs)) == len(runs)
    of_main = [run for run in runs if run.seed == 2]
    assert {run.defense for run in of_main} == {"none", "safety-data", "bsa", "balanced-bsa"}
    assert not any(run.task or run.n_benign for run in of_main)
    tasks = {run.task.name for run in runs if run.task and run.seed == 1}
    assert tasks == set(TINY.tasks) and any(run.n_attack == 20 for run in runs)


@pytest.fixture
def ship(monkeypatch):
    """tools/ship.py with arguments, which takes all records of a folder; returns the runs that it looked up."""
    asked = []

    def found(runs, profile):
        asked.extend(runs)
        return [record for record in records.load(profile.name) if record["run"]["profile"] == profile.name] + [None]

    monkeypatch.setattr(experiment, "found", found)

    def command(*given: str) -> list:
        monkeypatch.setattr(sys, "argv", ["ship.py", *given])
        runpy.run_path(str(paths.ROOT / "tools" / "ship.py"), run_name="__main__")
        return asked

    return command


def test_the_command_ships_records_and_answers(results, ship, capsys):
    records.write(ANSWERED, ANSWERS, harmless=True)
    assert {run.seed for run in ship("tiny", "--main", "0..2", "5", "--rest", "0")} == {0, 1, 2, 5}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{results}/tiny/shipped.jsonl.xz: 1 of ")
    assert lines[1].startswith(f"{results}/tiny/answers.jsonl.xz: answers of 1, ") and len(lines) == 2


def test_controls_ship_as_well(results, ship):
    """Of validation requests, of the model before alignment; not what lies in other folders."""
    record = right(RUN | {"profile": "tiny-validation"}, OUTCOMES, metrics=METRICS)
    records.write(record)
    records.write(right(RUN | {"profile": "tiny-other"}, OUTCOMES, metrics=METRICS))
    asked = ship("tiny", "--main", "0", "--rest", "0")
    assert {"tiny", "tiny-validation", "tiny-helpful", "tiny-validation-helpful"} <= {run.profile for run in asked}
    assert records.shipped("tiny-validation") == {record["key"]: record}
    assert sorted(path.parent.name for path in results.glob("*/shipped.jsonl.xz")) == ["tiny-validation"]


@pytest.mark.parametrize("seeds", ["a", "3..", "2..0", "-1"])
def test_seeds_that_are_none(ship, seeds, capsys):
    with pytest.raises(SystemExit):
        ship("tiny", f"--main={seeds}")
    assert "expected a number or a range such as 0..4" in capsys.readouterr().err
