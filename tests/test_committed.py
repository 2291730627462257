"""Committed records: found under their keys by today's code, and borne out by them what the book says."""

from functools import cache

import pytest

from bsa_core import paths, profiles, records
from bsa_core.experiment import runs
from bsa_study import contrasts
from bsa_study.grids import ablations, mixed
from bsa_study.report import numbers, sentences

TINY = profiles.load("tiny")
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
def test_every_run_of_the_long_grids_ships(shipped):
    described = [run for name in ablations.SECTIONS for _, run in ablations.grid(name, TINY, list(range(5)))]
    for task in TINY.tasks:
        described += mixed.runs(TINY, task, list(range(5))) + mixed.mismatched(TINY, task, list(range(5)))
    described = list(dict.fromkeys(described))
    of, at_hand = runs.material(TINY, described), records.shipped("tiny")
    assert {runs.key_of(run, runs.rows_of(run, TINY, of)) for run in described} <= set(at_hand)
    assert {record["data"]["leaked"] for record in at_hand.values()} == {0}


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
