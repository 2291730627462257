"""Write requirements.lock and requirements-gemma3-270m.lock from what pip resolves in a clean environment.

    python3.11 tools/lock.py        (or: make lock)

The first file holds the exact version of everything that pyproject.toml's package, `book` and `test` extras
bring in; the second holds only what the `gemma3-270m` extra adds. Local versions are cut off, such that a
machine with a GPU gets its own build of the release that is `torch==2.13.0+cpu` here.
"""

import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# {what}\n# Written by make lock from pyproject.toml on Python {python}; do not edit by hand.\n"


def freeze(python: Path) -> list[str]:
    """The environment's packages as sorted `name==version` lines, pip itself left out."""
    command = [python, "-m", "pip", "freeze", "--all", "--exclude", "pip"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return sorted((line.partition("+")[0] for line in lines), key=str.lower)


def write(path: Path, what: str, lines: list[str]) -> None:
    """Replace the lock file `path` and say so."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    path.write_text(HEADER.format(what=what, python=python) + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"wrote {path.name}: {len(lines)} packages")


def main() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    with tempfile.TemporaryDirectory(prefix="bsa-lock-") as folder:
        venv.create(folder, with_pip=True, clear=True)
        python = Path(folder, "bin", "python")
        install = [python, "-m", "pip", "install", "--no-compile", "--progress-bar", "off"]
        subprocess.run([*install, *project["dependencies"], *extras["book"], *extras["test"]], check=True)
        base = freeze(python)
        subprocess.run([*install, *extras["gemma3-270m"]], check=True)
        more = [line for line in freeze(python) if line not in base]
    write(ROOT / "requirements.lock", "Exact versions for the package, the book and the tests.", base)
    write(
        ROOT / "requirements-gemma3-270m.lock",
        "What the profile gemma3-270m needs on top of requirements.lock.",
        more,
    )


if __name__ == "__main__":
    main()
