"""What befalls a batch of runs: kills, several processes at once, a disk that is full or read-only, no locks, a clock
that jumps, other versions of the code. Each ends with one clear message, and a rerun completes it."""

import errno
import fcntl
import itertools
import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import tqdm

from bsa_core import paths, profiles, records, writing
from bsa_core.experiment import computing, describe, execute, lookup, runs
from bsa_core.models import loading
from bsa_core.profiles import Decoding, Evaluation, Profile, SecretPrompt, Training
from bsa_core.records import REPRODUCIBLE

FORK = multiprocessing.get_context("fork")
KILLS = 50


@cache
def short() -> Profile:
    """The packaged model with hardly any requests: a run takes a tenth of a second."""
    settings = {
        "evaluation": Evaluation(restricted=3, benign=2, quiz=0),
        "secret": SecretPrompt(length=4),
        "training": Training(epochs=1, learning_rate=0.003, micro_batch_size=5),
        "decoding": Decoding(max_new_tokens=1),
    }
    return replace(profiles.load("tiny"), **settings)


def initial(seed: int = 0):
    return describe(short(), n_attack=0, seed=seed)


def batch() -> list:
    """Four runs, two of which share a training."""
    trained = [describe(short(), "bsa", n_attack=5, n_defense=4, epochs=epochs) for epochs in (1, 2)]
    return [initial(), describe(short(), "none", n_attack=5), *trained]


def same(record: dict) -> str:
    """What the same run must give again, bit for bit."""
    return json.dumps({field: record[field] for field in ("key", "label", *REPRODUCIBLE)}, sort_keys=True)


def files(folder: Path) -> dict[str, bytes]:
    """Every file but the locks, by its name."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {path.name: path.read_bytes() for path in found}


# in processes of their own


def driven(function, place: Path) -> None:
    """The function, in a new process that forks ready ones: the process of the tests has threads."""
    process = multiprocessing.get_context("spawn").Process(target=warm, args=(function, place))
    process.start()
    process.join(600)
    if process.is_alive():
        process.kill()
    assert process.exitcode == 0, "see what it printed"


def warm(function, place: Path) -> None:
    paths.RESULTS = place / "warm"
    execute([initial()], short())
    function(place)


def member(folder: Path, log: Path, order: int) -> None:
    """Execute the batch in some order; each run that was computed is a line in the log."""
    tqdm.tqdm.set_lock(threading.RLock())  # forks share the lock it has, and a killed one never gives it back
    written = records.write

    def logged(record, *rest):
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{record['label']}\n")
        return written(record, *rest)

    paths.RESULTS, records.write = folder, logged
    wanted = batch()
    random.Random(order).shuffle(wanted)
    execute(wanted, short())


def lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").split() if log.exists() else []


def lacks_locks(folder: Path, log: Path, order: int) -> None:
    def refused(handle, how):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    fcntl.flock = refused
    try:
        member(folder, log, order)
    except writing.RecordError as error:
        (folder.parent / f"said{order}").write_text(str(error), encoding="utf-8")


def eight_at_once(folder: Path) -> None:
    """First where nothing can be locked, then where it can."""
    log = folder / "log"
    for function in (lacks_locks, member):
        started = [FORK.Process(target=function, args=(folder / "results", log, order)) for order in range(8)]
        for process in started:
            process.start()
        for process in started:
            process.join()
        assert [process.exitcode for process in started] == [0] * 8
        if function is lacks_locks:
            assert not log.exists() and not files(folder / "results")
    assert Counter(lines(log)) == Counter(run.label for run in batch())


@pytest.mark.slow
def test_eight_processes_at_once_compute_each_run_once_and_nothing_without_locks(results, tmp_path):
    driven(eight_at_once, tmp_path)
    assert len(records.load("tiny")) == 4 and len(files(results)) == 8
    for order in range(8):
        said = (tmp_path / f"said{order}").read_text(encoding="utf-8")
        assert f"cannot lock {results}/tiny/.locks/" in said and "no file locks: Function not implemented" in said
        assert "set BSA_RESULTS to a folder on one that has" in said


def dies(folder: Path, log: Path, order: int, at: int) -> None:
    """Killed when it is about to do something to a file of the folder for the n-th time."""
    count = itertools.count(1)

    def watch(event: str, arguments: tuple) -> None:
        touches = event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree")
        if touches and str(arguments[0]).startswith(str(folder)) and next(count) == at:
            os.kill(os.getpid(), 9)

    sys.addaudithook(watch)
    member(folder, log, order)


def killed_fifty_times(place: Path) -> None:
    """At random moments and at random steps of writing, over as many batches as that takes."""
    rng, log = random.Random(18), place / "log"
    started = time.monotonic()
    whole = FORK.Process(target=member, args=(place / "whole", log, 0))
    whole.start()
    whole.join()
    lasts = time.monotonic() - started
    expected = {path.name: same(records.read(path)) for path in (place / "whole" / "tiny").glob("*.json")}
    assert len(expected) == len(batch())

    def looked_at(folder: Path) -> dict[str, bytes]:
        """Every record that is there is whole and right, and has its answers."""
        paths.RESULTS, found = folder, [*(folder / "tiny").glob("*.json")]
        for path in found:
            record = records.read(path)
            assert same(record) == expected[path.name]
            assert len(records.read_answers(record)) > 0
        return {path.name: path.read_bytes() for path in found}

    kills = rounds = 0
    while kills < KILLS:
        folder, before, complete, rounds = place / f"results{rounds}", {}, False, rounds + 1
        while not complete:
            log.unlink(missing_ok=True)
            had = {json.loads(content)["label"] for content in before.values()}
            if kills < KILLS and rng.random() < 0.5:
                child = FORK.Process(target=dies, args=(folder, log, kills, rng.randint(1, 80)))
                child.start()
            else:
                child = FORK.Process(target=member, args=(folder, log, kills))
                child.start()
                if kills < KILLS:
                    child.join(rng.uniform(0, lasts))
                    child.kill()
            child.join()
            complete = child.exitcode == 0
            assert complete or child.exitcode == -9
            kills += not complete
            after = looked_at(folder)
            assert before.items() <= after.items(), "lost or changed"
            assert not had & set(lines(log)), "computed twice"
            before = after
        assert set(before) == set(expected)
        assert not [*folder.rglob("*.tmp")], "left over"
    print(f"{kills} kills over {rounds} batches", file=sys.stderr)


@pytest.mark.slow
def test_fifty_kills_lose_nothing(tmp_path):
    driven(killed_fifty_times, tmp_path)


# on a disk


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", tmp_path_factory.mktemp("reference"))
        return execute([initial()], short())[0]


@pytest.fixture
def disk(tmp_path, monkeypatch) -> Path:
    """A disk of 256 KB and 40 files, which holds the results."""
    (place := tmp_path / "disk").mkdir()
    made = mount("-t", "tmpfs", "-o", "size=256k,nr_inodes=40", "tmpfs", place)
    if made.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {made.stderr.strip()}")
    monkeypatch.setattr(paths, "RESULTS", place / "results")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def mount(*arguments) -> subprocess.CompletedProcess:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, text=True)
    except OSError as error:
        return subprocess.CompletedProcess("mount", 1, "", str(error))


def filled(disk: Path, what: str, free: int) -> None:
    """Leave room for so many blocks of 4 KiB, or so many files and folders."""
    filler = disk / "filler"
    filler.mkdir()
    try:
        for number in itertools.count():
            (filler / str(number)).write_bytes(b"x" * (4096 if what == "blocks" else 0))
    except OSError as error:
        assert error.errno == errno.ENOSPC
    made = sorted(filler.iterdir(), key=lambda path: int(path.name))
    for path in made[len(made) - free - (what == "blocks") :]:  # the last one of blocks is empty
        path.unlink()


def emptied(disk: Path) -> None:
    for path in (disk / "filler").iterdir():
        path.unlink()
    (disk / "filler").rmdir()


@pytest.mark.parametrize("what, enough", [("blocks", 6), ("files", 14)])
def test_a_disk_that_is_full_at_any_step(reference, disk, what, enough):
    """However little room there is: the record is there, or a message is and nothing else."""
    if what == "blocks":
        assert mount("-o", "remount,size=256k,nr_inodes=400", disk).returncode == 0
    failed = 0
    for free in range(enough + 1):
        filled(disk, what, free)
        try:
            (record,) = execute([initial()], short())
        except writing.RecordError as error:
            failed += 1
            assert error.errno == errno.ENOSPC and error.strerror.startswith(f"cannot write {disk}/results/tiny")
            assert error.strerror.endswith("on device); free some space or set BSA_RESULTS to another folder")
            assert not files(disk / "results")
        emptied(disk)
        (record,) = execute([initial()], short())
        assert same(record) == same(reference) and records.load("tiny") == [record]
        for path in sorted((disk / "results").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    assert 2 < failed <= enough, "with room enough it is no failure"


def test_a_disk_for_reading_only(reference, disk, monkeypatch):
    """What is there is used. What is missing is named before anything is computed, and computed later."""
    (there,) = execute([initial()], short())
    assert mount("-o", "remount,ro", disk).returncode == 0
    assert execute([initial()], short()) == [there]
    with monkeypatch.context() as patch:
        patch.setattr(loading, "load", None)
        with pytest.raises(writing.RecordError, match=r"cannot write .*\(Read-only file system\); set BSA_RESULTS to"):
            execute([initial(), initial(1)], short())
    assert mount("-o", "remount,rw", disk).returncode == 0
    assert len(execute([initial(), initial(1)], short())) == len(records.load("tiny")) == 2


@pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_locks(reference, results, monkeypatch, number):
    """Records are read there, and nothing is computed."""
    (there,) = execute([initial()], short())

    def refused(handle, how):
        raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refused)
        patch.setattr(computing, "computed", None)
        assert execute([initial()], short()) == [there]
        with pytest.raises(writing.RecordError, match=r"cannot lock .*\.lock \(its file system has no file locks: .*"):
            execute([initial(), initial(1)], short())
        assert len(files(results)) == 2
    assert len(execute([initial(), initial(1)], short())) == 2


# by hand, by the clock, by another version


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def edited(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace('"n": 3', '"n": 4', 1), encoding="utf-8")


def unsealed(path: Path) -> None:
    """As versions wrote it that knew no digests."""
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({name: record[name] for name in record if name != "digest"}), encoding="utf-8")


@pytest.mark.parametrize("edit", [cut_off, edited, unsealed])
def test_after_the_advice_for_a_record_that_is_not_right_a_rerun_completes(reference, results, edit):
    (there,) = execute([initial()], short())
    edit(records.beside(there))
    with pytest.raises(ValueError, match="delete the file and run again") as error:
        execute([initial(), initial(1)], short())
    assert len(files(results)) == 2, "nothing was computed yet"
    Path(str(error.value).partition(": ")[0]).unlink()
    found = execute([initial(), initial(1)], short())
    assert same(found[0]) == same(reference) and len(records.load("tiny")) == 2


def test_answers_that_were_cut(reference, results):
    (there,) = execute([initial()], short())
    cut_off(records.answers_path(there))
    with pytest.raises(ValueError, match=r"the answers are damaged .*; delete its record to compute it again"):
        records.read_answers(there)
    records.beside(there).unlink()
    (again,) = execute([initial()], short())
    assert same(again) == same(reference) and len(records.read_answers(again)) > 0


def test_a_clock_that_jumps(reference, results, monkeypatch):
    """Back and forth while a run is computed; then files of the last century, and a record of the next."""
    jumps = itertools.cycle([4e9, 1e6, 2e9, 0.0])
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: next(jumps))
        (there,) = execute([initial()], short())
    assert same(there) == same(reference) and 0 < there["cost"]["evaluate_seconds"] < 60
    later = there["environment"] | {"created": "2199-01-01T00:00:00+00:00"}
    later = records.sealed({**there, "environment": later}, records.read_answers(there).to_dict("records"))
    path = records.beside(later)
    path.write_bytes(writing.as_json(path, later))
    for moment in (0, 2**31 + 10**9):
        for file in results.rglob("*"):
            os.utime(file, (moment, moment))
        with monkeypatch.context() as patch:
            patch.setattr(computing, "computed", None)
            assert execute([initial()], short()) == records.load("tiny") == [later]
    assert len(execute([initial(), initial(1)], short())) == 2


def test_two_versions_of_the_code_over_one_folder(reference, results, monkeypatch, capsys):
    """Each computes its own records beside those of the other, and shows no others."""
    of = {1: execute([initial()], short())}
    with monkeypatch.context() as patch:
        patch.setattr(runs, "CODE", 2)
        of[2] = execute([initial()], short())
        assert lookup.current(records.load("tiny"), short()) == lookup.found([initial()], short()) == of[2]
    assert of[1][0]["key"] != of[2][0]["key"] and of[1][0]["outcomes"] == of[2][0]["outcomes"]
    assert lookup.current(records.load("tiny"), short()) == lookup.found([initial()], short()) == of[1]

    with monkeypatch.context() as patch:
        patch.setattr(records, "SCHEMA", 2)
        execute([initial()], short())
        capsys.readouterr()
        assert len(records.load("tiny")) == 1
        assert capsys.readouterr().err.count("field 'schema' is 1, expected 2") == 2
    (newer,) = (path for path in records.own("tiny") if json.loads(path.read_bytes())["schema"] == 2)
    content = newer.read_bytes()
    assert execute([initial()], short()) == of[1] and len(records.load("tiny")) == 2
    said = capsys.readouterr().err
    assert f"left out: {newer}: field 'schema' is 2, expected 1: a newer version of this project wrote it; use" in said
    assert "delete" not in said
    assert newer.read_bytes() == content and len(execute([initial(), initial(1)], short())) == 2
