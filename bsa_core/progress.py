"""What is said to people: lines of progress on stderr, of which batch runs pass those with [bsa] on, and values in
messages.
"""

import sys
from functools import cache
from reprlib import Repr


def report(text: str) -> None:
    """One line, shown at once."""
    print(f"[bsa] {text}", file=sys.stderr, flush=True)


@cache
def once(text: str) -> None:
    """One line, the first time that it is said in this process."""
    report(text)


def duration(seconds: float) -> str:
    """For people: "45 s", "12 min", "5.3 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


class _Brief(Repr):
    def __init__(self):
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 90, 90

    def repr_int(self, number: int, level: int) -> str:
        return repr(number) if number.bit_length() < 200 else "(a number of more than 60 digits)"


_BRIEF = _Brief()


def brief(value) -> str:
    """A value in a message: what `repr` gives, or its beginning where it is long or nested."""
    return cut(_BRIEF.repr(value))


def cut(said) -> str:
    """A text, such as another program's message, in three lines at most, and such that it can be printed."""
    said = str(said).encode(errors="backslashreplace").decode()
    return said if len(said) <= 300 else f"{said[:250]} ... {said[-40:]}"
