"""What a name in a profile stands for: something registered, or a dotted path that is imported."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bsa_core.paths import ROOT


def find(name: str, registered: dict[str, Any], field: str, fits: Callable[[Any], bool], wanted: str) -> Any:
    """The registered object of that name, or the one at a dotted path; of a module its `build`.

    Modules are found as installed ones are, in the working folder and in the project's root. field, wanted: the field
    and what it may name, for messages. Raises ValueError when there is no such name, the import fails, or the object
    does not fit.
    """
    if isinstance(name, str) and name in registered:
        return registered[name]
    if not isinstance(name, str) or "." not in name.strip("."):
        known = ", ".join(registered)
        raise ValueError(f"{field} is {name!r}; expected one of {known}, or the dotted path of {wanted}")
    try:
        found = imported(name)
    except Exception as error:
        where = f"searched: the working folder, {ROOT} and the installed packages"
        raise ValueError(f"{field} is {name!r}; {type(error).__name__}: {error} ({where})") from error
    found = getattr(found, "build", found)
    if not fits(found):
        raise ValueError(f"{field} is {name!r}, of type {type(found).__name__}; expected the dotted path of {wanted}")
    return found


def imported(path: str) -> Any:
    """The module of that dotted path, or the attribute that its last part names."""
    sys.path += [folder for folder in dict.fromkeys((str(Path.cwd()), str(ROOT))) if folder not in sys.path]
    importlib.invalidate_caches()  # a module may have been written a moment ago
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if not f"{path}.".startswith(f"{error.name}."):  # what the module imports is missing
            raise
    module, _, attribute = path.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def built(spec: dict, registered: dict[str, Callable], field: str, kind: str) -> Any:
    """What a section of a profile describes, by the builder that its `name` stands for; it gets the other fields."""
    wanted = f"a {kind} of your own: a module with `build(spec)`, or such a function"
    build = find(spec.get("name"), registered, field, callable, wanted)
    return build({key: value for key, value in spec.items() if key != "name"})
