"""Files that are there whole or not at all."""

import json
import os
import tempfile
from pathlib import Path


class RecordError(OSError):
    """A record could not be written; nothing was left behind."""


def write_whole(path: Path, content: bytes, variable: str = "BSA_RESULTS") -> None:
    """Through a temporary file in the same folder: the file is there whole or not at all, readable to its owner only.

    variable: the environment variable that sets another folder, for the message.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RecordError(
            error.errno,
            f"cannot write {path} ({error.strerror or error}); free some space or set {variable} to another folder",
        ) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)


def write_json(path: Path, content: dict) -> None:
    """A JSON file, whole or not at all; RecordError names the file and the fix."""
    write_whole(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
