"""What a job asks a cluster for: by hand from published sizes, and enough for what a run really took."""

from pathlib import Path

import pytest
import yaml

from bsa_core import paths
from bsa_study.sweeps import jobs, needs

GB = 1e9 / 2**20  # in SLURM's megabytes


def asked(folder: Path, profile: str, known=(), change=lambda told: None, **grid) -> dict:
    """What the only job of a sweep asks for. change: of the profile's YAML."""
    told = yaml.safe_load((paths.PROFILES / f"{profile}.yaml").read_text(encoding="utf-8"))
    change(told)
    (folder / "profile.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    path = folder / "sweep.yaml"
    sweep = {"profiles": [str(folder / "profile.yaml")], "seeds": [0], "grid": {n: [v] for n, v in grid.items()}}
    path.write_text(yaml.safe_dump(sweep), encoding="utf-8")
    (job,) = jobs.read(str(path))
    return needs.of(job, known)


def test_a_small_model_needs_no_gpu_and_the_memory_of_a_process(tmp_path):
    """A run of `tiny` peaks at 0.65 GB, by its records."""
    of = asked(tmp_path, "tiny", defense="bsa")
    assert of["gpu"] == 0 and 1000 < of["mem_mb"] < 4000 and 15 <= of["runtime"] <= 30


def test_a_large_one_needs_a_gpu_and_memory_for_its_weights_on_their_way(tmp_path):
    of = asked(tmp_path, "llama2-7b-chat", defense="bsa")
    assert of["gpu"] == 1
    assert of["mem_mb"] == pytest.approx((3 + 1.5 * 13.48) * GB, rel=0.01)
    assert 15 < of["runtime"] < 120, "a few minutes on an H100, and four times that on a slower one"


def test_training_all_weights_keeps_float32_copies_and_moments_in_the_memory_of_the_cpu(tmp_path):
    of = asked(tmp_path, "llama2-7b-chat", defense="none", method="full")
    assert of["gpu"] == 1 and of["mem_mb"] == pytest.approx((3 + 1.5 * (2 + 12) * 6.738) * GB, rel=0.01)


def test_a_profile_that_stays_on_the_cpu_needs_the_memory_of_the_whole_run_there(tmp_path):
    of = asked(tmp_path, "smollm2-135m", change=lambda told: told["compute"].update(device="cpu"), defense="bsa")
    on_gpu = asked(tmp_path, "smollm2-135m", defense="bsa")
    assert (of["gpu"], on_gpu["gpu"]) == (0, 1) and of["mem_mb"] > on_gpu["mem_mb"] + 1000


def test_a_model_of_unknown_shape_gets_a_gpu_and_hours(tmp_path):
    """Its configuration is on the hub, which nobody asks for an estimate."""

    def other(told):
        told["model"] = {"source": "hub", "name": "somebody/a-model-nobody-has-seen"}

    of = asked(tmp_path, "llama2-7b-chat", change=other, defense="bsa")
    assert of["gpu"] == 1 and of["runtime"] == needs.UNKNOWN
