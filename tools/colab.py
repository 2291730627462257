"""Say once where the project is kept, for the buttons of the book and for the notebook that they open on Colab.

    python tools/colab.py https://github.com/OWNER/NAME      (without an address: keep the one of _config.yml)

It writes `repository.url` of _config.yml, and tools/colab.ipynb with a cell for each chapter. Commit both.
"""

import re
import sys
from pathlib import Path

import nbformat
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "_config.yml"
NOTEBOOK = ROOT / "tools" / "colab.ipynb"
ADDRESS = re.compile(r"(?<=^repository:\n  url: )\"(.*)\"", re.M)

INTRODUCTION = """\
# The chapters on Colab, each at its smoke setting

Run the first cell, then that of your chapter. The first chapter also installs the locked versions in a Python 3.11 of
their own, which takes some minutes. What a chapter gives is shown below its cell."""
FIRST = """\
import subprocess
from pathlib import Path

import nbformat
from IPython.display import HTML, display
from nbconvert import HTMLExporter

ADDRESS = "{address}" or input("The address of the project, such as https://github.com/OWNER/NAME: ")
if not Path("bsa-book").exists():
    subprocess.run(["git", "clone", "--quiet", "--depth", "1", ADDRESS, "bsa-book"], check=True)


def chapter(name):
    !bsa-book/tools/colab.sh {{name}}
    page = nbformat.read(f"bsa-book/_build/colab/{{name}}.ipynb", as_version=4)
    display(HTML(HTMLExporter(template_name="basic").from_notebook_node(page)[0]))"""


def chapters() -> dict[str, str]:
    """Name of each notebook -> its title."""
    read = {path.stem: nbformat.read(path, as_version=4) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    first = {name: next(c for c in notebook.cells if c.cell_type == "markdown") for name, notebook in read.items()}
    return {name: cell.source.splitlines()[0].removeprefix("# ") for name, cell in first.items()}


def notebook(address: str) -> str:
    """The text of the notebook for Colab; the cell of a chapter has the chapter's name as its id."""
    cells = [
        new_markdown_cell(INTRODUCTION, id="introduction"),
        new_code_cell(FIRST.format(address=address), id="first"),
    ]
    for name, title in chapters().items():
        cells.append(new_code_cell(f'# {title}\nchapter("{name}")', id=name, metadata={"id": name}))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.writes(new_notebook(cells=cells, metadata=kernel)) + "\n"


def main(*given: str) -> None:
    config = CONFIG.read_text(encoding="utf-8")
    (address,) = given or [yaml.safe_load(config)["repository"]["url"]]
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        sys.exit(f"{address!r}: expected https://github.com/OWNER/NAME, as Colab opens notebooks from there only")
    CONFIG.write_text(ADDRESS.sub(f'"{address}"', config), encoding="utf-8")
    NOTEBOOK.write_text(notebook(address), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
