"""The safety-data baseline by the number of its examples (paper, section 4.1 and "number of safety examples")."""

from collections.abc import Collection

from bsa_core import experiment
from bsa_core.experiment.runs import Run, describe
from bsa_core.profiles import Profile

LARGE = 100  # examples; more take long enough to have a switch of their own


def controls(profile: Profile, seeds: list[int]) -> list[Run]:
    """The initial model, and the attack without a defense."""
    return [describe(profile, n_attack=n, seed=seed) for n in (0, None) for seed in seeds]


def runs(profile: Profile, sizes: list[int], seeds: list[int]) -> list[Run]:
    """The attack with each number of plain safety examples."""
    return [describe(profile, "safety-data", n_defense=size, seed=seed) for seed in seeds for size in sizes]


def gathered(
    profile: Profile,
    sizes: list[int],
    seeds: list[int],
    compute: bool | Collection[int],
    compute_large: bool | Collection[int],
) -> list[dict]:
    """The records of both, as many as there are; the last two say what is computed of them (`experiment.gather`)."""
    asked = runs(profile, sizes, seeds)
    small = controls(profile, seeds) + [run for run in asked if run.n_defense <= LARGE]
    large = [run for run in asked if run.n_defense > LARGE]
    return experiment.at_hand(small, profile, compute) + experiment.at_hand(large, profile, compute_large)
