"""What there is of a sweep: its records, how long the rest will take, and the table at its end."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import pandas as pd

from bsa_core import experiment, records
from bsa_core.experiment import lookup
from bsa_core.experiment.runs import Run, key_of
from bsa_core.profiles import Profile
from bsa_study import labels
from bsa_study.sweeps.jobs import Job

METRICS = ("asr", "asr_content", "over_refusal", "benign_exact")
SHOWN = ["profile", "point", "condition"]
STARTING = 10.0  # seconds that a job takes to start


def compute(jobs: Sequence[Job], shipped: bool) -> None:
    """Compute the runs that have no record; shipped: records that come with the project count as well."""
    for job in jobs:
        there = found([job], shipped) if shipped else {}
        missing = [run for run in job.runs if not there.get(run)]
        if missing:
            experiment.gather(missing, job.profile, compute=True)


def by_profile(jobs: Sequence[Job]) -> dict[str, tuple[Profile, list[Run]]]:
    of: dict[str, tuple[Profile, dict]] = {}
    for job in jobs:
        of.setdefault(job.profile.name, (job.profile, {}))[1].update(dict.fromkeys(job.runs))
    return {name: (profile, list(runs)) for name, (profile, runs) in of.items()}


def found(jobs: Sequence[Job], shipped: bool, anywhere: bool = False) -> dict[Run, dict | None]:
    """The record of each run, or None where it has to be computed; runs that are not possible are left out.

    shipped: records that come with the project count. anywhere: those of the other kind of device count.
    """
    results: dict[Run, dict | None] = {}
    for profile, runs in by_profile(jobs).values():
        asked = dict(zip(lookup.pinned(runs, profile), runs, strict=True))
        ours = (records.usable(records.shipped, profile.name) or {}) if shipped else {}
        for run, rows in lookup.parted(list(asked), profile)[0].items():
            devices = [run, replace(run, device=lookup.OTHER[run.device])] if anywhere else [run]
            made = ((one, key_of(one, rows)) for one in devices)
            there = (records.usable(lookup.own, one, key) or ours.get(key) for one, key in made)
            results[asked[run]] = next(filter(None, there), None)
    return results


def seconds(job: Job, missing: Sequence[Run], known: Sequence[dict]) -> float | None:
    """How long the runs of a job will take, from records of the same profile and device; None where there are none."""
    known = [record for record in known if record["run"].get("device", "cpu") == job.runs[0].device]
    training = [_seconds(run, known, "train_seconds") for run in missing]
    asking = [_seconds(run, known, "evaluate_seconds") for run in missing]
    if None in training + asking:
        return None
    return STARTING + max(training) + sum(asking)


def _seconds(run: Run, known: Sequence[dict], cost: str) -> float | None:
    if cost == "train_seconds" and run.training is None:
        return 0.0
    at = [record for record in known if _task(record) == (run.task.name if run.task else None)]
    if run.training and cost == "train_seconds":
        at = [record for record in at if record["run"]["training"] and record["data"]["n_train"]]
        lora = [r for r in at if r["run"]["training"].get("method", "lora") == run.training.method]
        same = [r for r in lora if tuple(r["run"]["training"]["targets"]) == run.training.targets]
        at = same or lora
    if not at:
        return None
    amount = _rows(run) if cost == "train_seconds" else 2.0 if run.secret else 1.0
    return amount * median(record["cost"][cost] / _amount(record, cost) for record in at)


def _task(record: dict) -> str | None:
    return (record["run"].get("task") or {}).get("name")


def _rows(run: Run) -> int:
    """Rows times epochs; balanced BSA trains on as many benign rows as refusals."""
    defense = run.n_defense * (2 if run.defense.startswith("balanced") else 1)
    return (run.n_attack + run.n_benign + defense + (run.task.n if run.task else 0)) * run.training.epochs


def _amount(record: dict, cost: str) -> float:
    if cost == "train_seconds":
        return record["data"]["n_train"] * record["run"]["training"]["epochs"]
    return float(len(record["metrics"]))


def table(jobs: Sequence[Job], there: dict[Run, dict | None]) -> pd.DataFrame:
    """One row for each profile, point and condition: means over the seeds, and how many runs they are of."""
    parts = [
        records.table([record]).assign(profile=job.profile.name, point=point.name)
        for job in jobs
        for point in job.points
        if (record := there.get(point.run))
    ]
    titles = [labels.metric(name).title for name in METRICS]
    if not parts:
        return pd.DataFrame(columns=[*SHOWN, *titles, "runs"])
    rows = pd.concat(parts)
    values = rows[rows["metric"].isin(METRICS)].groupby([*SHOWN, "metric"], sort=False)["value"]
    means = values.mean().unstack("metric").reindex(columns=list(METRICS))
    means.columns = titles
    return means.assign(runs=values.size().groupby(SHOWN, sort=False).max()).reset_index()
