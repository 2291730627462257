"""From a run to its record. Nothing else knows the whole chain.

Runs that differ in the number of epochs only share one training: its state after k epochs is that of a run of k epochs,
so it is evaluated on the way. Trainings of a small model are stacked: several go through it at once, and each gives the
record that it gives alone. A run whose record exists is looked up, not computed; a record is written whole or not
at all, so an interrupted batch continues where it stopped. Memory is estimated before the first run is computed.
"""

import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from itertools import chain, islice
from typing import Protocol

from filelock import Timeout

from bsa_core import paths, records, writing
from bsa_core.experiment import lookup, provenance
from bsa_core.experiment.runs import Rows, Run, key_of, material, rows_of
from bsa_core.models import sources
from bsa_core.profiles import Profile
from bsa_core.progress import duration, report

# torch, transformers and peft are imported where something is computed: reading records takes none of them.


class Keeper(Protocol):
    """Something that is kept of a run's model in a file of its own, such as its adapter. A module will do."""

    def check(self, profile: Profile) -> None:
        """Asked before anything is trained; ValueError when it could not be kept afterwards."""

    def lacks(self, profile: Profile, run: Run, key: str) -> bool:
        """Whether it is missing for this run, and wanted."""

    def keep(self, profile: Profile, record: dict, loaded, secret) -> None:
        """Asked for a run that lacks it. loaded: `loading.Loaded`, as fine-tuned; secret: `Secret` or None."""


def _shared_training(run: Run) -> Run:
    """The same for all runs that one training serves: they differ in epochs, or in how test items are asked."""
    task = run.task and replace(run.task, served="trained")
    return replace(run, training=run.training and replace(run.training, epochs=1), task=task)


def gather(
    runs: list[Run], profile: Profile, compute: bool | Collection[int], keep: Sequence[Keeper] = ()
) -> list[dict | None]:
    """`execute` or, without computing anything, `found`; None for a run for which there are too few rows or no record.

    compute: True or False for all runs, or the seeds whose runs are executed; those of other seeds are looked up.
    keep: see `execute`.
    """
    parts = {True: [], False: []}
    for run in runs:
        parts[compute is True or (compute is not False and run.seed in compute)].append(run)
    here, others = lookup.possible(parts[True], profile) if parts[True] else [], parts[False]
    results = dict(zip(here, execute(here, profile, keep) if here else (), strict=True))
    results |= dict(zip(others, lookup.found(others, profile) if others else (), strict=True))
    return [results.get(run) for run in runs]


def at_hand(
    runs: list[Run], profile: Profile, compute: bool | Collection[int] = False, keep: Sequence[Keeper] = ()
) -> list[dict]:
    """Of `gather` the records that there are."""
    return [record for record in gather(runs, profile, compute, keep) if record]


def execute(runs: list[Run], profile: Profile, keep: Sequence[Keeper] = ()) -> list[dict]:
    """The records of the runs, in their order; computes those that are missing and prints one line for each.

    Shipped records do not count: what a chapter executes was computed in this folder.
    keep: what is kept of the runs' models, such as `experiment.adapters`. A run whose record is there and that lacks
        something is trained again; the record stays.

    Raises ValueError when a run was described under another profile, asks for more rows than there are, needs more
    memory than there is, or a keeper cannot do its work; RecordError where records could not be written.
    """
    runs = lookup.pinned(runs, profile)
    of = material(profile, runs)
    rows = {run: rows_of(run, profile, of) for run in dict.fromkeys(runs)}
    keys = {run: key_of(run, rows[run]) for run in rows}
    results = {run: record for run in rows if (record := lookup.own(run, keys[run]))}

    def lacking(run: Run) -> list[Keeper]:
        return [keeper for keeper in keep if keeper.lacks(profile, run, keys[run])]

    def keep_of(run: Run, loaded, secret) -> None:
        for keeper in lacking(run):
            keeper.keep(profile, results[run], loaded, secret)

    def harmless(run: Run) -> bool:
        return of.policy.harmless and (run.task is None or of.tasks[run.task.name].harmless)

    missing = [run for run in rows if run not in results or lacking(run)]
    for folder, variable, needed in (
        (paths.RESULTS, "BSA_RESULTS", missing),
        (paths.GENERATIONS, "BSA_GENERATIONS", [run for run in missing if not harmless(run)]),
    ):
        writing.sweep(folder / profile.name)
        if needed:
            writing.check(folder / profile.name, variable)
    if missing:
        for keeper in keep:
            keeper.check(profile)
        from bsa_core.experiment import computing, limits
        from bsa_core.models import estimate, loading

        if not sources.of(profile.model).pinned:
            estimate.check(profile, [_work(run, rows[run]) for run in missing])
            loading.load(profile)  # downloads, so that the keys name the commit
            if sources.of(profile.model).pinned:
                return execute(runs, profile, keep)
        sizes = limits.check(profile, {run: rows[run] for run in missing})
        estimate.check(profile, [_work(run, rows[run], sizes[run], run not in results) for run in missing])
    started, finished = time.perf_counter(), 0
    waiting, busy = deque(grouped(missing)), 0

    def lock(group: list[Run], timeout: float):
        name = key_of(_shared_training(group[0]), rows[group[0]])
        return writing.locked(paths.RESULTS / profile.name / ".locks" / f"{name}.lock", timeout=timeout)

    def beside(group: list[Run], held: ExitStack) -> Iterator[list[Run]]:
        """Groups that are trained in a stack with this one, taken from those that wait."""
        room = computing.room(group[0], profile, sizes[group[0]]) - 1
        others = (other for other in [*waiting] if computing.alike(other[0], group[0]) and not any(map(lacking, other)))
        for other in islice(others, room):
            with suppress(Timeout):
                held.enter_context(lock(other, 0))
                waiting.remove(other)
                yield other

    def left(group: list[Run]) -> list[Run]:
        """What is still to be computed, now that nobody else computes it."""
        results.update((run, record) for run in group if (record := lookup.own(run, keys[run])))
        return [run for run in group if run not in results or lacking(run)]

    while waiting:
        group = waiting.popleft()
        try:
            # another notebook may be computing the same runs: do others first, and wait only when all are taken
            taken = lock(group, 0 if busy <= len(waiting) else -1)
        except Timeout:
            waiting.append(group)
            busy += 1
            continue
        busy = 0
        with ExitStack() as held:
            held.enter_context(taken)
            groups, todo = [group], [left(group)]
            if todo[0] and not any(map(lacking, group)):
                groups += beside(group, held)
                todo += map(left, groups[1:])
            todo = [of_one for of_one in todo if of_one]
            with provenance.watched() as cost:
                for run, record, said in computing.computed(todo, rows, profile, of, results, keep_of) if todo else ():
                    record = {"schema": records.SCHEMA, "key": keys[run], "label": run.label, **record}
                    results[run] = records.sealed(record | {"cost": record["cost"] | cost()}, said)
                    records.write(results[run], said, harmless(run))
        finished += sum(map(len, groups))
        ahead = (time.perf_counter() - started) / finished * (len(missing) - finished)
        for run in chain(*groups):
            report(f"{_line(results[run])} | {finished} of {len(missing)} runs, about {duration(ahead)} left")
    return [results[run] for run in runs]


def _work(run: Run, rows: Rows, sizes: tuple = (), asked: bool = True):
    """What an estimate goes by. sizes: (tokens, answer tokens) of each training row; asked: whether it is evaluated."""
    from bsa_core.models.estimate import Work

    requests, conditions = len(rows.restricted) + len(rows.benign), 2 if run.secret else 1
    answers = [(requests, None)] + ([(len(rows.task), run.task.max_new_tokens)] if run.task else [])
    answers = [(conditions * n, longest) for n, longest in answers] if asked else []
    return Work(run.training, sizes, tuple(answers), _shared_training(run))


def grouped(runs: list[Run]) -> list[list[Run]]:
    """The runs, those together that share a training."""
    groups = defaultdict(list)
    for run in runs:
        groups[_shared_training(run)].append(run)
    return list(groups.values())


TOLD = {"asr": "ASR", "asr_content": "content ASR", "over_refusal": "over-refusal", "benign_exact": "benign exact"}


def _line(record: dict) -> str:
    said = []
    for condition, of in record["metrics"].items():
        told = (f"{name} {of[metric]['value']:.3f}" for metric, name in TOLD.items() if metric in of)
        said.append(f"{condition} {', '.join(told)}")
    return f"{record['run']['profile']} {record['label']}: {'; '.join(said)}"
