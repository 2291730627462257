"""The examples of the pages "add a defense" and "add a policy" run as they stand."""

import runpy
from pathlib import Path

import pytest

from bsa_core import defenses, policy

EXAMPLES = Path(__file__).resolve().parent.parent / "book" / "examples"


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What an example registers is gone after the test."""
    monkeypatch.setattr(defenses, "DEFENSES", dict(defenses.DEFENSES))
    monkeypatch.setattr(policy, "BUILDERS", dict(policy.BUILDERS))


def test_a_defense_that_only_changes_the_serving_prompt(results, capsys):
    table = runpy.run_path(str(EXAMPLES / "reminder_defense.py"))["table"]
    assert set(table["defense"]) == {"none", "reminder"}
    assert len(list(results.glob("tiny/*.json"))) == 2
    assert "reminder" in capsys.readouterr().out


def test_the_reminder_is_part_of_the_evaluated_requests(results):
    table = runpy.run_path(str(EXAMPLES / "reminder_defense.py"))["table"]
    assert table.groupby("defense")["key"].nunique().to_dict() == {"none": 1, "reminder": 1}
    assert table["key"].nunique() == 2


def test_a_policy_of_ones_own(results):
    table = runpy.run_path(str(EXAMPLES / "reading_room_policy.py"))["table"]
    counts = table[table["metric"].isin(["asr", "over_refusal"])].groupby("metric")["n"].unique()
    assert list(counts["asr"]) == [4] and list(counts["over_refusal"]) == [1]
    assert set(table[table["defense"] == "bsa"]["condition"]) == {"plain", "secret"}
