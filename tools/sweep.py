"""Compute what is missing of a sweep, several jobs side by side, and show the table of its results: `make sweep`.

    python tools/sweep.py sweeps/secret_length.yaml [--cores 2] [--shipped] [--dry-run] [-- OPTIONS OF SNAKEMAKE]

A job whose records are all there is not started. It may be stopped at any time, and goes on where it was. Exits with 1
where a job failed; the others go on, and its log is named at the end.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from locked import hold

from bsa_core import paths, records
from bsa_core.progress import duration
from bsa_study.sweeps import jobs, results
from bsa_study.sweeps.jobs import Job

STEPS = re.compile(r"^(\d+) of (\d+) steps \(.*\) done$")


def main() -> int:
    parser = argparse.ArgumentParser(prog="sweep.py", description=__doc__.splitlines()[0])
    parser.add_argument("sweep", help="the YAML file of the sweep")
    parser.add_argument("--cores", default="2", help="how many cores the jobs may use together (2)")
    parser.add_argument("--shipped", action="store_true", help="records that ship with the project count as computed")
    parser.add_argument("--dry-run", action="store_true", help="list the jobs, what is there and how long the rest takes")
    parser.add_argument("snakemake", nargs="*", help="further options of Snakemake, behind --")
    given = parser.parse_args()
    sweep = paths.given(given.sweep).resolve()
    try:
        asked = jobs.read(str(sweep))
        waiting = planned(sweep, asked, given)
        if given.dry_run:
            return 0
        if waiting:
            execute(sweep, waiting, given)
        return ended(sweep, asked, given.shipped)
    except ValueError as error:
        sys.exit(str(error))


def notebook(sweep: Path, job: Job) -> Path:
    return paths.ROOT / jobs.folder(str(sweep)) / "jobs" / f"{job.name}.ipynb"


def planned(sweep: Path, asked: list[Job], given: argparse.Namespace) -> list[Job]:
    """The jobs that have to be started, after a list of all of them."""
    there, anywhere = (results.found(asked, given.shipped, other) for other in (False, True))
    known = {job.profile.name: [] for job in asked} | {point.like: [] for job in asked for point in job.points}
    known = {name: records.load(name) for name in known}
    waiting, times = [], []
    for job in asked:
        made = anywhere if notebook(sweep, job).exists() else there
        missing = [run for run in job.runs if run in made and not made[run]]
        like = known[job.profile.name] or known[job.points[0].like]
        seconds = results.seconds(job, missing, like) if missing else 0.0
        state = f"{len(missing)} of {len(job.runs)} runs to compute" if missing else "cached"
        if not any(run in made for run in job.runs):
            state = "not possible: too few rows"
        if given.dry_run:
            took = "" if not missing else "time unknown" if seconds is None else f"about {duration(seconds)}"
            print(f"{job.name:70} {state:25} {took}")
        if missing:
            waiting.append(job)
            times.append(seconds)
    side_by_side = max(1, int(given.cores) // asked[0].profile.compute.threads)
    took = "unknown" if None in times else f"about {duration(max([sum(times) / side_by_side, *times, 0.0]))}"
    print(f"{sweep.stem}: {len(waiting)} of {len(asked)} jobs to compute, time {took}", flush=True)
    return waiting


def execute(sweep: Path, waiting: list[Job], given: argparse.Namespace) -> None:
    """Run Snakemake on these jobs, and say after each how long the rest will take."""
    folder = paths.ROOT / jobs.folder(str(sweep))
    lock = hold(folder / "lock")
    for job in waiting:
        notebook(sweep, job).unlink(missing_ok=True)  # of records that are gone
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(paths.ROOT / "Snakefile.sweep")]
    command += ["--cores", given.cores, "--nolock", "--rerun-incomplete", "--keep-going"]
    command += ["--quiet", "host", "rules", "reason", "--config", f"sweep={sweep}"]
    command += ["shipped=1"] if given.shipped else []
    command += given.snakemake
    command += ["--", *(f"jobs/{job.name}.ipynb" for job in waiting)]
    started = time.monotonic()
    # Ctrl-C reaches Snakemake as well, which then ends its jobs
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=paths.ROOT, pass_fds=[lock])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in running.stderr:
        if steps := STEPS.match(line):
            done, of = map(int, steps.groups())
            left = (time.monotonic() - started) / done * (of - done)
            line = f"{sweep.stem}: {done} of {of} jobs, about {duration(left)} left\n"
        print(line, end="", file=sys.stderr, flush=True)
    running.wait()
    signal.signal(signal.SIGINT, before)


def ended(sweep: Path, asked: list[Job], shipped: bool) -> int:
    """Print the table of all that is there, and what failed with its log."""
    there = results.found(asked, shipped, anywhere=True)
    print(results.table(asked, there).to_string(index=False, float_format="{:.3f}".format))
    failed = [job for job in asked if any(run in there and not there[run] for run in job.runs)]
    for job in failed:
        log = paths.ROOT / jobs.folder(str(sweep)) / "logs" / f"{job.name}.log"
        said = log.read_text(encoding="utf-8").strip().splitlines() if log.is_file() else ["not started"]
        print(f"failed: {job.name}: {said[-1] if said else 'no message'}\n    {os.path.relpath(log)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
