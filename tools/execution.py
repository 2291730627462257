"""Execute a notebook with papermill and make a page of the book of it, in one process.

    python tools/execution.py NOTEBOOK EXECUTED PAGE PARAMETERS      (PARAMETERS: a JSON object)

Cells that speak of what a profile lacks are left out: see LEFT_OUT.
papermill itself only warns of a parameter that the notebook does not know, and then runs the defaults. EXECUTED is
written while the notebook runs, so that a failed one can be read there; PAGE is written whole, at the end. Where one of
them cannot be written, the last line says so.
"""

import ast
import json
import logging
import re
import sys
from pathlib import Path

import nbformat
from papermill import execute_notebook, inspect_notebook

from bsa_core import profiles
from bsa_core.writing import RecordError, named, write_whole

# Tag of a cell -> whether a profile has what the cell speaks of. Such a cell only shows: no other one uses its names.
LEFT_OUT = {
    "guild": lambda profile: profile.policy["name"] == "guild",  # the guild's nouns, what the shipped records say
    "leaks": lambda profile: profile.policy["name"] != "guild",  # which refuses to load with any
    "utility": lambda profile: bool(profile.utility),
}
PROGRESS = re.compile(r"^.*\[bsa\].*\n?", flags=re.MULTILINE)


def check(notebook: str, parameters: dict) -> None:
    """Stop with a message if the notebook's parameters cell lacks one of `parameters`."""
    known = inspect_notebook(notebook)
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        found = ", ".join(known) or "none"
        sys.exit(f"{notebook} has no parameter {', '.join(unknown)}; its parameters are: {found}")


def shown(notebook: str, parameters: dict) -> nbformat.NotebookNode:
    """The notebook without the cells that LEFT_OUT leaves out for the profile of the parameters, or the notebook's."""
    read, known = nbformat.read(notebook, as_version=4), inspect_notebook(notebook)
    if "profile" in known:
        profile = profiles.load(parameters.get("profile") or ast.literal_eval(known["profile"]["default"]))
        absent = {tag for tag, has in LEFT_OUT.items() if not has(profile)}
        read.cells = [cell for cell in read.cells if not absent & {*cell.metadata.get("tags", [])}]
    return read


def publish(executed: str, page: str) -> None:
    """Write the executed notebook as a page of the book, whole or not at all.

    Out go papermill's records (they hold absolute paths and times) and progress lines. The cell of default
    parameters is not shown, the one of the values used is folded; figures keep their colours in the dark.
    """
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        tags = cell.metadata.get("tags", [])
        for tag, style in (("parameters", "remove-cell"), ("injected-parameters", "hide-input")):
            if tag in tags and style not in tags:
                cell.metadata.tags = [*tags, style]
        if image := cell.metadata.get("mystnb", {}).get("image"):
            image.setdefault("classes", "dark-light")  # or the dark theme would filter the figure's colours
        if cell.cell_type == "code":
            cell.outputs = [output for output in map(without_progress, cell.outputs) if output is not None]
    write_whole(Path(page), f"{nbformat.writes(notebook)}\n".encode(), "")


def without_progress(output):
    """The output without its progress lines on stderr; None if nothing is left of it."""
    if output.output_type == "stream" and output.name == "stderr":
        output.text = PROGRESS.sub("", "".join(output.text))
        if not output.text.strip():
            return None
    return output


def main(notebook: str, executed: str, page: str, parameters: str) -> None:
    given = json.loads(parameters)
    check(notebook, given)
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # what the cells print, as they print it
    read, how = shown(notebook, given), {"kernel_name": "python3", "log_output": True, "progress_bar": False}
    try:
        with named(Path(executed), ""):  # an error of a cell is none of these
            execute_notebook(read, executed, given, **how)
        publish(executed, page)
    except RecordError as error:
        sys.exit(error.strerror)


if __name__ == "__main__":
    main(*sys.argv[1:])
