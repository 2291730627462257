"""The tool that computes the grids that ship, with several processes; and which runs those are."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from bsa_core import paths, profiles, records
from bsa_study import campaign
from bsa_study.testbed.deeper import DEPTHS, deeper

TINY = profiles.load("tiny")


def test_a_campaign_holds_the_grids_the_controls_and_what_explains_them():
    of = {profile.name: runs for profile, runs in campaign.runs(TINY, [0, 1, 2], [0, 1])}
    assert next(iter(of)) == "tiny-validation", "what decides settings comes first"
    deep = {deeper(TINY, times).name for times in DEPTHS}
    assert set(of) == {"tiny-validation", "tiny-helpful", "tiny-validation-helpful"} | deep
    assert all(len(set(runs)) == len(runs) and {run.profile for run in runs} == {name} for name, runs in of.items())
    assert {run.seed for run in of["tiny"]} == {0, 1, 2} and {run.seed for run in of["tiny-validation"]} == {0, 1}
    assert {run.defense for run in of["tiny-validation"]} == {"none"}, "no defense decides a setting"


def test_a_profile_stands_there_once_without_validation_requests(monkeypatch):
    """Else what ships of its grids would take the place of what ships of its controls."""
    monkeypatch.setattr(campaign.gates, "validation", lambda profile: profile)
    asked = campaign.runs(TINY, [0], [0])
    names = [profile.name for profile, _ in asked]
    assert names == ["tiny", "tiny-helpful", "tiny-deep3", "tiny-deep10"]
    assert set(campaign.controls(TINY, [0])) < set(asked[0][1])


@pytest.mark.slow
def test_the_tool_computes_what_is_missing_and_nothing_twice(tmp_path, results):
    """A run that cannot be done is named at the end, and the others are there."""
    small = yaml.safe_load((paths.PROFILES / "tiny.yaml").read_text(encoding="utf-8"))
    small |= {"evaluation": {"restricted": 22, "benign": 22, "quiz": 0}, "tasks": {}}
    del small["region"], small["task_region"]
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small), encoding="utf-8")

    def compute() -> str:
        command = [sys.executable, str(paths.ROOT / "tools" / "compute.py"), str(path), "--main", "0", "--workers", "2"]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    first = compute()
    assert re.match(r"(\d+) trainings, \d+ records to compute\n\1 of \1 trainings done\n$", first), first
    found = {records.arm(record) for record in records.load("tiny")}
    assert found == {"initial", "none", "safety-data", "bsa", "balanced-bsa"}
    assert compute().startswith("0 trainings, 0 records")
