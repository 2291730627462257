"""Lines of progress, on stderr: batch runs pass those that begin with [bsa] on to the terminal."""

import sys
from functools import cache


def report(text: str) -> None:
    """One line, shown at once."""
    print(f"[bsa] {text}", file=sys.stderr, flush=True)


@cache
def once(text: str) -> None:
    """One line, the first time that it is said in this process."""
    report(text)


def duration(seconds: float) -> str:
    """For people: "45 s", "12 min"."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
