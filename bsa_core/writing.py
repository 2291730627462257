"""Files and folders that are there whole or not at all."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory


class RecordError(OSError):
    """A file or folder could not be written; nothing was left behind."""


@contextmanager
def _building(path: Path, variable: str) -> Iterator[Path]:
    """An empty folder beside `path`, gone afterwards; RecordError names what cannot be written, and the fix."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".", suffix=".tmp") as building:
            yield Path(building)
    except OSError as error:
        place = f" or set {variable} to another folder" if variable else ""
        raise RecordError(
            error.errno, f"cannot write {path} ({error.strerror or error}); free some space{place}"
        ) from error


def write_whole(path: Path, content: bytes, variable: str = "BSA_RESULTS") -> None:
    """The file is there whole or not at all, readable to its owner only.

    variable: the environment variable that sets another folder, for the message.
    """
    with _building(path, variable) as building:
        with open(building / path.name, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(building / path.name, path)


def write_json(path: Path, content: dict) -> None:
    """A JSON file, whole or not at all; RecordError names the file and the fix."""
    write_whole(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


@contextmanager
def whole_folder(path: Path, variable: str = "") -> Iterator[Path]:
    """An empty folder to build in, which becomes `path` when the block ends without an error.

    Where `path` is there already, the files that were built take the places of those of the same name.
    """
    with _building(path, variable) as building:
        made = building / "made"
        made.mkdir()
        yield made
        if path.is_dir():
            for file in made.iterdir():
                os.replace(file, path / file.name)
        else:
            os.replace(made, path)
