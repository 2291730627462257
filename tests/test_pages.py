"""Code on the pages can be read: lines that fit, and one folded cell that sets a notebook up."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = sorted((ROOT / "book").glob("*.md"))
WIDTH = 88  # characters that a page shows of a line of code
UNCUT = re.compile(r"https?://|^\{.*\}$")  # an address, or a row of JSON Lines
HIDDEN = {"remove-cell", "remove-input"}


def cells(path: Path) -> list:
    """The code cells of a notebook that its page shows, folded ones included."""
    found = nbformat.read(path, as_version=4).cells
    return [cell for cell in found if cell.cell_type == "code" and not HIDDEN & set(cell.metadata.get("tags", []))]


def blocks(path: Path) -> Iterator[str]:
    """The code of a Markdown page: what stands between fences, and the files that it includes."""
    for language, code in re.findall(r"^ *```(\S*)[^\n]*\n(.*?)^ *```$", path.read_text("utf-8"), re.M | re.S):
        if not language.startswith("{"):
            yield code
    for name in re.findall(r"\{literalinclude\} (\S+)", path.read_text("utf-8")):
        yield (path.parent / name).read_text("utf-8")


def too_long(code: str) -> list[str]:
    return [line for line in code.splitlines() if len(line) > WIDTH and not UNCUT.search(line)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_code_of_notebooks_fits_the_page(path):
    assert [line for cell in cells(path) for line in too_long(cell.source)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_code_of_pages_fits_the_page(path):
    assert [line for code in blocks(path) for line in too_long(code)] == []


def test_blocks_are_found():
    """A fence that the pattern does not know would let every line pass."""
    found = {path.stem: list(blocks(path)) for path in PAGES}
    assert len(found["rerun"]) > 10 and len(found["add_a_policy"]) > 7
    assert any("class" in code or "def " in code for code in found["add_a_defense"])
    assert too_long("x" * 89) and not too_long("x" * 88) and not too_long("curl https://" + "x" * 88)


def imports(source: str) -> bool:
    """Whether a cell imports at its top level."""
    return any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.parse(source).body)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_set_up_in_one_folded_cell(path):
    found = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    setting_up = [set(cell.metadata.get("tags", [])) for cell in found if imports(cell.source)]
    assert len(setting_up) == 1 and setting_up[0] & {"hide-input", "remove-input"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_sentences_are_told_of_keeps_its_name(path):
    """A second cell that gives the name to something else would leave the chapter without its sentences."""
    found = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    told = {name for source in found for name in re.findall(r"sentences\.shown\(\"\w+\", (\w+)\)", source)}
    nodes = [node for source in found for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)]
    given = [node.id for node in nodes if isinstance(node.ctx, ast.Store)]
    assert all(given.count(name) == 1 for name in told)
