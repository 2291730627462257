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
def _git() -> tuple[str | None, bool | None]:
    """Commit and whether the working tree differs from it; None outside a git checkout."""

    def ask(*words: str) -> str | None:
        try:
            return subprocess.run(
                ["git", "-C", str(paths.ROOT), *words], capture_output=True, text=True, check=True, timeout=30
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    status = ask("status", "--porcelain", "--untracked-files=no")
    return ask("rev-parse", "HEAD"), None if status is None else bool(status)


def provenance(device: str, dtype: str, threads: int) -> dict:
    """What a run ran on: package versions, device, git commit and whether the tree was modified."""
    commit, dirty = _git()
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "transformers", "peft")},
        "machine": platform.machine(),
        "device": device,
        "dtype": dtype,
        "threads": threads,
        "git_commit": commit,
        "git_dirty": dirty,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
