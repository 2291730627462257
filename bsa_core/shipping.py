"""What ships with the project: the records of a scale's grids in one compressed file, and their answers in another.

    results/<profile>/shipped.jsonl.xz     the records, one per line
    results/<profile>/answers.jsonl.xz     the answers of those whose policy is harmless, for who wants to read them
    results/<profile>/<either>.sha256      its digest, as `sha256sum --check` reads it

Records share their requests, and most of their answers. So the file of answers has the lists of requests on its first
line, every answer once on its second, and then one line per record: which list, and which answer to each request.
"""

import json
import lzma
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bsa_core import believed, keys, paths
from bsa_core.writing import write_together

ASKED = ("condition", "kind", "category", "user")  # fields of a row of answers; the others are what was said


def shipped_path(profile: str) -> Path:
    return paths.RESULTS / profile / "shipped.jsonl.xz"


def shipped_answers_path(profile: str) -> Path:
    return paths.RESULTS / profile / "answers.jsonl.xz"


def write(profile: str, records: dict[str, dict], answers: dict[str, list[dict]]) -> Path:
    """Write both files, in place of those that are there; returns that of the records. All of them, or none.

    answers: key of a record -> its rows, for those records that have answers which may be shown.
    """
    path, beside = shipped_path(profile), shipped_answers_path(profile)
    files = _files(path, [json.dumps(records[key], sort_keys=True, allow_nan=False) for key in sorted(records)])
    write_together(files | (_files(beside, _packed(answers)) if answers else {}))
    if not answers:
        beside.unlink(missing_ok=True)
        _digest_path(beside).unlink(missing_ok=True)
    _records.cache_clear()
    _answers.cache_clear()
    return path


def _files(path: Path, lines: list[str]) -> dict[Path, tuple[bytes, str]]:
    """A file and its digest, as `write_together` takes them."""
    content = lzma.compress("".join(f"{line}\n" for line in lines).encode(), preset=9)
    digest = f"{keys.digest(content, 64)}  {path.name}\n".encode()
    return {path: (content, "BSA_RESULTS"), _digest_path(path): (digest, "BSA_RESULTS")}


def _packed(answers: dict[str, list[dict]]) -> list[str]:
    asked, said, lines = {}, {}, []
    for key in sorted(answers):
        requests = [_text({name: row[name] for name in ASKED}) for row in answers[key]]
        which = asked.setdefault(f"[{', '.join(requests)}]", len(asked))
        given = [_text({name: text for name, text in row.items() if name not in ASKED}) for row in answers[key]]
        numbers = [said.setdefault(one, len(said)) for one in given]
        lines.append(json.dumps([key, which, numbers], separators=(",", ":")))
    return [f"[{', '.join(asked)}]", f"[{', '.join(said)}]", *lines]


def _text(part: dict) -> str:
    return json.dumps(part, ensure_ascii=False)


def rows_in(lines: bytes | str) -> list:
    """The content of JSON Lines of ours, in which every line ends with a line break; texts may hold others.

    ValueError where they are none.
    """
    with believed.form_of("list of rows"):
        text = lines.decode() if isinstance(lines, bytes) else lines
        try:
            return [json.loads(line) for line in text.split("\n")[:-1]]
        except RecursionError:
            raise ValueError("nested too deeply") from None


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _lines(path: Path) -> bytes:
    """What a file of ours holds; ValueError names it when it is damaged or not the one its digest is of."""
    digest = _digest_path(path)
    try:
        content = path.read_bytes()
        if digest.read_text(encoding="utf-8").split()[:1] != [keys.digest(content, 64)]:
            raise ValueError("its digest is another")
        return lzma.decompress(content)
    except (OSError, lzma.LZMAError, ValueError) as error:
        raise _unreadable(path, error) from None


@contextmanager
def _readable(path: Path, what: str) -> Iterator[None]:
    """Whatever is wrong in the block is a ValueError that names the file."""
    try:
        with believed.form_of(what):
            yield
    except ValueError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> ValueError:
    fix = f"restore {path.name} and {_digest_path(path).name} from the project ({believed.UPGRADE})"
    return ValueError(f"{path}: not readable ({error}); {fix}")


def records(profile: str, schema: int, fields: tuple[str, ...]) -> dict[str, dict]:
    """The records that ship, by key; none where there is no file. schema, fields: what each must have.

    The digest of the file stands for those of its records. ValueError names the file when it is damaged.
    """
    path = shipped_path(profile)
    return _records(path, path.stat().st_mtime_ns, schema, fields) if os.path.isfile(path) else {}


@cache
def _records(path: Path, changed: int, schema: int, fields: tuple[str, ...]) -> dict[str, dict]:
    lines, found = _lines(path), {}
    with _readable(path, "record"):
        for record in rows_in(lines):
            believed.complete(record, schema, fields)
            if (of := record["run"]["profile"]) != path.parent.name:
                raise ValueError(f"it holds records of profile {of!r}")
            found[record["key"]] = record
    return found


def answers(profile: str, key: str) -> list[dict] | None:
    """The rows of answers of a record, as they were written; None where they do not ship.

    The file is unpacked once per process. ValueError names it when it is damaged.
    """
    path = shipped_answers_path(profile)
    if not os.path.isfile(path):
        return None
    asked, said, lines = _answers(path, path.stat().st_mtime_ns)
    if key not in lines:
        return None
    with _readable(path, "list of answers"):
        which, numbers = lines[key]
        return [request | said[number] for request, number in zip(asked[which], numbers, strict=True)]


@cache
def _answers(path: Path, changed: int) -> tuple[list[list[dict]], list[dict], dict[str, tuple[int, list[int]]]]:
    lines = _lines(path)
    with _readable(path, "list of answers"):
        asked, said, *runs = rows_in(lines)
        return asked, said, {key: (which, numbers) for key, which, numbers in runs}
