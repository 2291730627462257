"""Cells that speak of what a profile lacks are left out of its pages, and no other cell needs them."""

import ast
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from test_faults import mount

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
sys.path.insert(0, str(ROOT / "tools"))

from execution import LEFT_OUT, shown  # noqa: E402


@pytest.fixture
def notebook(tmp_path) -> str:
    cells = [
        new_code_cell('profile = "tiny"  # str: a profile\nseeds = [0]', metadata={"tags": ["parameters"]}),
        new_markdown_cell("for everyone"),
        new_markdown_cell("of the guild", metadata={"tags": ["guild"]}),
        new_code_cell("'of the guild'", metadata={"tags": ["hide-input", "guild"]}),
        new_markdown_cell("of benchmarks", metadata={"tags": ["utility"]}),
    ]
    path = tmp_path / "page.ipynb"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return str(path)


def sources(notebook: str, **parameters) -> list[str]:
    return [cell.source for cell in shown(notebook, parameters).cells[1:]]


def test_cells_of_the_guild_stand_on_its_pages_only(notebook, tmp_path):
    assert sources(notebook) == sources(notebook, profile="tiny") == ["for everyone", "of the guild", "'of the guild'"]
    given = yaml.safe_load((ROOT / "profiles" / "tiny.yaml").read_text(encoding="utf-8"))
    given |= {"name": "mine", "policy": {"name": "files", "folder": "data/mine"}}
    given["utility"] = [{"task": "arc_challenge", "shots": 5}]
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(given), encoding="utf-8")
    assert sources(notebook, profile=str(mine)) == ["for everyone", "of benchmarks"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_cell_needs_a_name_from_one_that_may_be_left_out(path):
    cells = nbformat.read(path, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    left_out = [{*cell.metadata.get("tags", [])} & {*LEFT_OUT} for cell in code]
    names = [[node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)] for cell in code]
    made = {n.id for of, out in zip(names, left_out, strict=True) if out for n in of if isinstance(n.ctx, ast.Store)}
    kept = [n for of, out in zip(names, left_out, strict=True) if not out for n in of]
    bound = {n.id for n in kept if isinstance(n.ctx, ast.Store)}
    assert not (made - bound) & {n.id for n in kept}


@pytest.mark.slow
def test_a_disk_that_is_full(tmp_path):
    """While the notebook runs, or when its page is written: the last line says so, and a rerun makes the page."""
    cell = new_code_cell("print(200 * f'{1:80}')")
    nbformat.write(new_notebook(cells=[cell]), tmp_path / "given.ipynb")
    (disk := tmp_path / "disk").mkdir()
    if (made := mount("-t", "tmpfs", "-o", "size=8k", "tmpfs", disk)).returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {made.stderr.strip()}")
    tool, given = str(ROOT / "tools" / "execution.py"), tmp_path / "given.ipynb"
    try:
        for executed, page in ((disk / "executed.ipynb", tmp_path / "page.ipynb"), (tmp_path / "e", disk / "p.ipynb")):
            command = [sys.executable, tool, given, executed, page, "{}"]
            ran = subprocess.run(command, capture_output=True, text=True)
            full = executed if executed.parent == disk else page
            told = f"cannot write {full} (No space left on device); free some space"
            assert (ran.returncode, ran.stderr.splitlines()[-1]) == (1, told)
            assert not page.exists() and {*disk.iterdir()} <= {executed}
            assert mount("-o", "remount,size=1m", disk).returncode == 0
            assert subprocess.run(command, capture_output=True).returncode == 0 and page.exists()
            for path in disk.iterdir():
                path.unlink()
            assert mount("-o", "remount,size=8k", disk).returncode == 0
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.slow
def test_a_kernel_ends_with_its_papermill(tmp_path):
    """Where papermill is killed. ipykernel looks after the process that started it."""
    said = tmp_path / "pid"
    cell = f"import os, pathlib, time\npathlib.Path({str(said)!r}).write_text(str(os.getpid()))\ntime.sleep(300)"
    nbformat.write(new_notebook(cells=[new_code_cell(cell)]), tmp_path / "given.ipynb")
    command = [sys.executable, "-m", "papermill", "given.ipynb", "made.ipynb", "-k", "python3", "--no-progress-bar"]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (said.is_file() and said.read_text()) and time.monotonic() < until:
        time.sleep(0.2)
    kernel = psutil.Process(int(said.read_text()))
    running.kill()
    running.wait()
    _, alive = psutil.wait_procs([kernel], timeout=60)
    assert not alive
