"""Files and folders that are there whole or not at all.

What is built stands in a folder `.xxxxxxxx.tmp` beside its place, locked as long as its process lives. So what a killed
process has left is recognized, and removed when another one next writes there. Some network drives lock no folders:
there it stays, and does no harm.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

LEFT = re.compile(r"\.[a-z0-9_]{8}\.tmp")  # names that `tempfile` gives
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}
LOCKLESS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
PRIVATE = ("BSA_GENERATIONS", "BSA_HOSTED", "BSA_CACHE")  # their files are for their owner only


class RecordError(OSError):
    """A file or folder could not be written; nothing was left behind."""


@contextmanager
def named(path: Path, variable: str) -> Iterator[None]:
    """An OSError of the block as a RecordError that names the path and the fix."""
    try:
        yield
    except (RecordError, Timeout):
        raise
    except OSError as error:
        fixes = ["free some space"] if error.errno in FULL or error.errno is None else []
        fixes += [f"set {variable} to another folder"] if variable else [] if fixes else ["write it elsewhere"]
        blocked = error.errno in (errno.EEXIST, errno.ENOTDIR)
        why = "a file is where a folder should be" if blocked else error.strerror or error
        said = f"cannot write {path} ({why}); {' or '.join(fixes)}"
        raise RecordError(error.errno, said) from error


@contextmanager
def _place(path: Path) -> Iterator[Path]:
    """Where to build what becomes `path`: in a folder beside it, cleared afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_once(path.parent)
    while True:
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=".", suffix=".tmp"))
        lock = _locked(folder, wait=True)
        if folder.is_dir():
            break
        _release(lock)  # another process was faster, and took it for one that was left
    try:
        yield folder / "made"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _release(lock)


def _locked(folder: Path, wait: bool) -> int | None:
    """A lock on a folder, which ends with the process; None where there is none to be had."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return handle
        except OSError:  # in use, or a network drive that knows no such lock
            os.close(handle)
    return None


def _release(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


def sweep(folder: Path) -> None:
    """Remove what killed processes have left in a folder, as far as may be."""
    with suppress(OSError):
        for path in [Path(entry.path) for entry in os.scandir(folder) if LEFT.fullmatch(entry.name)]:
            if (lock := _locked(path, wait=False)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                _release(lock)


_sweep_once = cache(sweep)


def check(folder: Path, variable: str = "BSA_RESULTS") -> None:
    """RecordError where no file can be written into a folder; to be asked before something is computed for it."""
    with named(folder, variable), _place(folder / "any"):
        pass


def locked(path: Path, variable: str = "BSA_RESULTS", timeout: float = -1):
    """A lock for whoever computes the same, held until the block ends; `filelock.Timeout` when it is not to be had.

    RecordError where the file system has no locks. In their place `filelock` would go by files that mark who is at
    work, and for one that was left by a killed process of another machine the next would wait for ever.
    """
    with named(path, variable):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return FileLock(path, fallback_to_soft=False).acquire(timeout=timeout)
        except OSError as error:
            if error.errno not in LOCKLESS:
                raise
            why = f"its file system has no file locks: {error.strerror}"
            fix = f"set {variable} to a folder on one that has, so that two processes never compute the same"
            raise RecordError(error.errno, f"cannot lock {path} ({why}); {fix}") from error


def write_whole(path: Path, content: bytes, variable: str = "BSA_RESULTS") -> None:
    """`write_together` of one file."""
    write_together({path: (content, variable)})


def write_together(files: dict[Path, tuple[bytes, str]]) -> None:
    """Each file is there whole or not at all; where one cannot be written, all are as they were before.

    files: path -> content and the environment variable that sets another folder, for the message of the RecordError.
        Those of PRIVATE are readable to their owner only, others to whom the umask lets.
    """
    with ExitStack() as stack:
        made = {}
        for path, (content, variable) in files.items():
            with named(path, variable):
                made[path] = stack.enter_context(_place(path))
                handle = os.open(made[path], os.O_CREAT | os.O_WRONLY, 0o600 if variable in PRIVATE else 0o666)
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                if len(files) > 1 and path.is_file():
                    shutil.copy2(path, made[path].with_name("before"))
        done: list[Path] = []
        try:
            for path, new in made.items():
                with named(path, files[path][1]):
                    os.replace(new, path)
                done.append(path)
        except RecordError:
            for path in done:
                before = made[path].with_name("before")
                if before.exists():
                    os.replace(before, path)
                else:
                    path.unlink()
            raise


def as_json(path: Path, content: dict) -> bytes:
    """The text of a JSON file; ValueError names the file where a number is not finite.

    NaN and infinity are no JSON, and no result.
    """
    try:
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: not written, as it would hold a number that is not finite ({error})") from None
    return f"{text}\n".encode()


def write_json(path: Path, content: dict) -> None:
    """A JSON file, whole or not at all; RecordError names the file and the fix, ValueError: see `as_json`."""
    write_whole(path, as_json(path, content))


@contextmanager
def whole_folder(path: Path, variable: str = "") -> Iterator[Path]:
    """An empty folder to build in, which becomes `path` when the block ends without an error.

    Where `path` is there already, what was built takes the places of the files of the same name.
    """
    with named(path, variable), _place(path) as made:
        made.mkdir()
        yield made
        if not path.is_dir():
            os.replace(made, path)
            return
        for file in made.iterdir():
            os.replace(file, path / file.name)
