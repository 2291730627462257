"""`make sweep` on the example that ships: what is computed, what a failure leaves, the same records each time."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import psutil
import pytest

from bsa_core import records
from bsa_study.sweeps import jobs

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def sweep(tmp_path):
    """The example under a name of the test's own; what it leaves in the project's folder is removed."""
    path = tmp_path / f"example-of-a-test-{os.getpid()}.yaml"
    shutil.copy(ROOT / "sweeps" / "example.yaml", path)
    yield path
    shutil.rmtree(ROOT / jobs.folder(str(path)), ignore_errors=True)


def run(sweep: Path, results: Path, *options: str) -> subprocess.CompletedProcess:
    """From another folder, with the path of the file from there."""
    command = [sys.executable, str(ROOT / "tools" / "sweep.py"), sweep.name, *options]
    env = os.environ | {"BSA_RESULTS": str(results)}
    return subprocess.run(command, cwd=sweep.parent, env=env, capture_output=True, text=True, timeout=600)


def reproducible(results: Path) -> dict[str, str]:
    """Of every record in a folder what the same key gives again, bit for bit."""
    names = ("key", "label", *records.REPRODUCIBLE)
    read = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in results.glob("*/*-seed0-*.json")}
    return {name: json.dumps({of: record.get(of) for of in names}) for name, record in read.items()}


def test_the_same_records_with_one_and_with_two_jobs_at_a_time(sweep, tmp_path):
    """The second time a record is damaged: its job fails, the other goes on, and the command goes on behind it."""
    asked = jobs.read(str(sweep))
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()

    listed = run(sweep, first, "--dry-run")
    assert listed.returncode == 0, listed.stderr
    assert all(f"{job.name}  2 of 2 runs, " in listed.stdout for job in asked)
    assert f"{sweep.stem}: 2 of 2 jobs to compute, " in listed.stdout and not list(first.iterdir())

    done = run(sweep, first, "--cores", "2")
    assert done.returncode == 0, done.stderr
    assert f"{sweep.stem}: 2 of 2 jobs done, about 0 s left" in done.stderr and "2 of 2 runs" in done.stderr
    table = done.stdout[done.stdout.index("profile") :].splitlines()
    assert len(table) == 1 + 2 + 4 and "benign exact match" in table[0] and "defense bsa, epochs 2" in table[-1]
    folder = ROOT / jobs.folder(str(sweep))
    for job in asked:
        notebook = nbformat.read(folder / "jobs" / f"{job.name}.ipynb", 4)
        assert job.name in "".join(cell.source for cell in notebook.cells)
    again = run(sweep, first)
    assert again.returncode == 0 and "0 of 2 jobs to compute" in again.stdout and "Execute" not in again.stderr

    damaged = next(first.glob("*/none-*-e2-*.json"))
    copy = second / damaged.relative_to(first)
    copy.parent.mkdir()
    copy.write_bytes(damaged.read_bytes()[:200])
    broken = run(sweep, second, "--cores", "1")
    assert broken.returncode == 1
    assert f"failed: {asked[0].name}: ValueError: {copy}: " in broken.stdout
    assert f"_build/sweeps/{sweep.stem}/logs/{asked[0].name}.log" in broken.stdout
    assert "defense bsa, epochs 2" in broken.stdout and not (folder / "jobs" / f"{asked[0].name}.ipynb").exists()
    copy.unlink()
    mended = run(sweep, second, "--cores", "1")
    assert mended.returncode == 0, mended.stdout + mended.stderr
    assert "1 of 2 jobs to compute" in mended.stdout
    made = reproducible(first)
    assert len(made) == 4 and reproducible(second) == made


def test_a_killed_sweep_leaves_nothing_that_holds_the_lock(sweep, tmp_path):
    """Snakemake ends with the process that reads what it says; the jobs at work end when they have something to say."""
    command = [sys.executable, str(ROOT / "tools" / "sweep.py"), str(sweep)]
    env = os.environ | {"BSA_RESULTS": str(tmp_path / "results")}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        while "Select jobs to execute" not in (line := started.stderr.readline()):
            assert line, "it ended before any job"
        of_snakemake = psutil.Process(started.pid).children()
        started.kill()
    assert len(of_snakemake) == 1 and not psutil.wait_procs(of_snakemake, timeout=60)[1]
    again = run(sweep, tmp_path / "results", "--cores", "1", "--", "--dry-run")
    assert "at work in this folder" not in again.stderr and "2 of 2 jobs to compute" in again.stdout


def test_a_mistake_in_the_file_is_one_line(sweep, tmp_path):
    sweep.write_text("profiles: [tiny]\nseeds: [0]\ngrid: {defence: [bsa]}\n", encoding="utf-8")
    wrong = run(sweep, tmp_path / "results")
    assert wrong.returncode == 1 and not wrong.stdout
    assert wrong.stderr.startswith(f"{sweep}: grid.defence: unknown field 'defence'; expected one of defense, ")
    assert len(wrong.stderr.splitlines()) == 1
