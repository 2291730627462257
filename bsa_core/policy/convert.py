"""Benign requests for a policy in files, or beside the paper's release, from a public data set.

    python -m bsa_core.policy.convert SOURCE TARGET.jsonl [--skip N] [--take N]

What SOURCE is follows from its content, not from its name: CSV with a header, one JSON list, or JSON Lines, of

    XSTest     prompt and label (safe or unsafe), else prompt and type (that of an unsafe prompt begins with
               "contrast"). The safe prompts are kept, with their type as the category; they have no answer
    Alpaca     or any other form that `entries` reads

Other fields are passed over. A request that occurred before is left out, and so is a row with a blank answer.
Rows of TARGET are those of the policy `files`: user, and where there is one assistant or category.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from bsa_core import writing
from bsa_core.examples import words
from bsa_core.policy.entries import entry
from bsa_core.policy.files import source_rows
from bsa_core.reading import label, text_of

WHAT = "rows of XSTest or Alpaca, as CSV with a header, a JSON list or JSON Lines"


def xstest(where: str, row: dict) -> tuple[dict | None, str]:
    """The row of the policy, or why there is none."""
    user = text_of(where, row, "prompt")
    kind = text_of(where, row, "type", "label" not in row)
    if "label" in row and (found := text_of(where, row, "label").strip().lower()) not in ("safe", "unsafe"):
        raise ValueError(f"{where}: label is {label(found)}; expected safe or unsafe")
    safe = found == "safe" if "label" in row else not kind.startswith("contrast")
    return ({"user": user, "category": kind}, "") if safe else (None, "unsafe")


def answered(where: str, row: dict) -> tuple[dict | None, str]:
    """The row of the policy, or why there is none."""
    texts, _ = entry(where, row)
    expected = "assistant" in texts or "instruction" in row  # other forms may hold requests alone
    missing = expected and not texts.get("assistant", "").strip()
    return (None, "without an answer") if missing else (texts, "")


def benign(path: Path) -> tuple[list[dict], Counter]:
    """The benign requests of a file, in its order, and how many rows were left out for which reason.

    Raises ValueError that names file, row and field, and quotes no text of a row.
    """
    made, left_out, seen = [], Counter(), set()
    for where, row in source_rows(path, WHAT):
        sorted_ones = "prompt" in row and ("label" in row or "type" in row)
        new, reason = (xstest if sorted_ones else answered)(where, row)
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
