"""The two houses: who imports whom, and every module on a page of the reference."""

import re
import subprocess
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(path for house in ("bsa_core", "bsa_study") for path in (ROOT / house).rglob("*.py"))


def named(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_contracts_of_imports_are_kept(monkeypatch):
    """Those of pyproject.toml: the core never imports the study, and each room only those below it."""
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0


def test_every_module_stands_in_the_reference():
    pages = "".join((ROOT / "book" / f"api_{house}.md").read_text(encoding="utf-8") for house in ("core", "study"))
    told = set(re.findall(r"automodule:: (\S+)", pages))
    assert told == {named(path) for path in MODULES if path.stem != "__main__"}


def test_a_module_says_what_it_is_for_and_can_be_read_in_one_go():
    texts = {named(path): path.read_text(encoding="utf-8") for path in MODULES}
    assert not [name for name, text in texts.items() if not text.startswith('"""')]
    assert not [name for name, text in texts.items() if len(text.splitlines()) > 300]


@pytest.mark.parametrize("name", ["out.ipynb", "bsa-0.ipynb", "03_bsa.executed.ipynb", "notebooks/x.executed.ipynb"])
def test_git_ignores_executed_notebooks_wherever_a_command_puts_them(name):
    """They may show what a policy that is not harmless holds; the chapters themselves are not ignored."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    ignored = ["git", "-C", str(ROOT), "check-ignore", "-q", "--no-index"]
    assert subprocess.run([*ignored, name]).returncode == 0
    assert subprocess.run([*ignored, "notebooks/03_bsa.ipynb"]).returncode == 1
