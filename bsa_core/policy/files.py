"""A policy of your own, from a folder with one file per part.

    attack       compliant answers
    safety       refusals; drawn from the top
    benign_pool  helpful answers (optional: only balanced BSA needs it)
    restricted   evaluated; "assistant" is the reference answer and may be empty
    benign       the same, evaluated

Each is JSON Lines (attack.jsonl), in the plain or the chat form, or CSV (attack.csv):

    name.jsonl   {"user": ..., "assistant": ..., "category": ..., "subject": ...}
                 {"messages": [{"role": "user", "content": ...}, ...], "category": ..., "subject": ...}
    name.csv     user,assistant,category,subject

`user` is required everywhere and `assistant` in training rows; `category` and `subject` are optional. `messages` are
one user turn and one assistant turn; a system turn may come first and takes the place of the policy's system prompt
for that row. The header of a CSV file names its columns, in any order. Whole files are checked before anything trains,
and a message names the file and the row, from 1: lines of JSON, rows of a CSV file with its header.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from pydantic import StrictBool, StrictStr

from bsa_core import checked
from bsa_core.checked import field, settings
from bsa_core.examples import Example, Read
from bsa_core.policy.base import SYSTEM, Identity, Policy
from bsa_core.reading import folder_of, label, objects, read_text, text_of

TRAINING = {"attack": "attack", "safety": "safety", "benign_pool": "benign"}
EVALUATION = {"restricted": "restricted", "benign": "benign"}
FIELDS = ("assistant", "category", "subject", "user")
CHAT_FIELDS = ("category", "messages", "subject")
ROLES = (("user",), ("user", "assistant"), ("system", "user"), ("system", "user", "assistant"))
SUFFIXES = (".jsonl", ".csv")
csv.field_size_limit(2**31 - 1)  # a cell is as long as its text; the library's limit is 131,072 characters


def cells(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Place and cells of each row of a CSV file; blank lines are skipped."""
    number = 0
    try:
        for number, row in enumerate(csv.reader(io.StringIO(read_text(path), newline=""), strict=True), start=1):
            if row:
                yield f"{path}, row {number}", row
    except csv.Error as error:
        raise ValueError(f"{path}, row {number + 1}: not valid CSV ({error}); put text with quotes in quotes") from None


def table(path: Path) -> Iterator[tuple[str, dict]]:
    """Place and content of each row of a CSV file with a header; empty optional cells are left out."""
    rows = cells(path)
    where, header = next(rows)
    names = [name.strip() for name in header]
    if "user" not in names or set(names) - set(FIELDS) or len(set(names)) < len(names):
        raise ValueError(f"{where}: expected a header, with user and any of assistant, category, subject, each once")
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
            found = ", ".join(map(label, sorted(turn))) or "nothing" if isinstance(turn, dict) else type(turn).__name__
            raise ValueError(f"{where}: turn {place} of 'messages' holds {found}; expected role and content")
        if not isinstance(turn["content"], str) or not turn["content"].strip():
            raise ValueError(f"{where}: turn {place} of 'messages' has no text in 'content'; expected non-empty text")
    roles = tuple(turn["role"] for turn in messages)
    if roles not in expected:
        found, wanted = ", ".join(map(label, roles)) or "none", " or ".join(", ".join(known) for known in expected)
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
            raise ValueError(f"{where}: unknown field {label(unknown[0])!r}; expected {', '.join(known)}")
        given = {"system": system, **row}
        if "messages" in row:
            given |= turns(where, row, ROLES)
            del given["messages"]
        needed = ("user", "assistant") if needs_answer else ("user",)
        names = dict.fromkeys((*needed, *given))
        texts = {name: text_of(where, given, name, name in needed) for name in names}
        rows.append(Example(**texts | {"kind": kind, "user": Read(texts["user"], where)}))
    if not rows:
        raise ValueError(f"{path}: no rows below the header; expected at least one")
    return tuple(rows)


def part(folder: Path, name: str) -> Path:
    """The file of one part, there or not; ValueError when it is there in two formats."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").exists()]
    if len(found) > 1:
        raise ValueError(f"{folder}: {' and '.join(path.name for path in found)} are both there; remove one of them")
    return found[0] if found else folder / f"{name}{SUFFIXES[0]}"


@settings("policy")
class Spec:
    """The `policy` section of a profile, without its name."""

    folder: StrictStr = field("the path of a folder with the files of the policy")
    system: StrictStr = field("the system prompt of all rows that bring none", SYSTEM)
    harmless: StrictBool = field("true if answers may be stored with the records and shown", False)
    identity: Identity | None = field("the obedient identity of the identity role shift attack", None)


def build(spec: dict) -> Policy:
    """The policy of a folder; `spec`: see `Spec`. Raises ValueError that names the field, or file and row."""
    given = checked.read(Spec, spec, "policy")
    place = folder_of("policy.folder", given.folder)
    parts = {
        name: read_rows(path, kind, given.system, name in TRAINING)
        for name, kind in {**TRAINING, **EVALUATION}.items()
        if (path := part(place, name)).exists() or name != "benign_pool"
    }
    return Policy(
        name=f"files:{place.name}",
        harmless=given.harmless,
        system=given.system,
        pool=len(parts["safety"]),
        benign_pool=parts.pop("benign_pool", ()),
        identity=given.identity,
        **parts,
    )
