"""Files that people supply, checked row by row: text, JSON Lines, JSON lists, CSV, and the forms that policies read.

    name.jsonl   {"user": ..., "assistant": ..., "category": ..., "subject": ...}
                 {"messages": [{"role": "user", "content": ...}, ...], "category": ..., "subject": ...}
    name.csv     user,assistant,category,subject

`user` is required everywhere and `assistant` in training rows; `category` and `subject` are optional. `messages` are
one user turn and one assistant turn; a system turn may come first and takes the place of the policy's system prompt
for that row. The header of a CSV file names its columns, in any order. Rows count from 1: lines of JSON, rows of a CSV
file with its header.
"""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from bsa_core import paths
from bsa_core.examples import Example

FIELDS = ("assistant", "category", "subject", "user")
CHAT_FIELDS = ("category", "messages", "subject")
ROLES = (("user",), ("user", "assistant"), ("system", "user"), ("system", "user", "assistant"))
SUFFIXES = (".jsonl", ".csv")


def read_text(path: Path, what: str = "rows, as .jsonl or .csv") -> str:
    """The text of a file; ValueError with the fix when it cannot be read, is not UTF-8 or is empty.

    what: what the file holds, for the message.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a byte order mark in front
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; expected {what}") from None
    except IsADirectoryError:
        raise ValueError(f"{path}: expected a file with {what}, found a folder") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); expected {what}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(f"{path}, row {line}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None
    if not text.strip():
        raise ValueError(f"{path}: the file is empty; expected {what}")
    return text


def parsed(where: str, text: str):
    """The content of a JSON text; ValueError that says where it is broken."""
    try:
        return json.loads(text)
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
    """Place and content of a row; ValueError when it is no JSON object."""
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a JSON object, found {type(row).__name__}")
    return where, row


def listed(path: Path, what: str) -> Iterator[tuple[str, dict]]:
    """Place and content of each row of a file that is one JSON list of objects."""
    rows = parsed(str(path), read_text(path, what))
    if not isinstance(rows, list):
        raise ValueError(f"{path}: expected {what}, found {type(rows).__name__}")
    if not rows:
        raise ValueError(f"{path}: the list is empty; expected at least one row")
    for number, row in enumerate(rows, start=1):
        yield an_object(f"{path}, row {number}", row)


def text_of(where: str, row: dict, field: str, needed: bool = True) -> str:
    """The text of one field of a row; ValueError, which never quotes it, when it is none, or is needed and blank."""
    value = row.get(field)
    if isinstance(value, str) and (value.strip() or not needed):
        return value
    found = "blank" if isinstance(value, str) else f"of type {type(value).__name__}" if field in row else "missing"
    raise ValueError(f"{where}: field {field!r} is {found}; expected {'non-empty ' if needed else ''}text")


def folder(field: str, path: str) -> Path:
    """The folder that a field names, found from wherever the program runs; ValueError when there is none."""
    found = paths.given(path)
    if not found.is_dir():
        raise ValueError(f"{field}: {found} is not a folder")
    return found


def cells(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Place and cells of each row of a CSV file; blank lines are skipped."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    number = 0
    while True:
        number += 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(f"{path}, row {number}: not valid CSV ({error}); put text with quotes in quotes") from None
        if row:
            yield f"{path}, row {number}", row


def table(path: Path) -> Iterator[tuple[str, dict]]:
    """Place and content of each row of a CSV file with a header; empty optional cells are left out."""
    rows = cells(path)
    where, header = next(rows)
    names = [name.strip() for name in header]
    for name in names:
        if name not in FIELDS or names.count(name) > 1:
            what = "stands there twice" if name in FIELDS else "is unknown"
            raise ValueError(f"{where}: column {name[:40]!r} {what}; expected a header of {', '.join(FIELDS)}")
    if "user" not in names:
        raise ValueError(f"{where}: column 'user' is missing; found {', '.join(names)}")
    for where, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{where}: {len(row)} cells; expected {len(names)}, as in the header")
        yield where, {name: cell for name, cell in zip(names, row, strict=True) if cell or name == "user"}


def turns(where: str, row: dict, expected: tuple[tuple[str, ...], ...]) -> dict[str, str]:
    """Role -> text of the row's `messages`; ValueError unless their roles are, in order, one of `expected`."""
    messages = row.get("messages")
    if not isinstance(messages, list):
        raise ValueError(f"{where}: field 'messages' is of type {type(messages).__name__}; expected a list of turns")
    for place, turn in enumerate(messages, start=1):
        if not isinstance(turn, dict) or set(turn) != {"role", "content"}:
            found = ", ".join(sorted(turn)) or "nothing" if isinstance(turn, dict) else type(turn).__name__
            raise ValueError(f"{where}: turn {place} of 'messages' holds {found}; expected role and content")
        if not isinstance(turn["content"], str) or not turn["content"].strip():
            raise ValueError(f"{where}: turn {place} of 'messages' has no text in 'content'; expected non-empty text")
    roles = tuple(turn["role"] for turn in messages)
    if roles not in expected:
        found, wanted = ", ".join(map(str, roles)) or "none", " or ".join(", ".join(known) for known in expected)
        raise ValueError(f"{where}: the roles of 'messages' are {found}; expected {wanted}")
    return {turn["role"]: turn["content"] for turn in messages}


def read_rows(path: Path, kind: str, system: str, needs_answer: bool) -> tuple[Example, ...]:
    """Examples of one file in any of the forms, checked row by row; ValueError names file, row and field.

    system: system prompt of all rows that bring none. needs_answer: whether `assistant` is required.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file that ends in {' or '.join(SUFFIXES)}")
    rows = []
    for where, row in table(path) if path.suffix == ".csv" else objects(path):
        known = CHAT_FIELDS if "messages" in row else FIELDS
        if unknown := sorted(set(row) - set(known)):
            raise ValueError(f"{where}: unknown field {unknown[0]!r}; expected {', '.join(known)}")
        given = {"system": system, **row}
        if "messages" in row:
            given |= turns(where, row, ROLES)
            del given["messages"]
        needed = ("user", "assistant") if needs_answer else ("user",)
        names = dict.fromkeys((*needed, *given))
        rows.append(Example(kind=kind, **{name: text_of(where, given, name, name in needed) for name in names}))
    if not rows:
        raise ValueError(f"{path}: no rows below the header; expected at least one")
    return tuple(rows)
