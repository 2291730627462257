"""The parameters of the notebooks, checked by type before anything is computed.

papermill passes `-p compute false` as the text "false", which Python takes for true, and `-p seeds 0` as a number.
Lists and mappings are given as YAML: `papermill -y "{seeds: [0, 1]}"`.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field, StrictBool, StrictInt, StrictStr, TypeAdapter, ValidationError

PASSED = (bool, int, float, str, list, dict, type(None))  # by papermill
Count = Annotated[StrictInt, Field(ge=0)]
Counts = Annotated[list[Count], Field(min_length=1)]
# type of a parameter -> what it is called, and how papermill is told
KINDS = {
    StrictStr: ("text", "-p {0} tiny"),
    StrictBool: ("True or False", "-p {0} False"),
    Annotated[StrictInt, Field(ge=1)]: ("a whole number from 1", "-p {0} 100"),
    StrictBool | list[Count]: ("True, False or a list of seeds", "-p {0} False, or -y '{{{0}: [0, 1]}}'"),
    Counts: ("a list of whole numbers from 0", "-y '{{{0}: [0, 1]}}'"),
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
    """ValueError for the first parameter of another type than its name has everywhere.

    given: the globals of a notebook; what stands under another name, or is nothing that papermill passes, is no
    parameter. lists: parameters that are lists of names in this notebook.
    """
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
