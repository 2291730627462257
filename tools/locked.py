"""Run a command while this folder's lock is held:  python tools/locked.py LOCKFILE COMMAND...

Snakemake's own lock is a file that outlives a killed run and would have to be removed by hand. This one
belongs to the process and goes with it, however it ends. A second command finds it held and stops.
"""

import fcntl
import os
import sys


def hold(path: str | os.PathLike) -> int:
    """Take the lock, which this process and those that get the file descriptor hold until their end."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("Another `make book` or `make sweep` is at work in this folder: wait for it, or stop it first.")
    except OSError as error:
        sys.exit(f"{path} cannot be locked ({error.strerror}): work in a folder on a file system that has file locks.")
    os.set_inheritable(lock, True)
    return lock


def main() -> None:
    path, *command = sys.argv[1:]
    hold(path)  # the command, which replaces this process, goes on holding it
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
