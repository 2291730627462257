"""How many attack examples it takes, told apart from how many updates: two schedules for every number of examples.

    equal epochs    the settings of the profile's paper pressure. 1, 5 and 10 examples are one update each epoch
    equal updates   as many epochs as give the updates of 100 examples, with the decay of the learning rate per update

Fine-tuning on ten examples for ten times the epochs is what an uploader who has only ten would ask for.
"""

from collections.abc import Collection
from math import ceil

import pandas as pd

from bsa_core import experiment, records
from bsa_core.experiment.runs import Run, describe, upload_size
from bsa_core.profiles import Profile

FULL = 100  # examples whose updates the others get
EPOCHS, UPDATES = SCHEDULES = ("equal epochs", "equal updates")


def as_many_updates(profile: Profile, n: int, added: int = 0) -> dict:
    """The training settings that give n examples (at least 1) the updates of FULL; none where they have them anyway.

    added: rows of a defense beside them, in both.
    """
    training = profile.trained(profile.paper)
    factor = ceil((FULL + added) / training.batch_size) / ceil((n + added) / training.batch_size)
    epochs = round(training.epochs * factor)
    if epochs == training.epochs:
        return {}
    return {"epochs": epochs, "decay_per_epoch": round(training.decay_per_epoch ** (training.epochs / epochs), 6)}


def runs(profile: Profile, schedule: str, sizes: list[int], seeds: list[int]) -> list[Run]:
    """One schedule's runs, without any defense. Those of 0 and of FULL examples are the same in both."""
    more = {n: as_many_updates(profile, n) if n and schedule == UPDATES else {} for n in sizes}
    return [
        describe(profile, n_attack=n, seed=seed, pressure=profile.paper, **more[n]) for seed in seeds for n in sizes
    ]


def gathered(
    profile: Profile, sizes: list[int], seeds: list[int], compute: bool | Collection[int]
) -> dict[str, list[dict]]:
    """Schedule -> the records of its runs that there are, of no more examples than there are; compute: see `gather`."""
    most = upload_size(profile)
    sizes = list(dict.fromkeys(min(n, most) for n in sizes)) if most < FULL else sizes
    grid = {schedule: runs(profile, schedule, sizes, seeds) for schedule in SCHEDULES}
    found = iter(experiment.gather([run for part in grid.values() for run in part], profile, compute))
    return {schedule: [record for _ in part if (record := next(found))] for schedule, part in grid.items()}


def measured(found: dict[str, list[dict]]) -> pd.DataFrame:
    """`records.table` of what `gathered` gives, with the schedule, a line of the figure, as `defense`."""
    parts = [records.table(part).assign(defense=schedule) for schedule, part in found.items()]
    return pd.concat(parts, ignore_index=True)
