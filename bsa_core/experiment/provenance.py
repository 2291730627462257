"""What a run ran on: versions, device, commit, memory."""

import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version

from bsa_core import paths


def peak_memory_mb() -> float:
    """Peak memory in MB: of the GPU when one is in use, else of this process so far."""
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


@cache
def _git(*words: str) -> str | None:
    """What git says in the project's folder; None outside a checkout."""
    try:
        command = ["git", "-C", str(paths.ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def provenance(device: str, dtype: str, threads: int) -> dict:
    """What a run ran on: package versions, device, git commit and whether the tree was modified."""
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "peft")},
        "machine": platform.machine(),
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "git_commit": _git("rev-parse", "HEAD"),
        "git_dirty": None if changes is None else bool(changes),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
