"""What makes a key: a description as plain data, fields that came later, digests of files."""

import hashlib
import json
from dataclasses import MISSING, Field, field, fields, is_dataclass
from functools import cache
from pathlib import Path


def later(default):
    """A field that came after the first published records: while it has its default it is no part of a run's key."""
    return field(default=default, metadata={"later": True})


def content(item) -> dict:
    """A dataclass as a dictionary for keys and records: nested, lists for tuples, `later` fields only where changed."""
    return {
        f.name: _plain(getattr(item, f.name))
        for f in fields(item)
        if not (f.metadata.get("later") and getattr(item, f.name) == _default(f))
    }


def _default(of: Field):
    return of.default if of.default_factory is MISSING else of.default_factory()


def _plain(value):
    if is_dataclass(value):
        return content(value)
    return list(value) if isinstance(value, tuple) else value


def digest(content: str | bytes, digits: int = 16) -> str:
    """Hex digits over a text or over bytes; 64 are all."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:digits]


def digest_of(value, digits: int = 16) -> str:
    """Hex digits over plain data, whatever the order of its mappings; ValueError where a number is not finite."""
    return digest(json.dumps(value, sort_keys=True, allow_nan=False), digits)


def file_digest(path: Path, digits: int = 16) -> str:
    if not path.is_file():
        raise ValueError(f"{path} is missing; reinstall the package or regenerate it (see README.md of the folder)")
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)[:digits]


@cache
def _digest(path: Path, *state: int) -> str:
    """Read once per process, while its state is the same: every run of a profile asks, and a 7B model is 13 GB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
