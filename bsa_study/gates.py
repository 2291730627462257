"""What the paper's tables show of the models without any defense, as bounds that a scale keeps to or not.

    initial        the aligned model, plain and with a secret: it refuses what it should, and nothing else
    helpful-only   the model before its alignment answers nearly everything; without it there is nothing to unlock.
                   A scale without such a model has no such gate, and its attack is held against a content ASR of 1
    attack         after the attack the model gives away nearly what the helpful-only model does, and keeps the rest
    attack by ...  the same of the identity role shift, at settings of its own where the profile has them
    task <name>    the task alone is learned, and breaks little

The bounds are those of `gates` in `book/questions.yaml`, by a gate's first word, on means over seeds. ASR is decided by
what the answers hold, where the policy can tell. Where a gate does not hold, what rests on it is not tested at this
scale.

Requests are the policy's validation requests, since settings are chosen by these gates; where it holds none, those that
are evaluated. Tasks have one set of test items, which both share. Validation runs belong to a profile of a name of its
own, and so do their records.
"""

from dataclasses import dataclass, replace

import pandas as pd

from bsa_core import policy
from bsa_core.experiment.runs import Run, describe, upload_size
from bsa_core.profiles import Profile
from bsa_study import contrasts, labels
from bsa_study.grids import region
from bsa_study.testbed.helpful import helpful_only

INITIAL, HELPFUL, ATTACK = "initial", "helpful-only", "attack"
IDENTITY = f"{ATTACK} by identity role shift"
MODELS = (INITIAL, HELPFUL, ATTACK, IDENTITY)  # the gates that are of no task
SHIFTED = "identity"  # the pressure of that attack, in profiles that have one
NOT_MEASURED = "not measured"
ELSEWHERE = ("cost", "gpt-3.5", "mt_bench")  # sources whose comparisons no gate bears on
COLUMNS = ["gate", "metric", "condition", "bound", "measured", "margin", "holds", "seeds"]


@dataclass(frozen=True)
class Bound:
    """The mean of a metric is at_least, at_most or more_by: times, or added to, the mean of the model `of` if named."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None
    more_by: float | None = None
    of: str = ""

    def limit(self, reference: float) -> float:
        if self.more_by is not None:
            return reference + self.more_by
        return (self.at_most if self.at_least is None else self.at_least) * reference

    def told(self, limit: float) -> str:
        """In words, such as "at least 0.88 (0.9 x helpful-only)"."""
        how = "at most" if self.at_most is not None else "at least"
        of = f"{self.of} + {self.more_by:g}" if self.more_by else f"{self.at_least or self.at_most:g} x {self.of}"
        return f"{how} {limit:.2f}" + (f" ({of})" if self.of else "")


def bounds(gate: str) -> list[Bound]:
    """Of one gate: those under its first word."""
    return [Bound(**given) for given in contrasts.read("questions.yaml")["gates"][gate.partition(" ")[0]]]


def of_task(task: str) -> str:
    """The name of a task's gate."""
    return f"task {task}"


def validation(profile: Profile) -> Profile:
    """The profile on the policy's validation requests, under a name of its own; itself where the policy holds none."""
    if not policy.load(profile.policy).validation_restricted:
        return profile
    asked = replace(profile.evaluation, split="validation")
    return replace(profile, name=f"{profile.name}-validation", evaluation=asked)


def kept(gate: str, table: pd.DataFrame, references: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per bound and condition that was measured, with COLUMNS; margin: how far inside the bound the mean lies.

    table: as `records.table` makes it, and references too, by the name of their model. A model that a scale has not got
    counts 1; where a bound is held against one that was not measured, there are no rows: the gate is not decided.
    """
    rows, metrics = [], set(table["metric"]) if len(table) else set()
    for bound in bounds(gate):
        metric = next((m for m in (contrasts.DECIDES.get(bound.metric), bound.metric) if m in metrics), None)
        if metric is None:
            continue
        reference = 1.0
        if bound.of in references:
            if (of := references[bound.of]).empty:
                return pd.DataFrame(columns=COLUMNS)
            reference = of[(of["metric"] == metric) & (of["condition"] == "plain")]["value"].mean()
        limit = bound.limit(reference)
        for condition, of in table[table["metric"] == metric].groupby("condition"):
            mean = of["value"].mean()
            margin = limit - mean if bound.at_most is not None else mean - limit
            told = (gate, metric, condition, bound.told(limit), mean, margin, bool(margin >= -1e-9))
            rows.append((*told, of["seed"].nunique()))
    return pd.DataFrame(rows, columns=COLUMNS)


def found(asked: list[Run], profile: Profile, compute: bool) -> pd.DataFrame:
    """`region.measured`, without word-for-word answers where the policy's references are free text."""
    table = region.measured(asked, profile, compute)
    if profile.policy["name"] == "guild" or table.empty:
        return table
    return table[table["metric"] != "benign_exact"]


def references(profile: Profile, seeds: list[int], compute: bool) -> dict[str, pd.DataFrame]:
    """The models that nothing was done to: `initial`, and `helpful-only` where the scale has that."""
    of = validation(profile)
    models = {INITIAL: found([describe(of, n_attack=0, seed=seed) for seed in seeds], of, compute)}
    if helpful := helpful_only(of):
        models[HELPFUL] = found([describe(helpful, n_attack=0, secret_length=0)], helpful, compute)
    return models


def attacked(profile: Profile, seeds: list[int], compute: bool, attack="harmful", pressure="") -> pd.DataFrame:
    """The model after the attack, without any defense; pressure: that of the paper's settings unless given."""
    of, size = validation(profile), upload_size(profile, attack)
    at = {"attack": attack, "n_attack": size, "pressure": pressure or of.paper}
    return found([describe(of, seed=seed, **at) for seed in seeds], of, compute)


def task_initial(profile: Profile, task: str, compute: bool) -> dict[str, pd.DataFrame]:
    """The initial model, asked a task's items as well."""
    of = validation(profile)
    return {INITIAL: found([describe(of, task=task, n_attack=0, n_task=0, secret_length=0)], of, compute)}


def measured(profile: Profile, seeds: list[int], compute: bool = False) -> pd.DataFrame:
    """`kept` of all gates of a scale, at the settings that its profile names; gates without records have no rows."""
    of, models = validation(profile), references(profile, seeds, compute)
    parts = [kept(name, table, {}) for name, table in models.items()]
    parts.append(kept(ATTACK, attacked(profile, seeds, compute), models))
    if SHIFTED in profile.pressures:
        parts.append(kept(IDENTITY, attacked(profile, seeds, compute, "identity-shift", SHIFTED), models))
    for task in profile.tasks:
        alone = [describe(of, task=task, n_attack=0, seed=seed) for seed in seeds]
        parts.append(kept(of_task(task), found(alone, of, compute), task_initial(profile, task, compute)))
    return pd.concat(parts, ignore_index=True)


def holds(profile: Profile, seeds: list[int]) -> dict[str, bool | str]:
    """Gate -> whether it holds, or NOT_MEASURED; of every gate that the scale has."""
    names = [INITIAL, *([HELPFUL] if helpful_only(profile) else ()), ATTACK]
    names += [*([IDENTITY] if SHIFTED in profile.pressures else ()), *map(of_task, profile.tasks)]
    held = measured(profile, seeds).groupby("gate")["holds"].all()
    return {name: bool(held[name]) if name in held else NOT_MEASURED for name in names}


def rests_on(asked: contrasts.Contrast, task: str = "") -> list[str]:
    """The gates that the answer to a question, or a comparison of a claim, rests on. task: where its cells name none.

    All rest on the initial model. What compares a defense rests on the attack; in the mixed setting, what compares more
    than the task alone rests on the task. Identity role shift is an attack with a gate of its own.
    """
    if asked.source in ELSEWHERE:
        return []
    cells = [cell for cell in (asked.first, asked.second) if isinstance(cell, dict)]
    arms = {cell.get("defense", "none") for cell in cells}
    if asked.source == "mixed":
        named = [task, *(cell.get("task", "") for cell in cells)] if arms - {INITIAL, "task-only"} else []
        return [INITIAL, *(of_task(name) for name in dict.fromkeys(named) if name)]
    by = IDENTITY if asked.source == "identity" else ATTACK
    return [INITIAL, *([by] if arms - {INITIAL, "none"} else [])]


def failing(asked: contrasts.Contrast, held: dict[str, bool | str], task: str = "", elsewhere: bool = False) -> bool:
    """Whether a gate that it rests on does not hold. held: of `holds`; elsewhere: at other settings than the gate's."""
    names = [name for name in rests_on(asked, task) if not (elsewhere and name == ATTACK)]
    return any(held.get(name) is False for name in names)


def judged(answers: pd.DataFrame, chapter: str, profile: Profile, seeds: list[int]) -> pd.DataFrame:
    """Answers to a chapter's questions (`contrasts.answered`), with the verdict FAILED where a gate that one rests on
    does not hold.

    The attack's gate is measured at the paper's pressure, and says nothing about answers at another.
    """
    held, by = holds(profile, seeds), {(asked.source, asked.statement): asked for asked in contrasts.load(chapter)}
    verdicts = []
    for row in answers.to_dict("records"):
        asked, elsewhere = by[row["source"], row["statement"]], row.get("pressure", profile.paper) != profile.paper
        fails = failing(asked, held, row.get("task") or "", elsewhere)
        verdicts.append(contrasts.FAILED if fails else row["verdict"])
    return answers.assign(verdict=verdicts)


def cells(gate: str, table: pd.DataFrame, references: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per rate and epochs of a table of `region.measured`, where the gate is decided: the means of its metrics,
    the smallest of its margins, and whether it holds."""
    rows = []
    for cell, of in table.groupby(region.CELL) if len(table) else ():
        if (told := kept(gate, of, references)).empty:
            continue
        means = told.groupby("metric")["measured"].mean().to_dict()
        judged = {"margin": told["margin"].min(), "holds": bool(told["holds"].all()), "seeds": told["seeds"].min()}
        rows.append({**dict(zip(region.CELL, cell, strict=True)), **means, **judged})
    return pd.DataFrame(rows, columns=None if rows else [*region.CELL, "margin", "holds", "seeds"])


def attack_cells(profile: Profile, seeds: list[int], compute: bool = False, attack: str = "harmful") -> pd.DataFrame:
    """`cells` of the attack without any defense over the profile's region."""
    of = validation(profile)
    table = found(region.attacked(of, seeds, attack), of, compute)
    return cells(ATTACK, table, references(profile, seeds, compute))


def task_cells(profile: Profile, task: str, seeds: list[int], compute: bool = False) -> pd.DataFrame:
    """`cells` of a task without attack and defense over the profile's region for tasks."""
    of = validation(profile)
    return cells(of_task(task), found(region.tasks(of, task, seeds), of, compute), task_initial(profile, task, compute))


def titled(told: pd.DataFrame) -> pd.DataFrame:
    """`kept` for people."""
    shown = told.assign(
        metric=told["metric"].map(lambda name: labels.metric(name).title),
        condition=told["condition"].map(labels.CONDITIONS),
        measured=told["measured"].map("{:.3f}".format),
        holds=told["holds"].map({True: "holds", False: "does not hold"}),
    )
    return shown[["gate", "metric", "condition", "bound", "measured", "holds"]]
