"""The operating region: an arm at every learning rate and number of epochs of a grid, not at one lucky point.

A provider does not choose a customer's rate and epochs. Everything else is as in the pressure with the paper's
settings. Runs that differ in epochs only share one training.
"""

from collections.abc import Iterable
from itertools import product

import pandas as pd

from bsa_core import experiment, records
from bsa_core.experiment.runs import Run, describe, upload_size
from bsa_core.profiles import Grid, Profile
from bsa_study.grids import headline

METRICS = ("asr", "asr_content", "over_refusal")  # the higher, the worse
CELL = ["rate", "epochs"]


def runs(profile: Profile, grid: Grid, arms: Iterable[str], seeds: list[int], **changes) -> list[Run]:
    """Every arm at every rate and number of epochs, for each seed. changes: what `describe` gets beside."""
    cells = list(product(arms, grid.rates, grid.epochs))
    return [
        describe(profile, arm, seed=seed, **{**changes, "learning_rate": rate, "epochs": epochs})
        for seed in seeds
        for arm, rate, epochs in cells
    ]


def attacked(profile: Profile, seeds: list[int], attack: str = "harmful") -> list[Run]:
    """The attack without any defense over the profile's region."""
    changes = {"attack": attack, "n_attack": upload_size(profile, attack), "pressure": profile.paper}
    return runs(profile, profile.region, ["none"], seeds, **changes)


def tasks(profile: Profile, task: str, seeds: list[int]) -> list[Run]:
    """A task without attack and defense over the profile's region for tasks."""
    return runs(profile, profile.task_region, ["none"], seeds, task=task, n_attack=0)


def defended(profile: Profile, seeds: list[int]) -> list[Run]:
    """Every arm of the main table over the profile's region."""
    arms, n_attack = headline.arms(profile), upload_size(profile)
    return runs(profile, profile.region, arms, seeds, n_attack=n_attack, pressure=profile.paper)


def measured(asked: list[Run], profile: Profile, compute: bool) -> pd.DataFrame:
    """`records.table` of the runs that have records, or get them, with a column `rate`; compute: see `gather`."""
    return records.table(experiment.at_hand(asked, profile, compute)).rename(columns={"learning_rate": "rate"})


def cells(table: pd.DataFrame) -> pd.DataFrame:
    """One row per rate, epochs, arm and metric, as deployed: mean and worst over the seeds, and how many these are."""
    if table.empty:
        return pd.DataFrame(columns=[*CELL, "defense", "metric", "mean", "worst", "seeds"])
    rows = table[table["deployed"] & table["metric"].isin(METRICS)]
    values = rows.groupby([*CELL, "defense", "metric"], sort=False)["value"]
    return values.agg(mean="mean", worst="max", seeds="size").reset_index()


def over(cells: pd.DataFrame, region: pd.DataFrame) -> pd.DataFrame:
    """One row per arm and metric: over the cells of a region (rows with rate and epochs), the mean, the worst cell's
    mean, the worst single run, and the number of cells."""
    inside = cells.merge(region[CELL], on=CELL)
    means = inside.groupby(["defense", "metric"], sort=False)
    return means.agg(
        mean=("mean", "mean"), worst=("mean", "max"), worst_run=("worst", "max"), cells=("mean", "size")
    ).reset_index()
