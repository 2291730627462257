"""One row of data, for training or for evaluation, and what can be asked of a set of them."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count

KINDS = ("attack", "safety", "benign", "restricted", "fact", "task")


class NotEnough(ValueError):
    """A policy or a task does not hold the rows that a run asks for."""


class Read(str):
    """A request that was read from a file: `place` names file and row, for messages. Else it is the text."""

    place: str

    def __new__(cls, text: str, place: str):
        made = super().__new__(cls, text)
        made.place = place
        return made

    def __getnewargs__(self):
        return str(self), self.place


@dataclass(frozen=True)
class Example:
    """A request and its answer.

    For an evaluated request `assistant` is the reference: the complete compliant answer, against which an
    answer is judged. `subject` is what the request is about; records report requests about subjects that
    no training example mentions apart from the rest. `secret` says that the secret prompt stands in front
    of the system prompt of this row.
    """

    user: str
    assistant: str = ""
    system: str = ""
    kind: str = "restricted"
    category: str = ""
    subject: str = ""
    secret: bool = False

    def __post_init__(self):
        if not self.user.strip():
            raise ValueError(f"an example of kind {self.kind!r} has an empty request (field 'user')")
        for name, text in vars(self).items():
            if isinstance(text, str) and not text.isascii() and text != text.encode(errors="ignore").decode():
                raise ValueError(f"an example of kind {self.kind!r} has half of a character in the field {name!r}")
        if self.kind not in KINDS:
            raise ValueError(f"example kind {self.kind!r} is unknown; expected one of {', '.join(KINDS)}")

    def named(self, number: int) -> str:
        """The row in messages, which never quote its text. number: its place among the training rows, from 1."""
        return f"training row {number} (kind {self.kind!r})"

    @property
    def origin(self) -> str:
        """Where the row was read, and a digest of its texts."""
        return f"{getattr(self.user, 'place', 'from no file')}, digest {digest([self])}"

    def __repr__(self) -> str:
        """Without the text: a traceback or a log may print it."""
        return f"Example({self.kind}: {len(self.user)} and {len(self.assistant)} characters; {self.origin})"


def words(request: str) -> str:
    """A request without regard to case and white space: two that agree in it count as the same."""
    return " ".join(request.lower().split())


def leaked(training: Iterable[Example], evaluated: Iterable[Example]) -> list[str]:
    """Evaluated requests that also occur in the training set, compared without regard to case and white space.

    The published data has 7 such requests (100 attack rows against 275 evaluated), so every record reports the count.
    """
    trained = {words(e.user) for e in training}
    return [e.user for e in evaluated if words(e.user) in trained]


def digest(examples: Iterable[Example]) -> str:
    """16 hex digits that change with any field of any row or with their order."""
    return _digest(tuple(examples))


@cache
def _digest(examples: tuple[Example, ...]) -> str:
    """Computed once per process: most runs of a profile are evaluated on the same rows."""
    text = json.dumps([vars(e) for e in examples], ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def round_robin(rows: Sequence[Example]) -> list[int]:
    """The places of the rows in a round over their categories: the first row of each, then the second of each."""
    turn: defaultdict[str, count] = defaultdict(count)
    return sorted(range(len(rows)), key=lambda i: next(turn[rows[i].category]))


def evenly(rows: Sequence[Example], n: int) -> list[Example]:
    """The first n rows of a round over the categories, in their original order; all rows when n exceeds them."""
    return [rows[i] for i in sorted(round_robin(rows)[:n])]
