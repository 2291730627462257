"""Compute what is missing of a sweep, several jobs side by side, and show the table of its results: `make sweep`.

    python tools/sweep.py sweeps/secret_length.yaml [--cores 2] [--on slurm] [--shipped] [--dry-run] \\
        [-- OPTIONS OF SNAKEMAKE]

A job whose records are all there is not started. It may be stopped at any time, and goes on where it was. Exits with 1
where a job failed: the others go on, and its log is named at the end.
"""

import argparse
import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from locked import hold

from bsa_core import paths, reading, records, writing
from bsa_core.progress import duration
from bsa_study.sweeps import cost, jobs, needs, results
from bsa_study.sweeps.jobs import Job

LIBC, PR_SET_PDEATHSIG = ctypes.CDLL(None) if sys.platform == "linux" else None, 1
STEPS = re.compile(r"^(\d+) of (\d+) steps \(.*\) done$")


def main() -> None:
    parser = argparse.ArgumentParser(prog="sweep.py", description=__doc__.splitlines()[0])
    parser.add_argument("sweep", help="the YAML file of the sweep")
    parser.add_argument("--cores", type=int, default=2, help="how many cores the jobs may use together (2)")
    parser.add_argument("--on", default="", help="a cluster: slurm, or the folder of a workflow profile of Snakemake")
    parser.add_argument("--shipped", action="store_true", help="records that ship with the project count as computed")
    parser.add_argument("--dry-run", action="store_true", help="list the jobs, what is there, how long the rest takes")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    given = parser.parse_args(words[:end])
    sweep = paths.given(given.sweep).resolve()
    try:
        asked = jobs.read(str(sweep))
        where = cluster(given.on) if given.on else None
        missing = planned(sweep, asked, given.shipped)
        forecast(sweep, asked, missing, given)
        if given.dry_run:
            return
        options = ["--workflow-profile", str(where)] if where else ["--cores", str(given.cores)]
        stopped = bool(missing) and execute(sweep, asked, list(missing), given, [*options, *words[end + 1 :]])
        failed = ended(sweep, asked, given.shipped, stopped)
    except ValueError as error:
        sys.exit(str(error))
    sys.exit(130 if stopped else bool(failed))


def folder(sweep: Path) -> Path:
    return paths.ROOT / jobs.folder(str(sweep))


def plan_of(sweep: Path) -> Path:
    return folder(sweep) / "plan.json"


def notebook(sweep: Path, job: Job) -> Path:
    return folder(sweep) / "jobs" / f"{job.name}.ipynb"


def cluster(name: str) -> Path:
    """The folder of a workflow profile, by its name in sweeps/ or its path.

    ValueError where there is none, or where what it needs is not here.
    """
    places = (paths.ROOT / "sweeps" / name, paths.given(name))
    found = next((place.resolve() for place in places if (place / "config.yaml").is_file()), None)
    if found is None:
        raise ValueError(f"--on {name}: expected slurm, or the path of a folder with a config.yaml for Snakemake")
    executor = reading.from_yaml(found / "config.yaml", "a workflow profile of Snakemake").get("executor")
    package = f"snakemake-executor-plugin-{executor}"
    if executor and find_spec(package.replace("-", "_")) is None:
        raise ValueError(f"--on {name}: executor {executor!r} needs a package; pip install {package}")
    if executor == "slurm" and not shutil.which("sbatch"):
        raise ValueError(f"--on {name}: there is no sbatch here; start this on a login node of SLURM")
    return found


def write_plan(sweep: Path, asked: list[Job], given: argparse.Namespace) -> None:
    """All jobs of the sweep for Snakefile.sweep, on a cluster with what each asks it for."""
    known = known_of(asked) if given.on else {}
    wanted = {job.name: {"threads": job.profile.compute.threads} for job in asked}
    for job in asked if given.on else ():
        wanted[job.name] |= needs.of(job, known[job.profile.name] or known[job.points[0].like])
    plan = {"sweep": str(sweep), "shipped": given.shipped, "jobs": wanted}
    writing.write_whole(plan_of(sweep), writing.as_json(plan_of(sweep), plan), "")


def known_of(asked: list[Job]) -> dict[str, list[dict]]:
    """Records of the scales of jobs, by the profile's name."""
    names = {name for job in asked for name in (job.profile.name, job.points[0].like)}
    return {name: records.load(name) for name in names}


def planned(sweep: Path, asked: list[Job], shipped: bool) -> dict[Job, list]:
    """The jobs that have to be started, each with its runs that have no record.

    A job that was executed for this sweep may have been so on another kind of device.
    """
    here, anywhere = (results.found(asked, shipped, other) for other in (False, True))
    missing = {}
    for job in asked:
        there = anywhere if notebook(sweep, job).exists() else here
        missing[job] = [run for run in job.runs if run in there and not there[run]]
    return {job: runs for job, runs in missing.items() if runs}


def forecast(sweep: Path, asked: list[Job], missing: dict[Job, list], given: argparse.Namespace) -> None:
    """Say how many jobs there are and how long they will take; with --dry-run each of them."""
    known, times = known_of(asked), {}
    for job in asked:
        if job in missing:
            like = known[job.profile.name] or known[job.points[0].like]
            times[job] = cost.seconds(missing[job], job.profile, like)
        if given.dry_run:
            state = f"{len(missing[job])} of {len(job.runs)} runs, {told(times[job])}" if job in missing else "cached"
            print(f"{job.name}  {state}")
    measured = {job: time for job, time in times.items() if time}
    together = sum(time * min(job.profile.compute.threads, given.cores) for job, (time, _) in measured.items())
    longest = max((time for time, _ in measured.values()), default=0.0)
    how = "roughly" if "roughly" in {how for _, how in measured.values()} else "about"
    together = longest if given.on else max(together / given.cores, longest)  # on a cluster all of them at once
    total = told((together, how)) if measured or not times else "time unknown"
    unknown = f", and {len(times) - len(measured)} jobs of unknown time" if 0 < len(measured) < len(times) else ""
    print(f"{sweep.stem}: {len(missing)} of {len(asked)} jobs to compute, {total}{unknown}", flush=True)


def told(time: tuple[float, str] | None) -> str:
    return f"{time[1]} {duration(time[0])}" if time else "time unknown"


def execute(sweep: Path, asked: list[Job], waiting: list[Job], given: argparse.Namespace, options: list[str]) -> bool:
    """Run Snakemake on the jobs that wait, with a line about the rest after each; whether it was interrupted."""
    lock = hold(folder(sweep) / "lock")
    write_plan(sweep, asked, given)
    for job in waiting:
        notebook(sweep, job).unlink(missing_ok=True)  # its records are gone
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(paths.ROOT / "Snakefile.sweep")]
    command += ["--nolock", "--rerun-incomplete", "--keep-going", *options]
    command += ["--quiet", "host", "rules", "reason", "--config", f"plan={plan_of(sweep)}"]
    command += ["--", *(f"jobs/{job.name}.ipynb" for job in waiting)]
    interrupted = []
    started, before = time.monotonic(), signal.getsignal(signal.SIGINT)
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=paths.ROOT, preexec_fn=tied)
    signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))  # Snakemake gets it too, and ends its jobs
    for line in running.stderr:
        if steps := STEPS.match(line):
            done, of = map(int, steps.groups())
            left = (time.monotonic() - started) / done * (of - done)
            line = f"{sweep.stem}: {done} of {of} jobs done, about {duration(left)} left\n"
        print(line, end="", file=sys.stderr, flush=True)
    running.wait()
    signal.signal(signal.SIGINT, before)
    os.close(lock)
    return bool(interrupted)


def tied() -> None:
    """Called in the process of Snakemake: it ends with the one that reads what it says, even where that is killed.

    It would hang for ever. Only Linux has this.
    """
    if LIBC:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def ended(sweep: Path, asked: list[Job], shipped: bool, stopped: bool) -> list[Job]:
    """Print the table of all that is there, and the jobs that failed with their logs; returns these."""
    there = results.found(asked, shipped, anywhere=True)
    if len(table := results.table(asked, there)):
        print(table.to_string(index=False, float_format="{:.3f}".format))
    if left_out := [run for job in asked for run in job.runs if run not in there]:
        print(f"not possible, as there are too few rows: {', '.join(run.label for run in left_out)}")
    failed = [job for job in asked if any(run in there and not there[run] for run in job.runs)]
    if stopped:
        print(f"stopped with {len(failed)} jobs to compute: the same command goes on")
        return failed
    for job in failed:
        log = folder(sweep) / "logs" / f"{job.name}.log"
        said = log.read_text(encoding="utf-8").strip().splitlines() if log.is_file() else []
        print(f"failed: {job.name}: {said[-1] if said else 'it was not started'}\n    {os.path.relpath(log)}")
    return failed


if __name__ == "__main__":
    main()
