"""What a run ran on: versions, device, commit, memory."""

import platform
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Event, Thread

import psutil

from bsa_core import paths

SAMPLED = 0.02  # seconds between two looks at the memory of this process


@contextmanager
def watched() -> Iterator[Callable[[], dict]]:
    """A function that says what the block took so far: what belongs to `cost` in a record.

    peak_memory_mb: of all GPUs in use together, else of this process, which is sampled.
    decoding_batch_size: only where memory was too short for the profile's, the smallest since the last call.
    """
    import torch

    from bsa_core.models import memory

    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
    process, done = psutil.Process(), Event()
    peak = [process.memory_info().rss]

    def sample() -> None:
        while not done.wait(SAMPLED):
            peak[0] = max(peak[0], process.memory_info().rss)

    def cost() -> dict:
        used = sum(map(torch.cuda.max_memory_allocated, gpus)) if gpus else max(peak[0], process.memory_info().rss)
        fewest = memory.CUT.pop("requests", None)
        return {"peak_memory_mb": used / 1e6, **({"decoding_batch_size": fewest} if fewest else {})}

    for gpu in gpus:
        torch.cuda.reset_peak_memory_stats(gpu)
    memory.CUT.clear()
    Thread(target=sample, daemon=True).start()
    try:
        yield cost
    finally:
        done.set()


@cache
def _git(*words: str) -> str | None:
    """What git says in the project's folder; None outside a checkout."""
    try:
        command = ["git", "-C", str(paths.ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu() -> str:
    """The model of the CPU, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def provenance(device: str, dtype: str) -> dict:
    """What a run ran on: package versions, device, CPU, threads in use, git commit and whether the tree was modified.

    Kinds of CPU, and their capability as torch has it ("AVX2"), differ in the last digits of sums.
    """
    import torch

    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "peft")},
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": device,
        **({"gpu": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}),
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
