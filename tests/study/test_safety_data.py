"""The baseline by the number of its examples: its runs, and which of them a chapter computes."""

from bsa_core import profiles
from bsa_study.grids import safety_data

TINY = profiles.load("tiny")


def test_the_controls_are_the_initial_model_and_the_attack_alone():
    initial, attacked = safety_data.controls(TINY, [3])
    assert (initial.n_attack, initial.training, initial.seed) == (0, None, 3)
    assert (attacked.n_attack, attacked.defense, attacked.training) == (100, "none", TINY.training)


def test_more_than_a_hundred_examples_have_a_switch_of_their_own(monkeypatch):
    asked = {}

    def at_hand(runs, profile, compute):
        asked[str(compute)] = [run.n_defense for run in runs]
        return asked[str(compute)]

    monkeypatch.setattr(safety_data.experiment, "at_hand", at_hand)
    found = safety_data.gathered(TINY, [11, 100, 101, 300], [0, 1], [0], False)
    assert asked == {"[0]": [0, 0, 0, 0, 11, 100, 11, 100], "False": [101, 300, 101, 300]}
    assert found == asked["[0]"] + asked["False"]
