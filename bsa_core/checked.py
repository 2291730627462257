"""Settings that people write: each field has a type, a range and a meaning, and whatever is wrong is one clear line.

pydantic checks them. Whole numbers do where a float is wanted; nothing else is converted, so that `"3"` and `true` are
no numbers. JSON Schema, which pydantic makes of a description, says what was expected of a field.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING
from datetime import date

from pydantic import ConfigDict, TypeAdapter, ValidationError, validate_call
from pydantic.dataclasses import dataclass

from bsa_core.progress import brief

CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)
KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "string": "text",
    "array": "a list",
    "non-empty array": "a non-empty list",
    "object": "a mapping",
}
# values in a file, and lists in lists; a few aliases of aliases can stand for more than there is memory
MOST, DEEPEST = 100_000, 50
TOLD = ("string", "array", "object")  # kinds of which messages say what they are for


def field(meaning: str, default=MISSING, bounds: tuple = (None, None), factory=MISSING, **more):
    """A field of settings. bounds: lowest and highest value. more: min_length, or later=True, see `keys.later`."""
    told = {"description": meaning, "ge": bounds[0], "le": bounds[1], **more}
    hashed = False if factory is dict else None  # a mapping has no hash, and what holds one can do without
    return dataclasses.field(default=default, default_factory=factory, hash=hashed, metadata=told)


def settings(section: str) -> Callable[[type], type]:
    """Class decorator: a frozen dataclass whose fields are checked. Messages name `section` in front of the field."""

    def decorate(cls: type) -> type:
        made = dataclass(frozen=True, config=CONFIG)(cls)
        made.__init__ = _clear(made, section)(made.__init__)
        return made

    return decorate


def call(function: Callable) -> Callable:
    """Decorator: the arguments are checked against their annotations, with the same messages."""
    return _clear(function, "")(validate_call(config=CONFIG)(function))


def read(kind: type, given, section: str = ""):
    """Settings of a class from what a file says; ValueError in one line that names the field."""
    _plain(given, section)
    with _clear(kind, section):
        return TypeAdapter(kind).validate_python(given)


def _plain(given, section: str) -> None:
    """ValueError where a file holds what YAML has and JSON has not: it could not be part of a key."""
    parts, seen = [((section,), given)], 0
    while parts:
        path, part = parts.pop()
        seen += 1
        if seen > MOST or len(path) > DEEPEST:
            raise ValueError(f"{_dotted(section)}: too many values, most by aliases (&, *); write them out")
        if isinstance(part, date | bytes | set):
            kind = "bytes" if isinstance(part, bytes) else "a set" if isinstance(part, set) else "a date"
            told = f"is {brief(str(part))}, which YAML reads as {kind}; write text in quotes"
            raise ValueError(f"{_dotted(*path)} {told}")
        if isinstance(part, dict):
            if odd := [name for name in part if not isinstance(name, str)]:
                raise ValueError(f"{_dotted(*path)}: the name {brief(odd[0])} is no text; write it in quotes")
            parts += [((*path, brief(name).strip("'")), value) for name, value in part.items()]
        elif isinstance(part, list | tuple):
            parts += [((*path, number), value) for number, value in enumerate(part)]


@contextmanager
def _clear(described: Callable, section: str) -> Iterator[None]:
    """A ValidationError of the block, or of the function decorated, becomes a ValueError in one line."""
    try:
        yield
    except ValidationError as error:
        raise ValueError(_told(error, described, section)) from None


def _told(error: ValidationError, described: Callable, section: str) -> str:
    """The first thing that is wrong; a misspelt field comes before the one that is then missing."""
    errors = error.errors(include_url=False)
    found = next((e for e in errors if e["type"].startswith("unexpected")), errors[0])
    if found["type"] == "value_error":  # raised by a check of several fields, which names them
        return str(found["ctx"]["error"])
    path = list(found["loc"])
    if found["type"] == "invalid_key" or path[-1:] == ["[key]"]:
        *above, name = [part for part in path if part != "[key]"]
        return f"{_dotted(section, *above)}: the name {brief(name)} is no text; write it in quotes"
    if path and isinstance(path[0], int):  # an argument by its place
        path[0] = list(inspect.signature(described).parameters)[path[0]]
    schema = TypeAdapter(described).json_schema()
    if found["type"].startswith("unexpected"):
        *above, name = path
        known = ", ".join(_part(schema, above)["properties"])
        return f"{_dotted(section, *above)}: unknown field {brief(name)}; expected {known}"
    value = "is missing" if found["type"].startswith("missing") else f"is {brief(found['input'])}"
    return f"{_dotted(section, *path)} {value}; expected {_expected(_part(schema, path), found['input'])}"


def _dotted(*path: str | int) -> str:
    """A field by its whole name: `tasks.sql.train`, `utility[0].shots`."""
    named = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return named.strip(".") or "profile"


def _part(schema: dict, path: list) -> dict:
    """What a JSON Schema says of the field at the end of a path."""
    part = {**schema, "description": ""}
    for name in path:
        below = part.get("properties", {}).get(name) or part.get("additionalProperties") or part["items"]
        part = resolved(schema, below)
    return part


def resolved(schema: dict, part: dict) -> dict:
    """A part of a JSON Schema together with the definition that it refers to."""
    part = {**part.get("anyOf", [{}])[0], **part}  # a value or None
    defined = schema.get("$defs", {}).get(part.get("$ref", "").rpartition("/")[2], {})
    return {**defined, "description": "", **part}  # what a class is says less than what its field is


def _expected(part: dict, found) -> str:
    """In words: what a JSON Schema allows."""
    if "enum" in part:
        return f"one of {', '.join(map(repr, part['enum']))}"
    kind, low, high = part["type"], part.get("minimum"), part.get("maximum")
    said = KINDS["non-empty " * bool(part.get("minItems")) + kind]
    if low is not None:
        said += f" from {low} to {high}" if high is not None else f", {low} or more"
    if kind == "number" and isinstance(found, str):
        return f"{said} (write 0.001, not 1e-3: YAML reads the latter as text)"
    return f"{said} ({part['description']})" if part["description"] and kind in TOLD else said
