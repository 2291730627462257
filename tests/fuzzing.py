"""What the property tests of readers share: damaged files, and what may come of them.

`make fuzz` runs the same tests longer: FUZZ is the number of examples of each.
"""

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = int(os.environ.get("FUZZ", 200))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize="FUZZ" not in os.environ,
    suppress_health_check=[*HealthCheck],
)
LONGEST, LINES = 1500, 8  # letters and lines of a message

# What people's files, other programs and broken disks hold: bytes, JSON and YAML that is odd in one way each.
ODD = [
    *(b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", "\u2028".encode(), b'"', b"\\", b"\r", b"\n\n", b"'", b","),
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"-0", b"true", b"null", b"[]", b"{}", b'""', b'"\\ud83d"'),
    *(b"[" * 3000, b'{"a":' * 3000, b'{"a": 1, "a": 2}', b"x" * 20_000, b'"' + b"y" * 20_000 + b'"'),
    *(b"2024-01-01", b"2024-13-99", b"!!timestamp x", b"!!binary aGk=", b"!!binary x", b"!!set {a}", b"!!int x"),
    *(b"{1: a, b: c}", b"? [1]\n: 2", b"? {a: b}\n: 2", b"&a [*a]", b"*b", b"<<: 1", b"!!python/name:os.system"),
    *(b"12:30:45", b".inf", b".nan", b"0x" + b"f" * 4000, b"!!omap [a]", b"!!bool x", b"!!float x", b"- - -\n\t"),
]
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from([10**400, -1, 0, 2**63, "", " ", "\ud83d", "x" * 5000, "0" * 16, "plain", "secret", 1.5]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def places(part, path: tuple = ()) -> list[tuple]:
    """The path of each node."""
    below = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    return [path, *(place for name, value in below for place in places(value, (*path, name)))]


@st.composite
def changed(draw, content):
    """Plain data of which one or two nodes are another value, are gone, or have moved."""
    made = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 2))):
        *above, last = draw(st.sampled_from([place for place in places(made) if place] or [("",)]))
        part = made
        for name in above:
            part = part[name]
        what = draw(st.sampled_from(["put", "put", "drop", "move"]))
        if not isinstance(part, dict | list) or not part:
            continue
        if what == "drop":
            del part[last]
        elif what == "move" and isinstance(part, dict):
            part[draw(st.text(max_size=8))] = part.pop(last)
        else:
            part[last] = draw(values)
    return made


@st.composite
def spliced(draw, content: bytes) -> bytes:
    """Bytes of which a part is another one."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 40)) | st.just(start) | st.just(len(content)))
    return content[:start] + draw(st.sampled_from(ODD) | st.binary(max_size=30)) + content[end:]


def as_json(content) -> bytes:
    return json.dumps(content).encode(errors="surrogatepass")


def as_lines(rows) -> bytes:
    return b"\n".join(map(as_json, rows if isinstance(rows, list) else [rows]))


def as_yaml(content) -> bytes:
    """JSON is YAML, but for what only one of them takes."""
    try:
        return yaml.safe_dump(content, allow_unicode=True).encode(errors="surrogatepass")
    except ValueError:  # a number of too many digits
        return b"- " + b"9" * 5000


def damaged(content, form: Callable[[object], bytes] = as_json) -> st.SearchStrategy[bytes]:
    """Files that are broken, and files that only say something odd. content: plain data that is right."""
    whole = form(content)
    return st.one_of(
        st.binary(max_size=100),
        st.sampled_from([*ODD, BOMB.encode()]),
        values.map(_safely(form)),
        spliced(whole),
        changed(content).map(_safely(form)),
        changed(content).map(_safely(form)).flatmap(spliced),
    )


def _safely(form: Callable) -> Callable:
    def made(content) -> bytes:
        try:
            return form(content)
        except ValueError:  # more digits than Python writes
            return b"9" * 5000

    return made


def read(reader: Callable, *asked, name: str | Path = "") -> object:
    """What a reader gives, or None where it says in a few lines of ours what is wrong with the file `name`."""
    try:
        return reader(*asked)
    except ValueError as error:
        said, raised_in = str(error), traceback.extract_tb(error.__traceback__)[-1].filename
        assert not isinstance(error, UnicodeError | json.JSONDecodeError), f"not ours: {error!r}"[:500]
        assert Path(raised_in).is_relative_to(ROOT) and ".venv" not in raised_in, f"raised in {raised_in}: {said[:500]}"
        assert str(name) in said, f"does not name {name}: {said[:500]}"
        assert len(said) <= LONGEST and len(said.splitlines()) <= LINES, f"{len(said)} letters: {said[:500]}"
        said.encode()  # can be printed
        return None
