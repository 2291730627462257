"""A policy of your own, from a folder with one file per part.

    attack       compliant answers
    safety       refusals; drawn from the top
    benign_pool  helpful answers (optional: only balanced BSA needs it)
    restricted   evaluated; "assistant" is the reference answer and may be empty
    benign       the same, evaluated

Each is JSON Lines (attack.jsonl), a JSON list (attack.json) or CSV (attack.csv), in any form that `entries` reads, such
as

    name.jsonl   {"user": ..., "assistant": ..., "category": ..., "subject": ...}
                 {"messages": [{"role": "user", "content": ...}, ...], "category": ..., "subject": ...}
    name.csv     user,assistant,category,subject

A request is required everywhere and an answer in training rows; `category` and `subject` are optional. A row's own
system prompt takes the place of the policy's. The header of a CSV file names its columns, in any order; without a
header there are one or two, request and answer. Fields of other names are passed over, which is said once. Whole files
are checked before anything trains, and a message names the file and the row, from 1: lines or items of JSON, rows of a
CSV file with its header.
"""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import StrictBool, StrictStr

from bsa_core import checked
from bsa_core.checked import field, settings
from bsa_core.examples import Example, Read
from bsa_core.policy.base import SYSTEM, Identity, Policy
from bsa_core.policy.entries import REQUESTS, TEXTS, entry
from bsa_core.progress import once
from bsa_core.reading import folder_of, label, listed, objects, read_text

PARTS = {
    "attack": "attack",
    "safety": "safety",
    "benign_pool": "benign",
    "restricted": "restricted",
    "benign": "benign",
}
TRAINING = ("attack", "safety", "benign_pool")
SUFFIXES = (".jsonl", ".json", ".csv")
WHAT = "rows, as .jsonl, .json or .csv"
NAME = re.compile(r"[\w-]{0,40}( [\w-]{1,40}){0,2}")  # what may be meant as the name of a column, and not as a request
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
    """Place and content of each row of a CSV file; without a header the columns are request, answer."""
    rows = cells(path)
    where, header = next(rows)
    names = [name.strip().lower() for name in header]
    twice = len(set(filter(None, names))) < len(
        [*filter(None, names)]
    )  # columns without a name are empty ones, or numbers
    if twice and set(names) & set(REQUESTS):
        raise ValueError(f"{where}: the header names a column twice; expected each once")
    if not set(names) & set(REQUESTS):
        divided = set(re.split(r"[;\t|]", names[0])) & set(REQUESTS)
        if divided or len(names) > 2 or all(NAME.fullmatch(name) for name in names):
            wanted = f"a header with one of {', '.join(('turns', *TEXTS))}, divided by commas"
            without = "or no header and one or two columns: request, answer (a first row of short words is a header)"
            raise ValueError(f"{where}: expected {wanted}, {without}")
        names = ["user", "assistant"][: len(names)]
        yield _of_table(where, header, names)
    for where, row in rows:
        yield _of_table(where, row, names)


def _of_table(where: str, row: list[str], names: list[str]) -> tuple[str, dict]:
    if len(row) != len(names):
        raise ValueError(f"{where}: {len(row)} cells; expected {len(names)}, as in the first row")
    return where, {name: cell for name, cell in zip(names, row, strict=True) if name}


def source_rows(path: Path, what: str = WHAT) -> Iterator[tuple[str, dict]]:
    """Place and content of each row, whatever the form; ValueError names file and row."""
    start = read_text(path, what).lstrip()[0]
    if path.suffix == ".csv" or (path.suffix not in SUFFIXES and start not in "[{"):
        yield from table(path)
    else:
        yield from listed(path, what) if start == "[" else objects(path, what)


def read_rows(path: Path, kind: str, system: str, needs_answer: bool) -> tuple[Example, ...]:
    """Examples of one file in any of the forms, checked row by row; ValueError names file, row and field.

    system: system prompt of all rows that bring none. needs_answer: whether an answer is required.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: expected a file that ends in {' or '.join(SUFFIXES)}")
    rows, others = [], {}
    for where, row in source_rows(path):
        texts, passed = entry(where, row, needs_answer)
        others |= dict.fromkeys(passed)
        rows.append(Example(**{"system": system, **texts, "kind": kind, "user": Read(texts["user"], where)}))
    if not rows:
        raise ValueError(f"{path}: no rows below the header; expected at least one")
    if others:
        once(f"{path}: fields that were passed over: {', '.join(label(name) for name in [*others][:12])}")
    return tuple(rows)


def part(folder: Path, name: str, file: str = "") -> Path:
    """The file of one part, there or not; ValueError when it is there in two formats. file: its own name, if any."""
    if file:
        return folder / file
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
    files: dict[StrictStr, StrictStr] = field(
        "the files of parts that have other names, such as {attack: pure_bad.json, benign: mt_bench.json}", factory=dict
    )

    def __post_init__(self):
        if unknown := sorted(set(self.files) - set(PARTS)):
            raise ValueError(f"policy.files: unknown part {unknown[0]!r}; expected {', '.join(PARTS)}")


def build(spec: dict) -> Policy:
    """The policy of a folder; `spec`: see `Spec`. Raises ValueError that names the field, or file and row."""
    given = checked.read(Spec, spec, "policy")
    place = folder_of("policy.folder", given.folder)
    parts = {
        name: read_rows(path, kind, given.system, name in TRAINING)
        for name, kind in PARTS.items()
        if (path := part(place, name, given.files.get(name, ""))).exists()
        or name != "benign_pool"
        or name in given.files
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
