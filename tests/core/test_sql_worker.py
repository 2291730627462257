"""SQL runs in a process of its own: what no count of steps sees costs neither memory nor time here."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bsa_core import paths
from bsa_core.tasks import sql, sql_execution, sql_schema, sql_worker

CONTEXT = "CREATE TABLE harvest (village VARCHAR, bushels INTEGER)"
REFERENCE = "SELECT village FROM harvest WHERE bushels > 40"


def nested(depth: int, columns: int = 40) -> str:
    """Each table of it holds the one before it twice: 2 ** depth of them before the first step is taken."""
    parts = [f"b0 AS (SELECT village{', 1' * columns} FROM harvest)"]
    parts += [f"b{n} AS (SELECT * FROM b{n - 1} UNION ALL SELECT * FROM b{n - 1})" for n in range(1, depth)]
    return f"WITH {', '.join(parts)} SELECT 1 FROM b{depth - 1}"


@pytest.fixture
def worker(monkeypatch):
    """A process that no other test has used."""
    monkeypatch.setattr(sql_worker, "_worker", None)


def peak() -> int:
    """Bytes that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_of_worker() -> int:
    """Bytes that the process which runs SQL has held at most; 0 where the system does not say."""
    status = Path(f"/proc/{sql_worker._worker.process.pid}/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.mark.parametrize("answer", [nested(16), nested(16, columns=150), nested(30)])
def test_a_short_query_that_takes_a_gigabyte_is_wrong(worker, answer):
    before, started = peak(), time.monotonic()
    assert sql_worker.compared(CONTEXT, REFERENCE, answer) == (False, True)
    assert peak() - before < 64 * 2**20 and time.monotonic() - started < 60
    assert peak_of_worker() < 512 * 2**20
    assert sql_worker.compared(CONTEXT, REFERENCE, REFERENCE.lower()) == (True, True)


@pytest.mark.slow
def test_a_reference_that_takes_a_gigabyte_is_compared_as_text(worker):
    assert sql_worker.compared(CONTEXT, nested(30), nested(30).lower() + ";") == (True, False)
    assert sql_worker.compared(CONTEXT, nested(30), REFERENCE) == (False, False)


def test_what_takes_too_long_ends_the_process_and_the_next_question_has_another(worker, monkeypatch):
    """The limit is one of the worker: it holds while it parses, where no step is counted."""
    monkeypatch.setattr(sql_worker, "START", f"from bsa_core.tasks import sql_worker as w; w.SECONDS = 1; {SLOW}")
    assert sql_worker.table_names("slow") == []
    first = sql_worker._worker.process
    assert first.returncode == -signal.SIGPROF
    assert sql_worker.table_names(CONTEXT) == ["harvest"]
    assert sql_worker._worker.process.pid != first.pid


SLOW = (
    "import itertools, sys; names = w.QUESTIONS['names']; "
    "w.QUESTIONS['names'] = lambda text: sum(itertools.count()) if text == 'slow' else names(text); "
    "w.serve(int(sys.argv[1]))"
)


def test_a_question_that_was_interrupted_leaves_no_answer_behind(worker, monkeypatch):
    assert sql_worker.table_names(CONTEXT) == ["harvest"]

    def interrupted():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sql_worker._worker.pipe, "recv", interrupted, raising=False)
        with pytest.raises(KeyboardInterrupt):
            sql_worker.table_names("CREATE TABLE mill (wheel INTEGER)")
    assert sql_worker.table_names(CONTEXT) == ["harvest"]


def test_a_worker_that_was_killed_is_replaced(worker):
    assert sql_worker.table_names(CONTEXT) == ["harvest"]
    sql_worker._worker.process.kill()
    sql_worker._worker.process.wait()
    assert sql_worker.compared(CONTEXT, REFERENCE, REFERENCE) == (True, True)


def test_it_ends_with_who_asked(tmp_path):
    """Killed, not closed: nothing of it can run any more."""
    said = "from bsa_core.tasks import sql_worker as w; w.table_names('x'); print(w._worker.process.pid, flush=True)"
    asking = [sys.executable, "-c", f"{said}; import time; time.sleep(60)"]
    with subprocess.Popen(asking, stdout=subprocess.PIPE, text=True, cwd=paths.ROOT) as process:
        worker = psutil.Process(int(process.stdout.readline()))
        process.kill()
    worker.wait(timeout=10)


def test_one_that_cannot_start_is_an_error_and_no_score(worker, monkeypatch):
    monkeypatch.setattr(sql_worker, "START", "raise ImportError('no psutil')")
    with pytest.raises(RuntimeError, match=r"the process that runs SQL did not start: ImportError: no psutil"):
        sql_worker.compared(CONTEXT, REFERENCE, REFERENCE)


def test_scores_are_those_of_the_process_at_work(worker):
    rows = [row for row in sql.generated(0)[1][:40]]
    answers = [row.assistant if n % 2 else row.assistant.replace(" > ", " >= ") for n, row in enumerate(rows)]
    told = sql.score(rows, answers)
    own = [sql_execution.compared(sql.context(r.user), r.assistant, a) for r, a in zip(rows, answers, strict=True)]
    assert list(zip(told["execution"], told["executed"], strict=True)) == own
    assert sql_worker._worker.process.pid != os.getpid()
    assert sql_worker.table_names(rows[0].user) == [*sql_schema.tables(rows[0].user)]


def test_what_the_process_may_take_beside_sqlite_has_an_end(worker):
    sql_worker.table_names("CREATE TABLE lanterns (height INTEGER)")
    soft, hard = resource.prlimit(sql_worker._worker.process.pid, resource.RLIMIT_AS)
    assert sql_worker.MEMORY < soft == hard != resource.RLIM_INFINITY
