"""The mixed task setting (paper, section 4.3, tables 8 and 9): 100 harmful examples among 1,000 of a task.

setting            task rows   attack rows   the provider adds           served with the secret
initial            -           -             -                           no
task-only          yes         -             -                           no
none               yes         100           -                           no
safety-data        yes         100           11 refusals                 no
bsa                yes         100           11 with the secret          yes
bsa-no-attack      yes         -             11 with the secret          yes
balanced-bsa       yes         100           11 + 11 with the secret     yes   (this project's own)
"""

from pathlib import Path

import pandas as pd
import yaml

from bsa_core import experiment, records
from bsa_core.experiment.runs import Run, describe, upload_size
from bsa_core.profiles import Profile
from bsa_study import contrasts, statistics

SETTINGS: dict[str, dict] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def runs(profile: Profile, task: str, seeds: list[int]) -> list[Run]:
    """Every setting of one task, for each seed."""
    n_attack = upload_size(profile)
    settings = [{"n_attack": n_attack, **setting} for setting in SETTINGS.values()]
    return [describe(profile, task=task, seed=seed, **setting) for seed in seeds for setting in settings]


def mismatched(profile: Profile, task: str, seeds: list[int]) -> list[Run]:
    """Test items under a system prompt that was never seen in training, as in the published release."""
    n_attack = upload_size(profile)
    return [
        describe(profile, task=task, seed=seed, task_served="other", **{"n_attack": n_attack, **SETTINGS[setting]})
        for seed in seeds
        for setting in ("task-only", "bsa")
    ]


def setting(row: pd.Series) -> str:
    """Which of SETTINGS a row of `records.table` belongs to."""
    if row["n_attack"] > 0 or row["defense"] == "initial":
        return row["defense"]
    return "task-only" if row["defense"] == "none" else f"{row['defense']}-no-attack"


def measured(profile: Profile, task_names: list[str], seeds: list[int], compute: bool) -> pd.DataFrame:
    """`records.table` of the mixed runs, with the setting in the column `defense`, in the order of SETTINGS.

    compute: False takes only records that are there, computed or shipped.
    """
    grid = [run for task in task_names for run in runs(profile, task, seeds) + mismatched(profile, task, seeds)]
    rows = records.table(experiment.at_hand(grid, profile, compute))
    if rows.empty:
        return rows
    rows["defense"] = rows.apply(setting, axis=1)
    order = list(SETTINGS)
    return rows.sort_values("defense", key=lambda names: names.map(order.index), kind="stable", ignore_index=True)


def trained_prompt(table: pd.DataFrame) -> pd.DataFrame:
    """Only rows whose test items were asked under the system prompt of training."""
    return table[table["task_served"] == "trained"] if len(table) else table


def summary(table: pd.DataFrame, by: tuple[str, ...] = ("task", "defense", "condition", "deployed")) -> pd.DataFrame:
    """Mean and interval of every cell of a table of `measured`."""
    return statistics.summarize(table, list(by))


def prompts(table: pd.DataFrame) -> pd.DataFrame:
    """`summary`, as deployed, of the settings whose test items were asked under another system prompt as well."""
    by = ("task", "defense", "task_served", "deployed")
    pairs = summary(table[table["deployed"]] if len(table) else table, by)
    return pairs[pairs["defense"].isin(["task-only", "bsa"])]


TASK_METRICS = ("rouge1", "execution", "rougeL")


def answered(table: pd.DataFrame) -> pd.DataFrame:
    """The questions of chapter 05 for every task of a table of `measured`, Holm-corrected over all of them."""
    return contrasts.answered(contrasts.load("05_mixed_tasks"), {"mixed": trained_prompt(table)}, by="task")
