"""Committed records: found under their keys by today's code, and borne out by them what the book says."""

from functools import cache

import pytest

from bsa_core import experiment, paths, profiles, records
from bsa_core.experiment import runs
from bsa_study import campaign, contrasts
from bsa_study.report import numbers, sentences

SAID = contrasts.read(numbers.FILE)
SHIP = SAID["scales"]  # scale -> number of its seeds
NUMBERED = [(name, place) for name in SAID if name != "scales" for place in range(len(SAID[name]["sentences"]))]


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch) -> None:
    """As they were computed, wherever the tests run."""
    monkeypatch.setattr(runs, "device", lambda compute: "cpu")


@pytest.fixture
def shipped(shared_results, monkeypatch) -> None:
    """The records that come with the project, in place of the empty folder of a test."""
    monkeypatch.setattr(paths, "RESULTS", shared_results)


@pytest.mark.slow
@pytest.mark.parametrize("scale", SHIP)
def test_every_record_that_ships_is_found_by_a_run_of_today_s_grids(shipped, scale):
    for profile, described in campaign.runs(profiles.load(scale), list(range(20)), list(range(10))):
        at_hand = records.shipped(profile.name)
        found = {record["key"] for record in experiment.found(described, profile) if record} if at_hand else set()
        assert set(at_hand) <= found, profile.name  # what other tests have computed is found as well
        assert {record["data"]["leaked"] for record in at_hand.values()} <= {0}


@cache
def scales() -> list[numbers.Scale]:
    """All that ship: looked up once, whatever is asked of them."""
    return numbers.scales("tiny", list(range(SHIP["tiny"])))


@pytest.mark.slow
@pytest.mark.parametrize(("chapter", "place"), NUMBERED)
def test_the_records_bear_out_what_the_book_says(shipped, chapter, place):
    """Every sentence, at every scale that measured its numbers; at least at one."""
    sentence, told = sentences.load(chapter)[place], []
    for scale in filter(sentence.about, scales()):
        try:
            told.append(sentence.told(scale))
        except sentences.NotMeasured:
            continue
    if not told:
        pytest.skip("no scale ships records of its numbers with three seeds")
    print(*told, sep="\n")  # `-s` shows them
