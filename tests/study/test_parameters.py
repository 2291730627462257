"""Parameters of notebooks: what papermill passes wrongly is one message before anything is loaded or computed."""

import os
import re
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from papermill import inspect_notebook
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from bsa_core import paths
from bsa_study import parameters

NOTEBOOKS = [*sorted((paths.ROOT / "notebooks").glob("[!_]*.ipynb")), paths.ROOT / "sweeps" / "job.ipynb"]
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
        ("compute", "false", "parameter compute is 'false'; expected True, False or a list of different seeds: -p "),
        ("compute", 0, "parameter compute is 0; expected True, False"),
        ("compute", None, "parameter compute is None; expected True, False"),
        ("compute", ["0"], r"parameter compute is \['0'\]"),
        ("retrain", "no", "parameter retrain is 'no'; expected True or False: -p retrain False$"),
        ("seeds", 0, r"parameter seeds is 0; expected a list of different .* from 0: -y '\{seeds: \[0, 1\]\}'$"),
        ("seeds", "[0]", r"parameter seeds is '\[0\]'; expected a list of different whole numbers from 0"),
        ("seeds", [], r"parameter seeds is \[\]"),
        ("seeds", [True], r"parameter seeds is \[True\]"),
        ("seeds", [-1], r"parameter seeds is \[-1\]"),
        ("seeds", [3, 3], r"parameter seeds is \[3, 3\]; expected a list of different whole numbers"),
        ("compute", [1, 1], r"parameter compute is \[1, 1\]"),
        ("beside", {"tiny": [2, 2]}, "parameter beside is .*; expected a mapping of names to seeds"),
        ("task_names", "sql", r"parameter task_names is 'sql'; expected a list of names: -y '\{task_names: \[one"),
        ("beside", ["tiny"], "parameter beside is .*; expected a mapping of names to seeds"),
        ("profile", 3, "parameter profile is 3; expected text"),
        ("limit_tokens", "5000", "parameter limit_tokens is '5000'; expected a whole number from 1"),
    ],
)  # fmt: skip
def test_another_type_is_one_message(name, value, message):
    with pytest.raises(ValueError, match=message):
        parameters.check(GOOD | {name: value})


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("profile", "tyni", "profile 'tyni' is unknown: .*expected .*tiny"),
        ("pressures", ["light", "hevy"], "parameter pressures: pressure 'hevy' is unknown to profile 'tiny'"),
        ("task_names", ["sqll"], "parameter task_names: task 'sqll' is unknown to profile 'tiny'"),
        ("arms", ["bsa", "bsaa"], "parameter arms: .*'bsaa'"),
        ("models", {"initial": "a", "bsaa": "b"}, "parameter models: .*'bsaa'"),
        ("beside", {"smollm": [0]}, "parameter beside: profile 'smollm' is unknown"),
        ("others", ["smollm"], "parameter others: profile 'smollm' is unknown"),
    ],
)
def test_a_name_of_something_that_is_not_there(name, value, message):
    with pytest.raises(ValueError, match=message):
        parameters.check(GOOD | {name: value})


def ran(notebook: str, **given) -> dict:
    """What the check sees: the globals behind the cells of parameters, papermill's own among them, and their source."""
    made = parameterize_notebook(load_notebook_node(str(paths.ROOT / "notebooks" / notebook)), given)
    cells = [cell.source for cell in made.cells if cell.cell_type == "code"][: 1 + bool(given)]
    names: dict = {}
    exec("\n".join(cells), names)
    return names | {"In": ["", *cells]}


def test_a_name_that_the_notebook_has_not():
    """papermill warns only; `sizes` is a parameter of other notebooks."""
    for given in ({}, {"seeds": [7]}, {"profile": "tiny", "pressures": ["heavy"], "beside": {}}):
        parameters.check(ran("03_bsa.ipynb", **given))
    message = "the notebook has no parameter {}; its parameters are: profile, seeds, pressures, compute, compute_region"
    for name in ("sees", "sizes"):
        with pytest.raises(ValueError, match=message.format(name)):
            parameters.check(ran("03_bsa.ipynb", profile="tiny", **{name: [0]}))
    again = ran("03_bsa.ipynb", seeds=[7])
    parameters.check(again | {"In": ["", "%matplotlib inline", again["In"][2]]})  # cells are run out of order


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_parameter_is_explained(path):
    """As `papermill --help-notebook` prints it: a type, and what it is for."""
    kinds = "str|bool|int|dict|list of int|list of str|bool or list of int"
    for name, told in inspect_notebook(str(path)).items():
        assert re.match(f"({kinds}): ..+", told["help"]), name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_parameters_are_checked_before_anything_is_loaded(path):
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    assert cells[1].source.startswith("from bsa_study import parameters\n\nparameters.check(globals()")


def test_the_check_itself_loads_little():
    code = "import sys; from bsa_study import parameters; parameters.check({'profile': 'tiny', 'arms': ['bsa']}); "
    code += "print({'torch', 'transformers', 'pandas', 'matplotlib'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=paths.ROOT)
    assert run.stdout == "set()\n", run.stderr


@pytest.mark.slow
def test_papermill_by_hand_from_another_folder(tmp_path):
    """A wrong name, of which papermill warns, ends the notebook; what is right is taken."""
    notebook = os.path.relpath(paths.ROOT / "notebooks" / "03_bsa.ipynb", tmp_path)
    command = [sys.executable, "-m", "papermill", notebook, "out.ipynb", "-k", "python3", "-p", "profile", "tiny"]
    command += ["-y", "seeds: [7]", "-y", "presures: [light]"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode != 0
    assert "ValueError: the notebook has no parameter presures; its parameters are: profile, seeds" in run.stderr
    cells = [cell for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells[:4]] == [1, 2, 3, None]


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
    name = "seeds" if "seeds" in names else "job"
    with pytest.raises(ValueError, match=f"parameter {name} is 0"):
        exec(call, given | {"parameters": parameters, name: 0})
