"""A sweep on a real SLURM that loses its node and then its user: every record is that of a local run."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import slurm
import yaml

from bsa_core import paths, records
from bsa_study.sweeps import jobs, results

JOBS = 12
QUICK = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"]


@pytest.fixture
def sweep(tmp_path) -> Path:
    """The file of a sweep of JOBS jobs, each of seconds; what it leaves in the project's folder is removed."""
    profile = yaml.safe_load((paths.PROFILES / "tiny.yaml").read_text(encoding="utf-8"))
    profile |= {"name": "on-a-cluster", "evaluation": {"restricted": 11, "benign": 11, "quiz": 0}, "tasks": {}}
    del profile["region"], profile["task_region"]
    (tmp_path / "profile.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    path = tmp_path / f"test-of-a-cluster-{os.getpid()}.yaml"
    grid = {"defense": ["none", "bsa"], "n_attack": [10], "epochs": [1]}
    asked = {"profiles": [str(tmp_path / "profile.yaml")], "seeds": [*range(JOBS // 2)], "grid": grid}
    path.write_text(yaml.safe_dump(asked), encoding="utf-8")
    yield path
    shutil.rmtree(paths.ROOT / jobs.folder(str(path)), ignore_errors=True)


@pytest.fixture
def cluster(tmp_path):
    if missing := slurm.missing():
        pytest.skip(f"no SLURM here: {', '.join(missing)} not found; Debian has them in slurm-wlm and munge")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("the package snakemake-executor-plugin-slurm is not installed")
    folder = tmp_path / "slurm"
    folder.mkdir()
    with slurm.Cluster(folder) as started:
        yield started


class Sweep:
    """`make sweep ON=slurm` in a session of its own, as on a login node."""

    def __init__(self, path: Path, cluster: slurm.Cluster, said: Path) -> None:
        command = [sys.executable, "tools/sweep.py", str(path), "--on", "slurm", "--", *QUICK]
        self.said = said
        with said.open("w") as file:
            self.process = subprocess.Popen(
                command, env=cluster.environment, cwd=paths.ROOT, stdout=file, stderr=file, start_new_session=True
            )

    def text(self) -> str:
        return self.said.read_text(errors="replace")[-6000:]

    def wait_for(self, what: str, test: Callable[[], object]) -> object:
        """`slurm.wait_for` while the sweep goes on; AssertionError with what it said where it ends before."""

        def tried():
            assert self.process.poll() is None, self.text()
            return test()

        return slurm.wait_for(what, tried, 600)

    def kill(self) -> None:
        """All of its processes at once, as when a login node goes down."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self) -> "Sweep":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()


@pytest.mark.slow
def test_a_sweep_that_lost_its_node_and_then_its_user_ends_with_the_records_of_a_local_run(
    cluster, sweep, tmp_path, monkeypatch
):
    def there() -> list[Path]:
        return sorted((tmp_path / "results").glob("on-a-cluster/*.json"))

    with Sweep(sweep, cluster, tmp_path / "first.log") as first:
        first.wait_for("two records", lambda: len(there()) >= 2)
        lost = first.wait_for("jobs at work", lambda: cluster.jobs("RUNNING"))
        cluster.kill_node()
        first.wait_for("a node that is down", lambda: "down" in cluster.ask("sinfo", "-h", "-o", "%T"))
        assert set(lost) <= set(cluster.jobs("PENDING")), "SLURM starts again what ran there"
        before = len(there())
        assert before < JOBS
        cluster.start_node()
        first.wait_for("two records more", lambda: len(there()) >= before + 2)
        first.kill()
    cluster.ask("scancel", *cluster.jobs("PENDING"))  # what runs may end, and counts
    slurm.wait_for("an empty queue", lambda: not cluster.jobs("PENDING,RUNNING,COMPLETING"), 300)
    kept = {path: path.read_bytes() for path in there()}
    assert before + 2 <= len(kept) < JOBS

    with Sweep(sweep, cluster, tmp_path / "second.log") as second:
        assert second.process.wait(900) == 0, second.text()
    assert f"{JOBS - len(kept)} of {JOBS} jobs to compute" in second.said.read_text()
    assert {path: path.read_bytes() for path in kept} == kept, "nothing is computed twice"

    monkeypatch.setattr(paths, "RESULTS", tmp_path / "local")
    results.compute(jobs.read(str(sweep)), shipped=False)
    local = sorted((tmp_path / "local").glob("on-a-cluster/*.json"))
    assert len(local) == JOBS and [path.name for path in there()] == [path.name for path in local]
    for ours, theirs in zip(there(), local, strict=True):
        assert outcome(ours) == outcome(theirs)


def outcome(path: Path) -> dict:
    """All of a record but when, where and how fast: key, losses, metrics, outcomes, digests of rows and answers."""
    return {name: value for name, value in records.read(path).items() if name not in ("cost", "environment", "digest")}


@pytest.mark.parametrize(
    "told, here, said",
    [
        ("", "", "expected slurm, or the path of a folder"),
        ("executor: nowhere\n", "", "pip install snakemake-executor-plugin-nowhere"),
        ("executor: slurm\n", "", "no sbatch here"),
        ("executor: slurm\n", "sbatch", ""),
    ],
)
def test_a_cluster_that_cannot_be_used_is_named_before_anything_is_computed(told, here, said, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(paths.ROOT / "tools")
    import sweep as tool

    monkeypatch.setattr(tool, "find_spec", lambda name: None if name.endswith("nowhere") else True)
    monkeypatch.setattr(tool.shutil, "which", lambda name: name if name == here else None)
    folder = tmp_path / "mine"
    folder.mkdir()
    if told:
        (folder / "config.yaml").write_text(told)
    if not said:
        assert tool.cluster(str(folder)) == folder
        return
    with pytest.raises(ValueError, match=f"--on .*{said}"):
        tool.cluster(str(folder))
