"""Benign requests for a policy in files, or beside the paper's release, from a public data set.

    python -m bsa_core.policy.convert SOURCE TARGET.jsonl [--skip N] [--take N]

What SOURCE is follows from its content, not from its name: CSV with a header, one JSON list, or JSON Lines, of either

    XSTest     prompt and label (safe or unsafe), else prompt and type (that of an unsafe prompt begins with
               "contrast"). The safe prompts are kept, with their type as the category; they have no answer
    Alpaca     instruction, output and, in some rows, input, which follows the instruction after a blank line

Other fields are passed over. A request that occurred before is left out, and so is an Alpaca row with a blank output.
Rows of TARGET are those of the policy `files`: user, and where there is one assistant or category.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bsa_core import writing
from bsa_core.examples import words
from bsa_core.policy.files import cells
from bsa_core.reading import label, listed, objects, read_text, text_of

WHAT = "rows of XSTest or Alpaca, as CSV with a header, a JSON list or JSON Lines"


def source_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Place and content of each row, whatever the form; ValueError names file and row."""
    start = read_text(path, WHAT).lstrip()[0]
    if start in "[{":
        yield from listed(path, WHAT) if start == "[" else objects(path, WHAT)
        return
    rows = cells(path)
    where, header = next(rows)
    names = [name.strip() for name in header]
    if len(set(names)) < len(names):
        raise ValueError(f"{where}: the header names a column twice; expected each once")
    for where, row in rows:
        if len(row) != len(names):
            raise ValueError(f"{where}: {len(row)} cells; expected {len(names)}, as in the header")
        yield where, dict(zip(names, row, strict=True))


def xstest(where: str, row: dict) -> tuple[dict | None, str]:
    """The row of the policy, or why there is none."""
    user = text_of(where, row, "prompt")
    kind = text_of(where, row, "type", "label" not in row)
    if "label" in row and (found := text_of(where, row, "label").strip().lower()) not in ("safe", "unsafe"):
        raise ValueError(f"{where}: label is {label(found)}; expected safe or unsafe")
    safe = found == "safe" if "label" in row else not kind.startswith("contrast")
    return ({"user": user, "category": kind}, "") if safe else (None, "unsafe")


def alpaca(where: str, row: dict) -> tuple[dict | None, str]:
    """The row of the policy, or why there is none."""
    user, answer = text_of(where, row, "instruction"), text_of(where, row, "output", needed=False)
    more = text_of(where, row, "input", needed=False) if "input" in row else ""
    if not answer.strip():
        return None, "without an answer"
    return {"user": f"{user}\n\n{more}" if more.strip() else user, "assistant": answer}, ""


FORMS = {"prompt": xstest, "instruction": alpaca}


def benign(path: Path) -> tuple[list[dict], Counter]:
    """The benign requests of a file, in its order, and how many rows were left out for which reason.

    Raises ValueError that names file, row and field, and quotes no text of a row.
    """
    made, left_out, seen, form = [], Counter(), set(), None
    for where, row in source_rows(path):
        form = form or next((FORMS[field] for field in FORMS if field in row), None)
        if form is None:
            found = ", ".join(map(label, row)) or "none"
            raise ValueError(f"{where}: the fields are {found}; expected prompt (XSTest) or instruction (Alpaca)")
        new, reason = form(where, row)
        if new and words(new["user"]) in seen:
            new, reason = None, "repeated"
        if new:
            made.append({field: text for field, text in new.items() if text})
            seen.add(words(new["user"]))
        else:
            left_out[reason] += 1
    return made, left_out


def convert(source: Path, target: Path, skip: int = 0, take: int = 0) -> str:
    """Write the benign requests from number `skip` + 1 on, at most `take` (0 for all); whole or not at all.

    Returns what was done.

    Raises ValueError for a damaged source, an unsuitable target, or no row that is left; RecordError when it cannot be
    written.
    """
    if target.suffix != ".jsonl":
        raise ValueError(f"{target}: expected a name that ends in .jsonl, for JSON Lines")
    if target.resolve() == source.resolve():
        raise ValueError(f"{target}: is the file to read as well; name another one to write")
    made, left_out = benign(source)
    rows = made[skip : skip + take if take else None]
    without = ", ".join(f"{n} {reason}" for reason, n in left_out.items())
    without = f" (left out: {without})" if without else ""
    if not rows:
        raise ValueError(f"{source}: {len(made)} benign requests{without}; expected more than the {skip} to skip")
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    writing.write_whole(target, "".join(lines).encode(), variable="")
    return f"{target}: {len(rows)} of {len(made)} benign requests{without}"


def whole(text: str) -> int:
    """A number of rows."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number; expected 0 or more")
    return int(text)


def main(arguments: list[str] | None = None) -> None:
    """Exits with one clear message where something is wrong."""
    told = "Benign requests for a policy, from a file like XSTest's or Alpaca's."
    made = argparse.ArgumentParser(prog="python -m bsa_core.policy.convert", description=told)
    made.add_argument("source", type=Path, help="CSV with a header, a JSON list or JSON Lines")
    made.add_argument("target", type=Path, help="the file to write, .jsonl")
    made.add_argument("--skip", type=whole, default=0, metavar="N", help="leave out the first N requests")
    made.add_argument("--take", type=whole, default=0, metavar="N", help="write at most N requests; 0 for all")
    given = made.parse_args(arguments)
    try:
        print(convert(given.source, given.target, given.skip, given.take))
    except (ValueError, writing.RecordError) as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
