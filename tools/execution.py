"""What stands around papermill: check the parameters before it, make the executed notebook a page after it.

    python tools/execution.py check NOTEBOOK PARAMETERS      (PARAMETERS: a JSON object)
    python tools/execution.py publish EXECUTED PAGE

papermill itself only warns of a parameter that the notebook does not know, and then runs the defaults.
"""

import json
import os
import re
import sys

import nbformat
from papermill import inspect_notebook

PROGRESS = re.compile(r"^.*\[bsa\].*\n?", flags=re.MULTILINE)


def check(notebook: str, parameters: str) -> None:
    """Stop with a message if the notebook's parameters cell lacks one of `parameters`."""
    known = inspect_notebook(notebook)
    unknown = sorted(set(json.loads(parameters)) - set(known))
    if unknown:
        found = ", ".join(known) or "none"
        sys.exit(f"{notebook} has no parameter {', '.join(unknown)}; its parameters are: {found}")


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
    os.makedirs(os.path.dirname(os.path.abspath(page)), exist_ok=True)
    nbformat.write(notebook, page + ".part")
    os.replace(page + ".part", page)


def without_progress(output):
    """The output without its progress lines on stderr; None if nothing is left of it."""
    if output.output_type == "stream" and output.name == "stderr":
        output.text = PROGRESS.sub("", "".join(output.text))
        if not output.text.strip():
            return None
    return output


if __name__ == "__main__":
    {"check": check, "publish": publish}[sys.argv[1]](*sys.argv[2:])
