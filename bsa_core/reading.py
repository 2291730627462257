"""Files that people supply, checked row by row: text, JSON Lines, JSON lists, YAML.

Rows count from 1. No message quotes the text of a row.
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from bsa_core import paths


def below(folder: Path) -> list[Path]:
    """All files in a folder and below it, sorted. Links are followed; what they make appear twice is there once."""
    found, seen = {}, set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above, or to one that is below as well
            folders.clear()
            continue
        seen.add(real)
        for path in (Path(place, name) for name in names):
            if path.is_file():
                found.setdefault(os.path.realpath(path), path)
    return sorted(found.values())


def quotes(said: str, turns: list[dict]) -> bool:
    """Whether another program's message repeats a conversation: 20 letters in a row, whatever is between them."""
    said, *asked = (re.sub(r"\W+", "", text.lower()) for text in (said, *(turn["content"] for turn in turns)))
    return any(text[i : i + 20] in said for text in asked if len(text) >= 8 for i in range(max(1, len(text) - 19)))


def label(name) -> str:
    """A field's name or a role for messages: quoted only if it is a short word, since it may be the text of a row."""
    if re.fullmatch(r"\S{0,24}", str(name)):
        return str(name)
    return f"(a text of {len(name)} characters)" if isinstance(name, str) else f"(of type {type(name).__name__})"


def read_text(path: Path, what: str = "rows, as .jsonl or .csv") -> str:
    """The text of a file; ValueError with the fix when it cannot be read, is not UTF-8 or is empty.

    what: what the file holds, for the message.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark in front
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; expected a file with {what}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, row {line}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    if not text.strip():
        raise ValueError(f"{path}: the file is empty; expected {what}")
    return text


class Doubled(dict):
    """An object of JSON in which one name stands twice: `name`."""

    def __init__(self, pairs: list[tuple]):
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.name = max(names, key=names.count)


def _object(pairs: list[tuple]) -> dict:
    made = dict(pairs)
    return made if len(made) == len(pairs) else Doubled(pairs)


def parsed(where: str, text: str):
    """The content of a JSON text; ValueError that says where it is broken. `an_object` looks for names twice."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        raise ValueError(f"{where}: not valid JSON ({error.msg} at {line}column {error.colno})") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{where}: a number of too many digits, or too many brackets inside each other") from None


def objects(path: Path, what: str = "rows, as .jsonl or .csv") -> Iterator[tuple[str, dict]]:
    """Place and content of each row of a JSON Lines file; blank lines are skipped."""
    for number, line in enumerate(read_text(path, what).split("\n"), start=1):  # text may hold other line separators
        if line.strip():
            yield an_object(f"{path}, row {number}", parsed(f"{path}, row {number}", line))


def an_object(where: str, row) -> tuple[str, dict]:
    """Place and content of a row; ValueError when it is no JSON object, a name stands twice or a text is damaged."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a JSON object, found {type(row).__name__}")
    parts = [("", row)]
    while parts:
        field, part = parts.pop()
        if isinstance(part, Doubled):
            raise ValueError(f"{where}: field {label(part.name)!r} is there twice; keep one of them")
        if isinstance(part, str) and not encodable(part):
            damaged = f"field {label(field)!r} holds half of a character (such as \\ud83d alone)"
            raise ValueError(f"{where}: {damaged if encodable(field) else 'a name'}; write it whole, or leave it out")
        if isinstance(part, dict):
            parts += [(field or name, below) for name, value in part.items() for below in (name, value)]
        elif isinstance(part, list):
            parts += [(field, below) for below in part]
    return where, row


def encodable(text: str) -> bool:
    """Whether a text can be written as UTF-8: JSON may hold one half of a surrogate pair."""
    return text.isascii() or text == text.encode(errors="ignore").decode()


def listed(path: Path, what: str) -> Iterator[tuple[str, dict]]:
    """Place and content of each row of a file that is one JSON list of objects."""
    rows = parsed(str(path), read_text(path, what))
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected {what}, found {type(rows).__name__}")
    if not rows:
        raise ValueError(f"{path}: the list is empty; expected at least one row")
    for number, row in enumerate(rows, start=1):
        yield an_object(f"{path}, row {number}", row)


class _Once(yaml.SafeLoader):
    """YAML in which a name that stands twice in one mapping is an error, and half of a character too; the library takes
    the last name, and leaves the halves of what JSON writes as two escapes."""

    def compose_scalar_node(self, anchor):
        node = super().compose_scalar_node(anchor)
        try:
            node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            where = f"line {node.start_mark.line + 1}"
            raise ValueError(
                f"{where}: a text holds half of a character (such as \\ud83d alone); write it whole"
            ) from None
        return node

    def compose_mapping_node(self, anchor):
        node = super().compose_mapping_node(anchor)
        seen = set()
        for name, _ in node.value:
            if name.value in seen and isinstance(name, yaml.ScalarNode):
                raise ValueError(f"line {name.start_mark.line + 1}: {label(name.value)!r} is there twice; keep one")
            seen.add(str(name.value))
        return node


def from_yaml(path: Path, what: str):
    """What a YAML file holds; ValueError that names the file where it cannot be read, or a name stands twice.

    what: what the file holds, for the message.
    """
    text = read_text(path, what)
    try:
        return _Once(text).get_single_data()  # builds plain data only, as every SafeLoader
    except Exception as error:  # of all kinds: the library meets dates, numbers and tags that it cannot read
        said = " ".join(str(error).split())[:300]
        raise ValueError(f"{path}: not valid YAML ({said})") from None


def text_of(where: str, row: dict, field: str, needed: bool = True) -> str:
    """The text of one field of a row; ValueError, which never quotes it, when it is none, or is needed and blank."""
    value = row.get(field)
    if isinstance(value, str) and (value.strip() or not needed):
        return value
    found = "blank" if isinstance(value, str) else f"of type {type(value).__name__}" if field in row else "missing"
    raise ValueError(f"{where}: field {field!r} is {found}; expected {'non-empty ' if needed else ''}text")


def folder_of(field: str, path: str) -> Path:
    """The folder that a field names, found from wherever the program runs; ValueError when there is none."""
    found = paths.given(path)
    if not found.is_dir():
        raise ValueError(f"{field}: {found} is not a folder")
    return found
