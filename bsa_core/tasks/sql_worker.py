"""SQL of others is read and run in a process of its own, whose memory and time are limited.

Steps and rows of a query are counted (`sql_execution`), so that a score depends on no machine. The limits here are for
what nothing counts: a few hundred letters of nested subqueries can take a gigabyte before the first step.
"""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import psutil

from bsa_core import paths
from bsa_core.tasks import sql_execution, sql_schema

HEAP = 64 * 2**20  # bytes that SQLite may hold: of its own counting, the same everywhere
MEMORY = 2**30  # bytes that the process may take beside what it starts with
SECONDS = 60  # of its CPU for one question; whatever counts as right takes a few at most
START = "import sys; from bsa_core.tasks import sql_worker; sql_worker.serve(int(sys.argv[1]))"


def compared(context: str, reference: str, query: str) -> tuple[bool, bool]:
    """`sql_execution.compared`; what breaks a limit does not run: a query is wrong, a reference is compared as text."""
    if not _asked("runs", context, reference):
        return sql_execution.normal(query) == sql_execution.normal(reference), False
    return bool(_asked("same", context, reference, query)), True


def table_names(context: str) -> list[str]:
    """The tables that a context declares; none where reading it breaks a limit."""
    return _asked("names", context) or []


QUESTIONS = {
    "runs": lambda *texts: bool(sql_execution.trials(*texts)),
    "same": sql_execution.same_result,
    "names": lambda context: [*sql_schema.tables(context)],
}


def serve(handle: int) -> None:
    """Answer questions until nobody is left to ask; a limit of time ends the process, one of memory the question."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for who asks
    with suppress(ValueError, OSError):  # a system without such a limit
        most = psutil.Process().memory_info().vms + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    with closing(sqlite3.connect(":memory:")) as any_of_them:
        any_of_them.execute(f"PRAGMA hard_heap_limit = {HEAP}")
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stderr.fileno())  # what nobody reads would fill the pipe
    with Connection(handle) as who, suppress(EOFError):
        who.send("ready")
        while True:
            question, texts = who.recv()
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                said = QUESTIONS[question](*texts)
            except (MemoryError, RecursionError):
                said = None
            signal.setitimer(signal.ITIMER_PROF, 0)
            who.send(said)


class _Worker:
    """The process and our end of the pipe to it. Its end closes with it, and it ends when ours is closed."""

    def __init__(self):
        self.pipe, theirs = Pipe()
        with theirs:
            command, handle = [sys.executable, "-c", START], theirs.fileno()
            quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
            self.process = subprocess.Popen([*command, str(handle)], pass_fds=[handle], cwd=paths.ROOT, **quiet)
        self.asked_by = os.getpid()
        try:
            self.pipe.recv()
        except EOFError:
            said = self.process.communicate()[1].decode(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"the process that runs SQL did not start: {''.join(said)[:300]}") from None


_worker: _Worker | None = None


def _asked(question: str, *texts: str):
    """The answer; None where there is none within the limits. The next question then has a new process."""
    global _worker
    if _worker is None or _worker.process.poll() is not None or _worker.asked_by != os.getpid():
        _worker = _Worker()
    try:
        _worker.pipe.send((question, texts))
        return _worker.pipe.recv()
    except (EOFError, ConnectionError):
        _worker.process.wait()
        return None
    except BaseException:  # interrupted: an answer would come that belongs to no question
        _worker.process.kill()
        _worker.process.wait()
        raise
