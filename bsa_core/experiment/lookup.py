"""The records that runs have already: looked up, never computed.

A run's key says whether a record is its own. Beside that, a record of another machine counts where this one has none.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from bsa_core import believed, records
from bsa_core.arms import attacks, defenses
from bsa_core.believed import AGAIN
from bsa_core.examples import NotEnough
from bsa_core.experiment.runs import Rows, Run, describe, material, rows_of
from bsa_core.keys import content
from bsa_core.models import sources
from bsa_core.policy import Policy
from bsa_core.profiles import Profile
from bsa_core.progress import report
from bsa_core.tasks import Task

SHARED = ("profile_digest", "rules", "code")  # fields of `run`
OTHER = {"cpu": "cuda", "cuda": "cpu"}


def pinned(runs: list[Run], profile: Profile) -> list[Run]:
    """The runs, and those that were described before the weights were downloaded under the commit known since then.

    ValueError when a run was described under another profile than the one given.
    """
    for run in runs:
        if (run.profile, run.profile_digest) != (profile.name, profile.digest):
            raise ValueError(f"run {run.label!r} was described under another profile than {profile.name!r} as given")
    now = sources.weights_id(profile.model)
    before = sources.weights_id(profile.model, downloaded=False)
    return [replace(run, weights=now) if run.weights == before else run for run in runs]


def possible(runs: list[Run], profile: Profile) -> list[Run]:
    """Those of the runs for which policy and task hold enough rows; says which others there are."""
    rows, lacking = parted(runs, profile)
    for run, why in lacking.items():
        report(f"{profile.name} {run.label} is left out: {why}")
    return [*rows]


def parted(runs: list[Run], profile: Profile) -> tuple[dict[Run, Rows], dict[Run, str]]:
    """The rows of the runs for which policy and task hold enough of them; of all others, what is missing."""
    of, rows, lacking = material(profile, runs), {}, {}
    for run in runs:
        try:
            rows[run] = rows_of(run, profile, of)
        except NotEnough as error:
            lacking[run] = str(error)
    return rows, lacking


def own(run: Run, key: str) -> dict | None:
    """The record of the run that was computed here, or None; ValueError when there is one that is not right."""
    record = records.find(run.profile, run.label, key)
    served = "secret" if defenses.get(run.defense).serves_secret else "plain"
    if record and (record["run"], record["deployed"]) != (content(run), served):
        raise ValueError(f"{records.beside(record)}: 'run' and 'deployed' are not those of its run; {AGAIN}")
    return record


def found(runs: list[Run], profile: Profile) -> list[dict | None]:
    """The records of the runs, in their order, computed here or else shipped; None where there is none.

    Computes nothing, so records of a scale whose weights are not installed here are found as well. Those of one seed,
    which are compared with each other, are of one kind of device: the other one than this where more were made on it.
    A run for which policy or task hold too few rows has no record; a record that is not right is named on stderr and
    left out.
    """
    if not sources.of(profile.model).installed:
        weights = today(profile, records.load(profile.name))["weights"]
        runs = [replace(run, weights=weights) for run in runs]
    runs = pinned(runs, profile)
    data, shipped = _data(runs, profile), records.usable(records.shipped, profile.name) or {}

    def at_hand(run: Run, of: dict) -> dict | None:
        key = believed.key_of(records.SCHEMA, content(run), of)
        return records.usable(own, run, key) or shipped.get(key)

    by_seed, results = defaultdict(list), {}
    for run in data:
        by_seed[run.seed].append(run)
    for some in by_seed.values():
        made = [at_hand(run, data[run]) for run in some]
        if not all(made):
            elsewhere = [at_hand(replace(run, device=OTHER[run.device]), data[run]) for run in some]
            made = max(made, elsewhere, key=lambda of: sum(map(bool, of)))  # the first, where both have as many
        results |= zip(some, made, strict=True)
    return [results.get(run) for run in runs]


def _data(runs: list[Run], profile: Profile) -> dict[Run, dict]:
    """`Rows.digests` of the runs for which policy and task hold enough rows; chapters ask for the same runs often."""
    of, data = material(profile, runs), {}
    for run in runs:
        known = _known(of.policy, of.tasks[run.task.name] if run.task else None)
        parts = run, defenses.get(run.defense), attacks.get(run.attack)
        if parts not in known:
            with suppress(NotEnough):
                known[parts] = rows_of(run, profile, of).digests
        if parts in known:
            data[run] = known[parts]
    return data


@lru_cache(maxsize=16)
def _known(policy: Policy, task: Task | None) -> dict[tuple, dict]:
    """What `_data` has made of this policy and this task, by run, defense and attack: a name may get another one."""
    return {}


def today(profile: Profile, at_hand: list[dict]) -> dict:
    """Fields of `run` that all records of the profile as it is today share, whatever was run on whichever device.

    Weights that are not installed here are those of the records at hand. ValueError where they are of several.
    """
    run = content(describe(profile, n_attack=0))
    if not sources.of(profile.model).installed:
        adapter = "".join(run["weights"].partition("+")[1:])  # "" where there is none: ids of folders hold a + as well
        made_with = {r["run"]["weights"] for r in at_hand if _shares(r, run, SHARED)}
        made_with = {weights for weights in made_with if weights.endswith(adapter)}
        if len(made_with) > 1:
            raise ValueError(f"results/{profile.name} holds records of several weights: {', '.join(sorted(made_with))}")
        run["weights"] = next(iter(made_with), run["weights"])
    return {name: run.get(name) for name in (*SHARED, "weights")}


def _shares(record: dict, run: dict, names: Sequence[str]) -> bool:
    return all(record["run"].get(name) == run.get(name) for name in names)


def current(found: list[dict], profile: Profile) -> list[dict]:
    """Those of the records that belong to the profile as it is today: its settings, weights, rules and code."""
    if not found:
        return []
    shared = today(profile, found)
    return [record for record in found if _shares(record, shared, tuple(shared))]
