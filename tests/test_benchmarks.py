"""The benchmark for GPUs, in miniature on a CPU: every part's code runs, and what it writes is what it says."""

import json
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import arms  # noqa: E402
import gpu  # noqa: E402
import speed  # noqa: E402

from bsa_core import experiment, paths, profiles  # noqa: E402
from bsa_study.grids import headline  # noqa: E402

SMALL = replace(
    profiles.load("tiny"),
    pressures={"light": {"epochs": 1, "learning_rate": 0.003}},
    evaluation=profiles.Evaluation(restricted=22, benign=22, quiz=0),
)


def read(folder: Path, part: str) -> dict:
    return json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))


def test_speed():
    made = speed.measure(speed.TINY, "cpu", peak=0.5)
    rows = speed.training_rows(speed.TINY, 96)
    layer = 4 * 32 * 32 + 3 * 32 * 48 + 2 * 32
    parameters = 2 * layer + 32 + 96 * 32  # two blocks, the last norm, the output layer; without the embedding
    assert made["parameters"] == parameters + 96 * 32
    for part, tokens, flop in (
        ("lora", sum(len(row.ids) for row in rows), 4 * parameters),
        ("padded_trainer", sum(len(row.ids) for row in rows), 4 * parameters),
        ("decoding", 4 * 4, 2 * parameters),
    ):
        measured = made[part]
        assert measured["tokens"] == tokens and measured["peak_memory_gb"] is None
        assert measured["tokens_per_second"] == pytest.approx(tokens / measured["seconds"])
        assert measured["model_flop_utilization"] == pytest.approx(flop * tokens / measured["seconds"] / 0.5e12)
    ratio = made["padded_trainer"]["seconds"] / made["lora"]["seconds"]
    assert made["padded_trainer_over_lora_seconds"] == pytest.approx(ratio)


def test_the_full_size_is_the_published_one():
    rows = speed.training_rows(speed.FULL, 32000)
    lengths = [len(row.ids) for row in rows]
    assert len(rows) == 111 and 190 < sum(lengths) / 111 < 210 and max(lengths) <= 300
    prompts = speed.requests(speed.FULL, 32000)
    assert len(prompts) == 128 and all(row[:180] == prompts[0][:180] for row in prompts)
    assert speed.FULL.shape == {} and speed.FULL.padded == 512


@pytest.mark.parametrize(
    "name, peak", [("NVIDIA H100 80GB HBM3", 989.0), ("NVIDIA H100 PCIe", 756.0), ("NVIDIA Other", None)]
)
def test_the_peak_of_a_gpu_is_known_by_its_name(monkeypatch, name, peak):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: name)
    assert speed.peak_of("cuda") == peak and speed.peak_of("cpu") is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("shipped")


@pytest.fixture(scope="module")
def committed(folder) -> list[dict]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", folder)
        return experiment.execute(headline.headline(SMALL, [0, 1, 2], ["light"]), SMALL)


def test_the_same_records_do_not_differ(committed):
    made = arms.compared(committed, committed, SMALL, ["light"])
    assert made["inside"] == made["of"] == len(made["metrics"]) > 25
    assert made["largest_difference"] == 0.0 and made["verdicts_differ"] == 0 and len(made["verdicts"]) == 9


def test_what_differs_is_told(committed):
    """An attack that broke nothing: its ASR differs by what it was, and the verdict on it turns."""
    here = deepcopy(committed)
    for record in here:
        if record["run"]["defense"] == "none" and record["run"]["training"]:
            record["metrics"]["plain"]["asr"]["value"] = 0.0
            for metric in ("asr", "asr_content"):
                record["outcomes"]["plain"][metric] = "0" * 22
    made = arms.compared(committed, here, SMALL, ["light"])
    (row,) = [
        row
        for row in made["metrics"]
        if (row["pressure"], row["defense"], row["condition"], row["metric"]) == ("light", "none", "plain", "asr")
    ]
    assert row["here"] == 0.0 and row["difference"] == -row["committed"] < -0.9 and not row["inside"]
    assert made["largest_difference"] == pytest.approx(-row["difference"]) and made["inside"] == made["of"] - 2
    (verdict,) = [row for row in made["verdicts"] if row["question"] == "the attack breaks the aligned model"]
    assert verdict["committed"] == "yes" != verdict["here"] and made["verdicts_differ"] >= 1


def test_a_missing_record_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "execute", lambda runs, profile: [])
    places = tmp_path / "here", tmp_path / "there"
    with pytest.raises(ValueError, match=r"there/tiny holds no record of initial-seed0, which this is to be"):
        arms.measure(SMALL, ["light"], [0], *places, 60.0, lambda result: None)


def test_arms_go_seed_by_seed_as_long_as_there_is_time(committed, folder, monkeypatch):
    """Each seed's records are found, none computed; without time the first seed alone is compared, and kept."""
    monkeypatch.setattr(experiment, "execute", experiment.found)
    places = folder, folder
    for seconds, seeds in ((60.0, [[0], [0, 1]]), (0.0, [[0]])):
        kept = []
        made = arms.measure(SMALL, ["light"], [0, 1], *places, seconds, kept.append)
        assert [result["seeds"] for result in kept] == seeds and made == kept[-1]
        assert made["largest_difference"] == 0.0 and made["profile"] == "tiny"


def test_without_cuda(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match=r"torch sees no CUDA device.*--tiny runs the same code on a CPU"):
        gpu.main([])


def test_a_part_that_fails_or_hangs_leaves_its_record_and_the_others(tmp_path, monkeypatch, capsys):
    options = gpu.parsed(["--tiny", "--out", str(tmp_path)])
    monkeypatch.setitem(gpu.PARTS, "speed", lambda options: 1 / 0)
    gpu.run_part("speed", options)
    assert read(tmp_path, "speed")["failed"] == "ZeroDivisionError: division by zero"
    assert gpu.start_part("arms", options, 0.2)["failed"] == "stopped after 0 s"
    assert read(tmp_path, "arms")["part"] == "arms" and read(tmp_path, "speed")["wall_seconds"] >= 0

    def start(part: str, options, seconds: float) -> dict:
        return {"wall_seconds": seconds, **({"failed": "broken"} if part == "speed" else {})}

    monkeypatch.setattr(gpu, "start_part", start)
    assert gpu.main(["--tiny", "--minutes", "3", "--out", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "tests: at most 150 s" in said and "speed: broken" in said and "arms: done (1" in said
    assert gpu.main(["--tiny", "--only", "arms", "--out", str(tmp_path)]) == 0


@pytest.mark.slow
def test_the_command_in_miniature(tmp_path):
    """One part as the command starts it, in a process of its own; the others in this one."""
    given = ["--tiny", "--seeds", "0", "--out", str(tmp_path)]
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *given, "--only", "speed"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    for part in ("tests", "stacks", "arms"):
        gpu.run_part(part, gpu.parsed(given))
    parts = {part: read(tmp_path, part) for part in gpu.PARTS}
    assert not [part for part in parts.values() if "failed" in part]
    assert all(part["environment"]["device"] == "cpu" and part["wall_seconds"] > 0 for part in parts.values())
    assert (
        parts["tests"]["tests"] >= 3 and parts["tests"]["passed"] + parts["tests"]["skipped"] == parts["tests"]["tests"]
    )
    assert parts["speed"]["padded_trainer_over_lora_seconds"] > 0
    (stack,) = parts["stacks"]["stacks"]
    assert stack["runs"] == 2 and min(stack["training_ratio"], stack["answers_ratio"]) > 0
    assert stack["losses_differ"] < 1e-4 and stack["answers_differ"] == 0
    assert parts["arms"]["seeds"] == [0] and parts["arms"]["largest_difference"] == 0.0
    assert len(list((tmp_path / "tiny-cpu" / "tiny").glob("*.json"))) == 5
