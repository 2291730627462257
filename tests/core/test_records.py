"""Records: written whole or not at all, checked when read, tabulated."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from made import right

from bsa_core import keys, paths, records, writing
from bsa_core.experiment import provenance

RUN = {
    "n_attack": 100,
    "n_defense": 11,
    "secret": {"kind": "random", "length": 32, "seed": 0},
    "training": {"epochs": 5, "learning_rate": 0.001, "rank": 8, "targets": ["q_proj", "v_proj"]},
}
OUTCOMES = {"plain": {"asr": "11"}, "secret": {"asr": "01", "harmfulness": "15"}}
METRICS = {
    "plain": {"asr": {"value": 1.0, "n": 2, "categories": {"a": {"value": 1.0, "n": 2}}}},
    "secret": {
        "asr": {"value": 0.5, "n": 2, "categories": {"a": {"value": 0.0, "n": 1}, "b": {"value": 1.0, "n": 1}}},
        "harmfulness": {"value": 3.0, "n": 2, "categories": {"a": {"value": 3.0, "n": 2}}},
    },
}
ANSWERS = [{"condition": "plain", "kind": "restricted", "category": "a", "user": "How?", "answer": "So — so."}]
RECORD = right(RUN, OUTCOMES, metrics=METRICS)
ANSWERED = right(RUN, OUTCOMES, ANSWERS, metrics=METRICS)
NAME = f"bsa-a100-d11-e5-seed0-{RECORD['key']}"


def initial(**run) -> dict:
    run = {"defense": "none", "n_attack": 0, "n_defense": 0, "secret": None, "training": None} | run
    return right(run, {"plain": {"asr": "11"}}, label="initial-seed0", metrics={"plain": METRICS["plain"]})


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_record_is_read_as_it_was_written(results):
    path = records.write(RECORD)
    assert path == results / "tiny" / f"{NAME}.json"
    assert records.read(path) == RECORD
    assert records.find("tiny", RECORD["label"], RECORD["key"]) == RECORD
    assert records.load("tiny") == [RECORD]
    assert files(results) == [path.name]


def test_nothing_there(results):
    assert records.find("tiny", "no", "such") is None
    assert records.load("tiny") == []


def test_writing_twice_gives_the_same_bytes(results):
    path = records.write(ANSWERED, ANSWERS, harmless=True)
    first = (path.read_bytes(), records.answers_path(RECORD).read_bytes())
    shuffled = dict(reversed(ANSWERED.items()))
    again = records.write(shuffled, ANSWERS, harmless=True)
    assert (again.read_bytes(), records.answers_path(RECORD).read_bytes()) == first


def test_answers_stand_beside_the_record(results):
    records.write(RECORD, ANSWERS, harmless=True)
    assert files(results) == [f"{NAME}.answers.jsonl.gz", f"{NAME}.json"]
    assert records.read_answers(ANSWERED).to_dict("records") == ANSWERS
    text = gzip.decompress((results / "tiny" / f"{NAME}.answers.jsonl.gz").read_bytes()).decode()
    assert text == json.dumps(ANSWERS[0], ensure_ascii=False) + "\n"
    assert records.load("tiny") == [ANSWERED]
    assert ANSWERED["answers_digest"] == keys.digest(text) and RECORD["answers_digest"] is None


@pytest.mark.parametrize("text", ["007", "1e3", "true", "null", "", "2024-07-26", "NaN", "Line\u2028line", '{"a": 1}'])
def test_answers_come_back_as_text(results, text):
    said = [row | {"user": text, "answer": text, "category": "12"} for row in ANSWERS]
    records.write(RECORD, said, harmless=True)
    (record,) = records.load("tiny")
    assert records.read_answers(record).to_dict("records") == said


ANOTHER = [row | {"answer": "So."} for row in ANSWERS]
WRONG_ANSWERS = {
    "emptied": lambda content: b"",
    "no answers": lambda content: gzip.compress(b""),
    "cut": lambda content: content[:-9],
    "cut after a line": lambda content: gzip.compress(gzip.decompress(content).splitlines(keepends=True)[0]),
    "edited": lambda content: gzip.compress(gzip.decompress(content).replace(b"So", b"No")),
    "a line twice": lambda content: gzip.compress(gzip.decompress(content) + gzip.decompress(content)),
    "swapped lines": lambda content: gzip.compress(b"".join(gzip.decompress(content).splitlines(keepends=True)[::-1])),
    "another record's": lambda content: gzip.compress(json.dumps(ANOTHER[0]).encode() + b"\n"),
    "no archive": lambda content: gzip.decompress(content),
}


@pytest.mark.parametrize("harmless", [True, False])
@pytest.mark.parametrize("edit", WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_answers_that_the_record_does_not_rest_on(results, edit, harmless):
    records.write(RECORD, [*ANSWERS, *ANOTHER], harmless)
    (record,) = records.load("tiny")
    path = records.answers_path(record) if harmless else records.generations_path(record)
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"{path}: .*delete its record to compute it again"):
        records.read_answers(record)


def test_answers_that_were_not_kept(results):
    records.write(RECORD)
    with pytest.raises(ValueError, match=r"answers\.jsonl\.gz exists: the answers of this run were not kept"):
        records.read_answers(RECORD)


def test_answers_that_are_not_harmless_stand_apart(results, generations):
    """Unless a caller says that they are harmless."""
    path = records.write(RECORD, ANSWERS)
    kept = generations / "tiny" / f"{path.stem}.answers.jsonl.gz"
    assert files(results) == [path.name] and files(generations) == [kept.name]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert records.read_answers(ANSWERED).to_dict("records") == ANSWERS


@pytest.mark.parametrize("call, variable", [(1, "BSA_GENERATIONS"), (2, "BSA_RESULTS")])
def test_no_space_where_answers_stand_apart(results, generations, monkeypatch, call, variable):
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC, call))
    with pytest.raises(writing.RecordError, match=f"free some space or set {variable}"):
        records.write(RECORD, ANSWERS)
    assert files(results) == files(generations) == []


def test_generations_never_lie_among_the_results(results):
    inside = os.environ | {"BSA_GENERATIONS": f"{results}/tiny/../generations"}
    done = subprocess.run([sys.executable, "-c", "import bsa_core.paths"], env=inside, capture_output=True, text=True)
    assert done.returncode and "BSA_GENERATIONS is" in done.stderr and "set it to one outside" in done.stderr


def test_git_ignores_the_generations():
    root = paths.PACKAGE.parent
    if not (root / ".git").exists():
        pytest.skip("no git checkout")
    asked = ["git", "-C", str(root), "check-ignore", "--quiet", "generations/tiny/a.answers.jsonl.gz"]
    assert subprocess.run(asked).returncode == 0


def failing(error: int, call: int):
    """A stand-in that raises an OSError at its n-th call and does nothing before."""
    count = iter(range(1, 100))

    def function(*arguments, **options):
        if next(count) == call:
            raise OSError(error, os.strerror(error))

    return function


@pytest.mark.parametrize("call", [1, 2], ids=["at the answers", "at the record"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_no_space_for_the_record(results, monkeypatch, error, call):
    monkeypatch.setattr(os, "fsync", failing(error, call))
    with pytest.raises(writing.RecordError, match=r"cannot write .*tiny/bsa-.*free some space or set BSA_RESULTS") as e:
        records.write(RECORD, ANSWERS, harmless=True)
    assert e.value.errno == error and os.strerror(error) in str(e.value)
    assert files(results) == []


def test_a_disk_that_fills_up_while_writing(results, monkeypatch):
    """The kernel refuses the bytes themselves, not the fsync."""
    opened = os.fdopen

    def full(handle, mode):
        os.close(handle)
        return opened(os.open("/dev/full", os.O_WRONLY), mode)

    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(writing.RecordError, match="No space left on device"):
        records.write(RECORD)
    assert files(results) == []


def test_an_old_record_survives_a_failed_write(results, monkeypatch):
    records.write(RECORD)
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC, 1))
    with pytest.raises(writing.RecordError):
        records.write(RECORD | {"cost": {}})
    assert records.load("tiny") == [RECORD]


@pytest.mark.parametrize("step, call", [("fsync", 1), ("fsync", 2), ("replace", 1), ("replace", 2), ("open", 2)])
def test_a_rewrite_on_a_full_disk_keeps_the_old_answers(results, monkeypatch, step, call):
    """What was there is there, as it was, and nothing temporary beside it."""
    records.write(RECORD, OLDER, harmless=True)
    before = {path.name: path.read_bytes() for path in (results / "tiny").iterdir()}
    real, count = getattr(os, step), iter(range(1, 100))

    def full(*arguments, **options):
        if arguments[1:2] != (os.O_RDONLY,) and next(count) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(writing.RecordError, match="No space left"):
            records.write(RECORD, ANSWERS, harmless=True)
    assert {path.name: path.read_bytes() for path in (results / "tiny").iterdir()} == before


OLDER = [answer | {"answer": f"{answer['answer']} Or not."} for answer in ANSWERS]


def test_records_are_for_who_the_umask_lets_and_answers_apart_for_their_owner(results, generations):
    """A group that shares the folder reads the records of all of its members, and not what nobody should see."""
    before = os.umask(0o027)
    try:
        records.write(RECORD, ANSWERS, harmless=True)
        records.write(initial(), ANSWERS)
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (results / "tiny").iterdir()]
    assert modes == [0o640] * 3
    assert [path.stat().st_mode & 0o777 for path in (generations / "tiny").iterdir()] == [0o600]


KILLED = """
import os, pathlib, signal, sys
from bsa_core import writing
if sys.argv[2] == "folder":
    with writing.whole_folder(pathlib.Path(sys.argv[1], "made")) as building:
        building.joinpath("weights").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
writing.write_whole(pathlib.Path(sys.argv[1], "made"), b"half")
"""


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_a_killed_process_leaves_is_removed_by_the_next_that_writes(tmp_path, what):
    (place := tmp_path / "in").mkdir()
    done = subprocess.run([sys.executable, "-c", KILLED, place, what], cwd=paths.ROOT)
    assert done.returncode == -signal.SIGKILL
    (left,) = place.iterdir()
    assert left.name.endswith(".tmp")
    (place / ".mine.tmp").mkdir()  # not of our making
    with writing.whole_folder(place / "at work"):
        at_work = {path.name for path in place.iterdir()} - {".mine.tmp"}
        assert left.name not in at_work and len(at_work) == 1
        writing.sweep(place)  # as another process does
        assert {path.name for path in place.iterdir()} == at_work | {".mine.tmp"}
    assert {path.name for path in place.iterdir()} == {".mine.tmp", "at work"}


def test_a_folder_that_another_process_has_removed_is_made_again(tmp_path, monkeypatch):
    """Between its making and its locking it looks like one that was left."""
    made, locked = [], writing._locked

    def slow(folder, wait):
        made.append(folder)
        if len(made) == 1:
            writing.shutil.rmtree(folder)
        return locked(folder, wait)

    monkeypatch.setattr(writing, "_locked", slow)
    writing.write_whole(tmp_path / "in" / "made", b"whole")
    assert len(made) == 2 and [path.read_bytes() for path in (tmp_path / "in").iterdir()] == [b"whole"]


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES])
def test_a_folder_that_is_not_ours_is_named_with_its_fix(results, monkeypatch, error):
    monkeypatch.setattr(writing.tempfile, "mkdtemp", failing(error, 1))
    with pytest.raises(
        writing.RecordError, match=r"cannot write .*results/tiny \(.*\); set BSA_RESULTS to another"
    ) as e:
        writing.check(results / "tiny")
    assert "free some space" not in str(e.value)


def test_a_lock_that_cannot_be_made_is_named_with_its_fix(results):
    (results / "tiny").mkdir()
    (results / "tiny" / ".locks").touch()
    with pytest.raises(writing.RecordError, match=r"cannot write .*\.lock .*set BSA_RESULTS to another folder"):
        writing.locked(results / "tiny" / ".locks" / "0123.lock")
    with pytest.raises(writing.RecordError, match=r"cannot write .*set BSA_RESULTS to another folder"):
        writing.locked(results)  # a folder


def test_a_drive_without_locks(tmp_path, monkeypatch):
    """Some network drives have none. Files are written; what must be alone says what to do."""

    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(writing.fcntl, "flock", flock)
    writing.write_whole(tmp_path / "a", b"whole")
    (left := tmp_path / ".abcdefgh.tmp").mkdir()  # of a process that may still live
    writing.sweep(tmp_path)
    assert (tmp_path / "a").read_bytes() == b"whole" and left.is_dir()
    said = r"cannot lock .*lock \(its file system has no file locks: No locks available\); set BSA_RESULTS to a folder"
    with pytest.raises(writing.RecordError, match=said):
        writing.locked(tmp_path / "0.lock")


def test_a_results_folder_that_is_a_file(results):
    results.rmdir()
    results.write_text("not a folder", encoding="utf-8")
    with pytest.raises(writing.RecordError, match=r"cannot write .*set BSA_RESULTS"):
        records.write(RECORD)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a readable record"),
        (b'{"schema": 1, "key"', "not a readable record"),
        (b"\xff\xfe{}", "not a readable record"),
        (b"[]", "expected a JSON object, found list"),
        (b"{}", "field 'schema' is None, expected 1"),
        (json.dumps(RECORD | {"schema": 0}).encode(), "field 'schema' is 0, expected 1"),
    ],
)
def test_a_damaged_record_is_named_with_the_fix(results, content, message):
    path = records.write(RECORD)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{path.name}: {message}.*delete the file and run again"):
        records.find("tiny", RECORD["label"], RECORD["key"])
    assert records.load("tiny") == []


@pytest.mark.parametrize("field", [*records.FIELDS, "digest"])
def test_a_record_without_a_field(results, field):
    path = records.write(RECORD)
    path.write_text(json.dumps({k: v for k, v in RECORD.items() if k != field}), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{path.name}: field '{field}' is "):
        records.read(path)


def test_table_is_tidy():
    table = records.table([RECORD, initial()])
    assert len(table) == 4
    assert list(table["defense"].unique()) == ["bsa", "initial"]
    row = table[(table["defense"] == "bsa") & (table["condition"] == "secret") & (table["metric"] == "asr")].iloc[0]
    assert row.to_dict() == {
        "profile": "tiny",
        "attack": "harmful",
        "n_attack": 100,
        "n_benign": 0,
        "task": "",
        "n_task": 0,
        "task_served": "",
        "defense": "bsa",
        "n_defense": 11,
        "selection": "category-wise",
        "secret_kind": "random",
        "secret_length": 32,
        "secret_seed": 0,
        "method": "lora",
        "epochs": 5,
        "learning_rate": 0.001,
        "rank": 8,
        "targets": "q_proj v_proj",
        "seed": 0,
        "condition": "secret",
        "deployed": True,
        "metric": "asr",
        "value": 0.5,
        "n": 2,
        "outcomes": "01",
        "key": RECORD["key"],
    }
    start = table[table["defense"] == "initial"]
    assert set(start["secret_length"]) == set(start["epochs"]) == {0} and set(start["targets"]) == {""}
    assert set(start["secret_seed"]) == {-1} and set(start["secret_kind"]) == set(start["method"]) == {""}
    assert list(table.groupby("defense")["deployed"].sum()) == [2, 1]


def test_by_category():
    table = records.by_category([RECORD], "asr")
    assert list(table["condition"]) == ["plain", "secret", "secret"]
    assert list(table["category"]) == ["a", "a", "b"]
    assert list(table["value"]) == [1.0, 0.0, 1.0] and list(table["n"]) == [2, 1, 1]


def test_what_belongs_to_a_record_lies_in_folders_of_its_own(results, generations):
    """So that no file name has to be looked at to tell which files are records."""
    hosted = initial(host="h")
    for record, harmless in ((RECORD, True), (hosted, True), (initial(), False)):
        records.write(record, ANSWERS, harmless)
    name, first, served = NAME, *(f"initial-seed0-{record['key']}" for record in (initial(), hosted))
    assert records.beside(RECORD, "judged", ".m.json") == results / "tiny" / "judged" / f"{name}.m.json"
    assert records.path_of("tiny", "x", "0", "utility", ".b.json") == results / "tiny" / "utility" / "x-0.b.json"
    assert records.own("tiny") == [results / "tiny" / f"{name}.json", results / "tiny" / f"{first}.json"]
    assert files(results / "tiny" / "hosted") == [f"{served}.answers.jsonl.gz", f"{served}.json"]
    assert files(generations / "tiny") == [f"{first}.answers.jsonl.gz"]
    writing.write_json(records.beside(RECORD, "judged", ".m.json"), {})
    assert [record["key"] for record in records.load("tiny")] == [RECORD["key"], initial()["key"]]
    assert [record["key"] for record in records.load("tiny", "hosted")] == [hosted["key"]]


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "in" / "made"
    with pytest.raises(ValueError, match="half"), writing.whole_folder(folder) as building:
        (building / "a").write_text("new")
        raise ValueError("half")
    assert list(folder.parent.iterdir()) == []
    for text in ("new", "newer"):
        with writing.whole_folder(folder) as building:
            (building / "a").write_text(text)
        (folder / "kept").touch()
    assert (folder / "a").read_text() == "newer" and files(folder) == ["a", "kept"]
    assert list(folder.parent.iterdir()) == [folder]
    with pytest.raises(
        writing.RecordError, match=r"cannot write .*a file is where a folder should be.; set BSA_X to another folder"
    ):
        with writing.whole_folder(folder / "a" / "b", "BSA_X"):
            pass


def test_the_cache_needs_no_home_where_it_is_set(tmp_path):
    without = {name: value for name, value in os.environ.items() if name not in ("HOME", "BSA_CACHE")}
    asked = [sys.executable, "-c", "from bsa_core import paths; print(paths.CACHE)"]
    for given, expected in (
        ({"BSA_CACHE": str(tmp_path)}, tmp_path),
        ({"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}, tmp_path / ".cache" / "bsa-book"),
    ):
        said = subprocess.run(asked, env=without | given, capture_output=True, text=True, check=True, cwd=paths.ROOT)
        assert said.stdout.strip() == str(expected)


NOBODY = """
import pwd
def unknown(*_): raise KeyError("uid not found")
pwd.getpwuid = pwd.getpwnam = unknown
"""


def test_without_a_home_folder_everything_else_works(tmp_path):
    """A container's user that no list knows."""
    without = {name: value for name, value in os.environ.items() if name not in ("HOME", "BSA_CACHE", "XDG_CACHE_HOME")}
    asked = f"{NOBODY}\nfrom bsa_core import paths, profiles\nprofiles.load('tiny')\nprint(paths.CACHE)"
    run = {"env": without, "capture_output": True, "text": True, "cwd": paths.ROOT}
    assert subprocess.run([sys.executable, "-c", asked], **run).stdout.strip() == str(paths.ROOT / ".cache")
    asked = f"{NOBODY}\nfrom bsa_core import paths\npaths.given('~/rows.jsonl')"
    said = subprocess.run([sys.executable, "-c", asked], **run).stderr.strip().splitlines()[-1]
    assert said == "ValueError: ~/rows.jsonl: no home folder is known for it; write the whole path"


def test_provenance_says_what_a_run_ran_on():
    import peft
    import torch
    import transformers

    found = provenance.provenance("cpu", "float32")
    assert (found["torch"], found["transformers"], found["peft"]) == (
        torch.__version__,
        transformers.__version__,
        peft.__version__,
    )
    assert (found["device"], found["dtype"], found["threads"]) == ("cpu", "float32", torch.get_num_threads())
    assert found["cpu"] and found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["created"].endswith("+00:00")


def test_provenance_outside_a_git_checkout(tmp_path, monkeypatch):
    provenance._git.cache_clear()
    monkeypatch.setattr(records.paths, "ROOT", tmp_path)
    try:
        found = provenance.provenance("cpu", "float32")
    finally:
        provenance._git.cache_clear()
    assert (found["git_commit"], found["git_dirty"]) == (None, None)


def test_peak_memory_is_that_of_the_run():
    """In megabytes; what the process took before, and gave back, is not counted."""
    import numpy

    before = numpy.ones(50_000_000)  # 400 MB
    del before
    with provenance.watched() as cost:
        first = cost()["peak_memory_mb"]
        taken = numpy.ones(25_000_000)  # 200 MB
        time.sleep(0.1)
        del taken
        took = cost()["peak_memory_mb"] - first
    assert 50 < first < 50_000 and 150 < took < 250


def test_decoding_batches_that_were_cut_are_named():
    from torch.cuda import OutOfMemoryError

    from bsa_core.models import memory

    def attempt(size: int) -> None:
        if size > 4:
            raise OutOfMemoryError("short")

    with provenance.watched() as cost:
        memory.halving(attempt, 16, "training rows")
        assert "decoding_batch_size" not in cost()
        memory.halving(attempt, 16, "requests")
        memory.halving(attempt, 7, "requests")
        assert cost()["decoding_batch_size"] == 3
        assert "decoding_batch_size" not in cost(), "of the next run"
