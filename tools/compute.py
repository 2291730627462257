"""Compute the records of a profile's grids that are missing, with several processes side by side.

    python tools/compute.py PROFILE --main SEEDS --rest SEEDS [--workers N] [--minutes M]

SEEDS: as for tools/ship.py, which then writes the files that ship. It may be stopped at any time, and goes on where it
was. Several processes fill a GPU on which one small model leaves much idle (with NVIDIA's MPS more so).
"""

import argparse
import multiprocessing
import queue
import time
from collections.abc import Iterator
from itertools import chain, groupby, islice

from ship import seeds

from bsa_core import experiment, profiles
from bsa_core.experiment.chain import grouped
from bsa_core.models import sources
from bsa_study import campaign

STACKED = 12  # trainings that a process takes at once: a small model trains several of them together


def work(waiting, done, until: float) -> None:
    """Compute runs of a few trainings, as long as there is time, and whoever started this."""
    started_by = multiprocessing.parent_process()
    while time.time() < until and started_by.is_alive() and (asked := waiting.get()):
        profile, groups = asked
        for group, error in computed(profile, groups):
            done.put(error and f"{profile.name} {group[0].label}: {error}")


def computed(profile, groups: list[list]) -> Iterator[tuple[list, str]]:
    """Each group of runs that share a training, once it is computed, with what went wrong; that stops no other one."""
    try:
        experiment.execute([*chain(*groups)], profile)
        yield from ((group, "") for group in groups)
    except ValueError as error:
        if len(groups) == 1:
            yield groups[0], str(error)
        else:
            for group in groups:
                yield from computed(profile, [group])


def main() -> None:
    parser = argparse.ArgumentParser(prog="compute.py", description=__doc__.splitlines()[0])
    parser.add_argument("profile")
    for name, of in (("--main", "the arms of the main table"), ("--rest", "all other grids and the controls")):
        parser.add_argument(name, type=seeds, nargs="*", default=[], metavar="SEEDS", help=f"seeds of {of}")
    parser.add_argument("--workers", type=int, default=2, help="processes side by side")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no training starts after that time")
    given = parser.parse_args()
    asked = campaign.runs(profiles.load(given.profile), [*chain(*given.main)], [*chain(*given.rest)])
    groups = [
        (profile, group)
        for profile, runs in asked
        if sources.of(profile.model).installed
        for group in grouped([run for run, record in zip(runs, own(runs, profile), strict=True) if record is None])
    ]
    groups.sort(key=lambda item: item[1][0].task is not None)  # those of tasks take the longest, and come last
    print(f"{len(groups)} trainings, {sum(len(group) for _, group in groups)} records to compute", flush=True)
    if not groups:
        return
    spawned = multiprocessing.get_context("spawn")
    waiting, done = spawned.Queue(), spawned.Queue()
    for item in [*bundles(groups, given.workers), *[None] * given.workers]:
        waiting.put(item)
    arguments = (waiting, done, time.time() + 60 * given.minutes)
    workers = [spawned.Process(target=work, args=arguments) for _ in range(given.workers)]
    for worker in workers:
        worker.start()
    finished, failed = 0, []
    while finished < len(groups) and any(worker.is_alive() for worker in workers):
        try:
            said = done.get(timeout=5)
        except queue.Empty:
            continue
        finished += 1
        failed += [said] if said else []
    waiting.cancel_join_thread()
    for worker in workers:
        worker.join()
    print(f"{finished} of {len(groups)} trainings done", *failed, sep="\n")


def bundles(groups: list[tuple], workers: int) -> list[tuple]:
    """Groups of the same profile and task that follow each other, a few together, fewer where workers would idle."""
    at_once = max(1, min(STACKED, len(groups) // (4 * workers)))
    bundled = []
    for (profile, _), of in groupby(groups, key=lambda item: (item[0], item[1][0].task)):
        bundled += [(profile, [group for _, group in some]) for some in batched(of, at_once)]
    return bundled


def batched(items, n: int) -> Iterator[list]:
    """itertools.batched, which Python 3.11 lacks."""
    items = iter(items)
    while some := [*islice(items, n)]:
        yield some


def own(runs: list, profile) -> list[dict | None]:
    """The records that were computed here or ship, of this kind of device."""
    found = experiment.found(runs, profile)
    return [record if record and record["run"].get("device", "cpu") == runs[0].device else None for record in found]


if __name__ == "__main__":
    main()
