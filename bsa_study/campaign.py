"""Every run of a scale whose record ships: its grids, its controls, and those that explain the largest disagreement.

Each belongs to a profile of its own, by which it is computed and in whose folder its record lies: the scale itself, the
same on validation requests, the model before alignment, and more deeply aligned ones.
"""

from bsa_core.experiment.runs import Run, describe
from bsa_core.profiles import Profile
from bsa_study import explain, gates
from bsa_study.grids import region, shipped
from bsa_study.testbed.deeper import DEPTHS, deeper
from bsa_study.testbed.helpful import helpful_only


def runs(profile: Profile, main: list[int], rest: list[int]) -> list[tuple[Profile, list[Run]]]:
    """Profiles, each with its runs, once each; the most important first.

    main: seeds of the main table's arms; rest: of everything else, the controls included.
    """
    validated = gates.validation(profile)  # the profile itself, where the policy holds no such requests
    before = [of for of in map(helpful_only, (profile, validated)) if of]
    asked = controls(validated, rest)
    asked += [run for of in before for run in (describe(of, n_attack=0), describe(of, n_attack=0, secret_length=0))]
    asked += shipped.runs(profile, main, rest) + [run for *_, run in explain.grid(profile, rest)]
    own = {of.name: (of, {}) for of in (validated, *before, profile, *(deeper(profile, n) for n in DEPTHS))}
    for run in asked:
        own[run.profile][1][run] = None
    return [(of, [*runs]) for of, runs in own.values() if runs]


def controls(asked: Profile, seeds: list[int]) -> list[Run]:
    """The runs on validation requests, by which gates and settings are decided.

    Only of three seeds for tasks, which take the longest.
    """
    initial = [describe(asked, n_attack=0, seed=seed) for seed in seeds]
    initial += [describe(asked, task=task, n_attack=0, n_task=0, secret_length=0) for task in asked.tasks]
    attacked = [describe(asked, seed=seed, pressure=asked.paper) for seed in seeds] + explain.tried(asked, seeds)
    over = region.attacked(asked, seeds) + region.attacked(asked, seeds, "identity-shift")
    return initial + attacked + over + [run for task in asked.tasks for run in region.tasks(asked, task, seeds[:3])]
