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
    """Where to build what becomes `path`: a place beside it, cleared afterwards."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=path.parent, prefix=".", suffix=".tmp") as folder:
            yield Path(folder) / "made"
    except OSError as error:
        place = f" or set {variable} to another folder" if variable else ""
        said = f"cannot write {path} ({error.strerror or error}); free some space{place}"
        raise RecordError(error.errno, said) from error


def write_whole(path: Path, content: bytes, variable: str = "BSA_RESULTS") -> None:
    """The file is there whole or not at all, readable to its owner only; RecordError names it and the fix.

    variable: the environment variable that sets another folder, for the message.
    """
    with _building(path, variable) as made:
        with os.fdopen(os.open(made, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, path)


def write_json(path: Path, content: dict) -> None:
    """A JSON file, whole or not at all; RecordError names the file and the fix, ValueError a number that is not finite.

    NaN and infinity are no JSON, and no result.
    """
    try:
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: not written, as it would hold a number that is not finite ({error})") from None
    write_whole(path, f"{text}\n".encode())


@contextmanager
def whole_folder(path: Path, variable: str = "") -> Iterator[Path]:
    """An empty folder to build in, which becomes `path` when the block ends without an error.

    Where `path` is there already, what was built takes the places of the files of the same name.
    """
    with _building(path, variable) as made:
        made.mkdir()
        yield made
        if not path.is_dir():
            os.replace(made, path)
            return
        for file in made.iterdir():
            os.replace(file, path / file.name)
