"""Parameters of notebooks: what papermill passes as another type is one message before anything is computed."""

import re

import nbformat
import pandas as pd
import pytest

from bsa_core import paths
from bsa_study import parameters

NOTEBOOKS = sorted((paths.ROOT / "notebooks").glob("[!_]*.ipynb"))
GOOD = {
    "profile": "tiny", "seeds": [0, 1], "sizes": [0, 100], "pressures": [], "task_names": ["sql"], "compute": [0],
    "compute_tasks": False, "retrain": True, "beside": {"smollm2-135m": [0]}, "models": {}, "secret_file": "",
    "limit_tokens": 5, "arms": pd.DataFrame(), "rows": "not a parameter",
}  # fmt: skip


def test_parameters_of_the_right_types():
    parameters.check(GOOD)
    parameters.check(GOOD | {"compute": False, "beside": ["smollm2-135m"]}, lists=["beside"])


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("compute", "false", "parameter compute is 'false'; expected True, False or a list of seeds: -p compute False"),
        ("compute", 0, "parameter compute is 0; expected True, False"),
        ("compute", None, "parameter compute is None; expected True, False"),
        ("compute", ["0"], r"parameter compute is \['0'\]"),
        ("retrain", "no", "parameter retrain is 'no'; expected True or False: -p retrain False$"),
        ("seeds", 0, r"parameter seeds is 0; expected a list of whole numbers from 0: -y '\{seeds: \[0, 1\]\}'$"),
        ("seeds", "[0]", r"parameter seeds is '\[0\]'; expected a list of whole numbers from 0"),
        ("seeds", [], r"parameter seeds is \[\]"),
        ("seeds", [True], r"parameter seeds is \[True\]"),
        ("seeds", [-1], r"parameter seeds is \[-1\]"),
        ("task_names", "sql", r"parameter task_names is 'sql'; expected a list of names: -y '\{task_names: \[one"),
        ("beside", ["tiny"], "parameter beside is .*; expected a mapping of names to seeds"),
        ("profile", 3, "parameter profile is 3; expected text"),
        ("limit_tokens", "5000", "parameter limit_tokens is '5000'; expected a whole number from 1"),
    ],
)  # fmt: skip
def test_another_type_is_one_message(name, value, message):
    with pytest.raises(ValueError, match=message):
        parameters.check(GOOD | {name: value})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_notebook_has_its_parameters_checked(path):
    """With the defaults, and so that the cell behind the parameters' refuses another type."""
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    first = next(cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    given: dict = {}
    exec(first.source, given)
    names = set(given) - {"__builtins__"}
    assert names <= set(parameters.PARAMETERS)
    (call,) = re.findall(r"^parameters\.check\(.*\)$", cells[cells.index(first) + 1].source, re.M)
    exec(call, given | {"parameters": parameters})
    with pytest.raises(ValueError, match="parameter seeds is 0"):
        exec(call, given | {"parameters": parameters, "seeds": 0})
