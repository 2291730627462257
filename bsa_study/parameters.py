"""The parameters of the notebooks: names, types and values, checked in front of all other imports.

papermill passes `-p compute false` as the text "false", which Python takes for true, and `-p seeds 0` as a number.
Lists and mappings are given as YAML: `papermill -y "{seeds: [0, 1]}"`. Of a name that the notebook does not know
papermill only warns, and runs the defaults.
"""

import ast
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, StrictBool, StrictInt, StrictStr, TypeAdapter, ValidationError

from bsa_core import profiles
from bsa_core.arms import defenses


def _once(values: list[int]) -> list[int]:
    if len(set(values)) < len(values):
        raise ValueError("a number is there twice")
    return values


INJECTED = "# Parameters"  # how the cell begins that papermill puts behind the one of the defaults
PASSED = (bool, int, float, str, list, dict, type(None))  # by papermill
Count = Annotated[StrictInt, Field(ge=0)]
Seeds = Annotated[list[Count], AfterValidator(_once)]
Counts = Annotated[Seeds, Field(min_length=1)]
# type of a parameter -> what it is called, and how papermill is told
KINDS = {
    StrictStr: ("text", "-p {0} tiny"),
    StrictBool: ("True or False", "-p {0} False"),
    Annotated[StrictInt, Field(ge=1)]: ("a whole number from 1", "-p {0} 100"),
    StrictBool | Seeds: ("True, False or a list of different seeds", "-p {0} False, or -y '{{{0}: [0, 1]}}'"),
    Counts: ("a list of different whole numbers from 0", "-y '{{{0}: [0, 1]}}'"),
    list[StrictStr]: ("a list of names", "-y '{{{0}: [one, two]}}'"),
    dict[StrictStr, Counts]: ("a mapping of names to seeds", "-y '{{{0}: {{tiny: [0, 1]}}}}'"),
    dict[StrictStr, StrictStr]: ("a mapping of names to names", "-y '{{{0}: {{bsa: some-model}}}}'"),
}
TEXT, SWITCH, NUMBER, SEEDS_OR_SWITCH, NUMBERS, NAMES, SEEDS_BY_NAME, NAMES_BY_NAME = KINDS
PARAMETERS = {
    **dict.fromkeys(("profile", "secret_file", "sweep", "job"), TEXT),
    **dict.fromkeys(("compute_tasks", "compute_region", "compute_large", "retrain", "shipped"), SWITCH),
    **dict.fromkeys(("limit_requests", "limit_tokens"), NUMBER),
    **dict.fromkeys(("seeds", "sizes"), NUMBERS),
    **dict.fromkeys(("pressures", "task_names", "arms", "others"), NAMES),
    "compute": SEEDS_OR_SWITCH,
    "beside": SEEDS_BY_NAME,
    "models": NAMES_BY_NAME,
}


def check(given: dict, lists: Sequence[str] = ()) -> None:
    """ValueError for the first parameter that the notebook does not know, that is of another type than its name has
    everywhere, or that names a profile, pressure, task or defense that there is not.

    given: the globals of a notebook; what stands under another name, or is nothing that papermill passes, is no
    parameter. lists: parameters that are lists of names in this notebook.
    """
    _known(given)
    for name, kind in PARAMETERS.items():
        value = given.get(name)
        if name not in given or not isinstance(value, PASSED):
            continue
        kind = NAMES if name in lists else kind
        try:
            TypeAdapter(kind).validate_python(value)
        except ValidationError:
            called, how = KINDS[kind]
            raise ValueError(f"parameter {name} is {value!r}; expected {called}: {how.format(name)}") from None
    _named(given)


def _known(given: dict) -> None:
    """ValueError for a name that papermill put in and no cell before has: IPython keeps the source of what it ran."""
    cells = [str(source) for source in given.get("In", ())]
    put_in = next((place for place, source in enumerate(cells) if source.startswith(INJECTED)), 0)
    own = [name for source in cells[:put_in] for name in _assigned(source)]
    if own and (unknown := [name for name in _assigned(cells[put_in]) if name not in own]):
        raise ValueError(f"the notebook has no parameter {unknown[0]}; its parameters are: {', '.join(own)}")


def _assigned(source: str) -> list[str]:
    """The names that lines of a cell give a value."""
    try:
        lines = ast.parse(source).body
    except SyntaxError:  # IPython's own words
        return []
    return [of.id for line in lines if isinstance(line, ast.Assign) for of in line.targets if isinstance(of, ast.Name)]


def _named(given: dict) -> None:
    """ValueError for the first name of something that there is not."""
    if not isinstance(profile := given.get("profile"), str):
        return
    scale = profiles.load(profile)
    known = {"pressures": scale.pressured, "task_names": scale.task, "arms": defenses.get, "models": _served}
    for parameter, look_up in {**known, "beside": profiles.load, "others": profiles.load}.items():
        names = given.get(parameter)
        for name in names if isinstance(names, list | dict) else ():
            try:
                look_up(name)
            except ValueError as error:
                raise ValueError(f"parameter {parameter}: {error}") from None


def _served(arm: str) -> None:
    if arm != "initial":
        defenses.get(arm)
