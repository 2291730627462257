"""Compute the records of a profile's grids that are missing, with several processes side by side.

    python tools/compute.py PROFILE --main SEEDS --rest SEEDS [--workers N] [--minutes M]

SEEDS: as for tools/ship.py, which then writes the files that ship. It may be stopped at any time, and goes on where it
was. Several processes fill a GPU on which one small model leaves much idle (with NVIDIA's MPS more so).
"""

import argparse
import multiprocessing
import queue
import time
from itertools import chain

from ship import seeds

from bsa_core import experiment, profiles
from bsa_core.experiment.chain import grouped
from bsa_core.models import sources
from bsa_study import campaign


def work(waiting, done, until: float) -> None:
    """Compute groups of runs that share a training, as long as there is time, and whoever started this."""
    started_by = multiprocessing.parent_process()
    while time.time() < until and started_by.is_alive() and (asked := waiting.get()):
        profile, runs = asked
        try:
            experiment.execute(runs, profile)
            done.put("")
        except ValueError as error:
            done.put(f"{profile.name} {runs[0].label}: {error}")


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
    for item in [*groups, *[None] * given.workers]:
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


def own(runs: list, profile) -> list[dict | None]:
    """The records that were computed here or ship, of this kind of device."""
    found = experiment.found(runs, profile)
    return [record if record and record["run"].get("device", "cpu") == runs[0].device else None for record in found]


if __name__ == "__main__":
    main()
