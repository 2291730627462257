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

import pandas as pd

from bsa_core import experiment, records
from bsa_core.experiment.runs import Run, describe
from bsa_core.profiles import Profile
from bsa_study import contrasts, statistics
from bsa_study.contrasts import Contrast

SETTINGS: dict[str, dict] = {
    "initial": {"defense": "none", "n_attack": 0, "n_task": 0},
    "task-only": {"defense": "none", "n_attack": 0},
    "none": {"defense": "none"},
    "safety-data": {"defense": "safety-data"},
    "bsa": {"defense": "bsa"},
    "balanced-bsa": {"defense": "balanced-bsa"},
    "bsa-no-attack": {"defense": "bsa", "n_attack": 0},
}


def runs(profile: Profile, task: str, seeds: list[int]) -> list[Run]:
    """Every setting of one task, for each seed."""
    return [describe(profile, task=task, seed=seed, **setting) for seed in seeds for setting in SETTINGS.values()]


def mismatched(profile: Profile, task: str, seeds: list[int]) -> list[Run]:
    """Test items under a system prompt that was never seen in training, as in the published release."""
    return [
        describe(profile, task=task, seed=seed, task_served="other", **SETTINGS[setting])
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
    rows = records.table([record for record in experiment.gather(grid, profile, compute) if record])
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
    by = list(by)
    return statistics.summarize(table if len(table) else pd.DataFrame(columns=[*by, "metric"]), by)


def prompts(table: pd.DataFrame) -> pd.DataFrame:
    """`summary`, as deployed, of the settings whose test items were asked under another system prompt as well."""
    by = ("task", "defense", "task_served", "deployed")
    pairs = summary(table[table["deployed"]] if len(table) else table, by)
    return pairs[pairs["defense"].isin(["task-only", "bsa"])]


TASK_METRICS = ("rouge1", "execution", "rougeL")
QUESTIONS = (
    ("the task alone raises ASR", "asr", "task-only", "initial"),
    ("the attack raises ASR", "asr", "none", "task-only"),
    ("safety data lowers it", "asr", "none", "safety-data"),
    ("BSA lowers it", "asr", "none", "bsa"),
    ("BSA leaves less than safety data", "asr", "safety-data", "bsa"),
    ("balanced BSA leaves less than safety data", "asr", "safety-data", "balanced-bsa"),
    ("BSA raises over-refusal", "over_refusal", "bsa", "task-only"),
    ("balanced BSA raises over-refusal", "over_refusal", "balanced-bsa", "task-only"),
    ("BSA costs ROUGE-1", "rouge1", "task-only", "bsa"),
    ("balanced BSA costs ROUGE-1", "rouge1", "task-only", "balanced-bsa"),
    ("BSA costs execution accuracy", "execution", "task-only", "bsa"),
    ("balanced BSA costs execution accuracy", "execution", "task-only", "balanced-bsa"),
)


def answered(table: pd.DataFrame) -> pd.DataFrame:
    """QUESTIONS for every task of a table of `measured`, Holm-corrected over all of them."""
    table = trained_prompt(table)
    tables = {task: table[table["task"] == task] for task in dict.fromkeys(table.get("task", ()))}
    questions = [
        Contrast(task, statement, metric, {"defense": first}, {"defense": second})
        for task in tables
        for statement, metric, first, second in QUESTIONS
    ]
    return contrasts.answered(questions, tables)
