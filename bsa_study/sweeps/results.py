"""What there is of a sweep: its records, and the table at its end."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from bsa_core import experiment, records
from bsa_core.experiment import lookup
from bsa_core.experiment.runs import Run, key_of
from bsa_core.profiles import Profile
from bsa_study import labels
from bsa_study.sweeps.jobs import Job

METRICS = ("asr", "asr_content", "over_refusal", "benign_exact")
ROWS = ["profile", "point", "condition"]


def compute(jobs: Sequence[Job], shipped: bool) -> None:
    """Compute the runs that have no record; shipped: records that come with the project count as well."""
    for job in jobs:
        there = found([job], shipped) if shipped else {}
        if missing := [run for run in job.runs if not there.get(run)]:
            experiment.gather(missing, job.profile, compute=True)


def found(jobs: Sequence[Job], shipped: bool, anywhere: bool = False) -> dict[Run, dict | None]:
    """The record of each run, or None where it has to be computed; a run for which there are too few rows is left out.

    shipped: records that come with the project count, of whatever device. anywhere: those that were computed on the
        other kind of device count as well, as on a cluster whose first machine has no GPU.
    """
    results: dict[Run, dict | None] = {}
    for profile, runs in _by_profile(jobs):
        asked = dict(zip(lookup.pinned(runs, profile), runs, strict=True))
        ours = (records.usable(records.shipped, profile.name) or {}) if shipped else {}
        # of weights that are not installed here, as `experiment.found` has it
        theirs = lookup.today(profile, list(ours.values()))["weights"] if ours else ""
        for run, rows in lookup.parted(list(asked), profile)[0].items():
            devices = run, replace(run, device=lookup.OTHER[run.device])
            here = devices if anywhere else devices[:1]
            there = [records.usable(lookup.own, one, key_of(one, rows)) for one in here]
            if ours:
                there += [ours.get(key_of(replace(one, weights=theirs), rows)) for one in devices]
            results[asked[run]] = next(filter(None, there), None)
    return results


def _by_profile(jobs: Sequence[Job]) -> list[tuple[Profile, list[Run]]]:
    of: dict[tuple[str, str], tuple[Profile, dict[Run, None]]] = {}
    for job in jobs:
        of.setdefault((job.profile.name, job.profile.digest), (job.profile, {}))[1].update(dict.fromkeys(job.runs))
    return [(profile, list(runs)) for profile, runs in of.values()]


def table(jobs: Sequence[Job], there: dict[Run, dict | None]) -> pd.DataFrame:
    """One row for each profile, point and condition: means over the seeds, and how many runs they are of.

    there: of `found`.
    """
    made = [(point, record) for job in jobs for point in job.points if (record := there.get(point.run))]
    titles = [labels.metric(name).title for name in METRICS]
    if not made:
        return pd.DataFrame(columns=[*ROWS, *titles, "runs"])
    named = {"profile": [point.like for point, _ in made], "point": [point.name for point, _ in made]}
    rows = records.table([record for _, record in made], **named)
    values = rows[rows["metric"].isin(METRICS)].groupby([*ROWS, "metric"], sort=False)["value"]
    means = values.mean().unstack("metric", sort=False).reindex(columns=list(METRICS)).set_axis(titles, axis=1)
    return means.assign(runs=values.size().groupby(ROWS, sort=False).max()).reset_index()
