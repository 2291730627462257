"""The Snakefile on a notebook that takes a moment: what is rerun, what a failure and a kill leave."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
TARGET = "book/executed/00_testbed.ipynb"


def write_notebook(folder: Path, *cells: str, parameters: str = 'profile = "tiny"\nseeds = [0]') -> None:
    """A notebook 00_testbed with a parameters cell and `cells`."""
    first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = new_notebook(cells=[first, *map(new_code_cell, cells)], metadata=kernel)
    nbformat.write(notebook, folder / "notebooks" / "00_testbed.ipynb")


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder with this project's Snakefile, tools and profiles, one notebook and a core of one file."""
    folder = tmp_path / "project"
    for name in ("tools", "profiles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Snakefile", folder)
    for name in ("notebooks", "bsa_core", "book"):
        (folder / name).mkdir()
    (folder / "bsa_core" / "core.py").write_text("ONE = 1\n", encoding="utf-8")
    (folder / "notebooks" / "parameters.yaml").write_text("{}\n", encoding="utf-8")
    write_notebook(
        folder, "import sys\nprint('[bsa] run 1 of 1, no time left', file=sys.stderr)\nprint(profile, seeds)"
    )
    return folder


def command(seeds: str = "0", profile: str = "tiny", target: str = TARGET, **more: str) -> list[str]:
    """more: further settings, such as full="1"."""
    options = ["--cores", "1", "--nolock", "--rerun-incomplete", "--quiet", "host", "reason"]
    return [
        sys.executable,
        "-m",
        "snakemake",
        *options,
        "--config",
        f"profile={profile}",
        f"seeds={seeds}",
        *(f"{name}={value}" for name, value in more.items()),
        "--",
        target,
    ]


def snakemake(folder: Path, *arguments: str, **options: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments, **options), cwd=folder, capture_output=True, text=True, timeout=300)


def printed(folder: Path, target: str = TARGET) -> str:
    """What the executed notebook's cells printed."""
    notebook = nbformat.read(folder / target, as_version=4)
    return "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))


def test_reruns_only_what_changed(project):
    first = snakemake(project, seeds="0 1")
    assert first.returncode == 0, first.stderr
    assert "00_testbed: run 1 of 1, no time left" in first.stderr  # progress reaches the terminal,
    assert printed(project) == "tiny [0, 1]\n"  # and not the page
    page = nbformat.read(project / TARGET, as_version=4)
    assert "papermill" not in page.metadata
    assert "remove-cell" in page.cells[0].metadata.tags
    assert "hide-input" in page.cells[1].metadata.tags
    assert "[bsa]" in (project / "_build/logs/00_testbed.log").read_text(encoding="utf-8")

    assert "Nothing to be done" in snakemake(project, seeds="0 1").stderr
    (project / "bsa_core" / "core.py").touch()
    assert "Nothing to be done" in snakemake(project, seeds="0 1").stderr, "the same content is no change"

    (project / "bsa_core" / "core.py").write_text("ONE = 2\n", encoding="utf-8")
    assert "00_testbed: done" in snakemake(project, seeds="0 1").stderr
    assert "00_testbed: done" in snakemake(project, seeds="2").stderr
    assert printed(project) == "tiny [2]\n"


def test_unknown_parameter_fails_before_anything_runs(project):
    write_notebook(project, "print(1)", parameters="profile = 'tiny'\nseed = [0]")
    run = snakemake(project)
    assert run.returncode != 0
    assert "has no parameter seeds; its parameters are: profile, seed" in run.stderr
    assert not (project / TARGET).exists()
    assert not (project / "_build/logs/00_testbed.ipynb").read_bytes(), "Snakemake leaves an empty log"


def test_grid_of_the_book_reaches_the_notebook(project):
    """full=1 computes the long grids as well."""
    defaults = "profile = 'tiny'\nseeds = [0]\nsizes = [11]\ncompute = True"
    write_notebook(project, "print(seeds, sizes, compute)", parameters=defaults)
    grid = project / "notebooks" / "parameters.yaml"
    grid.write_text("00_testbed: {sizes: [11, 25], compute: false}\n", encoding="utf-8")
    assert snakemake(project).returncode == 0
    assert printed(project) == "[0] [11, 25] False\n"
    assert snakemake(project, full="1").returncode == 0
    assert printed(project) == "[0] [11, 25] True\n"
    grid.write_text("00_testbed: {size: [11, 25]}\n", encoding="utf-8")
    assert "has no parameter size; its parameters are: profile, seeds, sizes, compute" in snakemake(project).stderr


def test_other_seeds_than_those_that_ship_are_computed(project, results):
    write_notebook(project, "print(compute)", parameters="profile = 'tiny'\nseeds = [0]\ncompute = True")
    (project / "notebooks" / "parameters.yaml").write_text("00_testbed: {compute: [0, 1, 2]}\n", encoding="utf-8")
    assert snakemake(project, seeds="1 5").returncode == 0
    assert "[1, 5]" in printed(project), "nothing ships"
    (results / "tiny").mkdir()
    (results / "tiny" / "shipped.jsonl.xz").touch()
    for seeds, expected in (("1 5", "[1]"), ("7 8", "[7, 8]")):
        assert snakemake(project, seeds=seeds).returncode == 0
        assert expected in printed(project)
    assert snakemake(project, seeds="0 1 5", compute="1 5").returncode == 0
    assert "[1, 5]" in printed(project), "those of the command in place of those of the grid"


def test_failing_notebook_is_kept_as_the_log(project):
    write_notebook(project, "print('so far')", "raise ValueError('epochs is -1; expected a number from 1 to 100')")
    run = snakemake(project)
    assert run.returncode != 0
    assert "epochs is -1; expected a number from 1 to 100" in run.stderr
    assert not (project / TARGET).exists()
    assert "so far" in printed(project, "_build/logs/00_testbed.ipynb")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_interrupted_run_continues(project, how):
    write_notebook(
        project,
        "import os, time\nos.makedirs('records', exist_ok=True)",
        "for number in range(3):\n"
        "    if not os.path.exists(f'records/{number}'):\n"
        "        time.sleep(0 if os.path.exists('records/1') else number)\n"
        "        open(f'records/{number}', 'w').write(str(time.time()))",
        "time.sleep(60 if os.environ.get('SLOW') else 0)\nprint(sorted(os.listdir('records')))",
    )
    slow = os.environ | {"SLOW": "1"}
    run = subprocess.Popen(
        command(),
        cwd=project,
        env=slow,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # a shell starts what runs in its background deaf to Ctrl-C, the tests included
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 200
    while not (project / "records/2").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    made = (project / "records/0").read_text(encoding="utf-8")
    os.killpg(run.pid, how)
    run.communicate(timeout=60)
    assert run.returncode != 0
    assert not (project / TARGET).exists()

    again = snakemake(project)
    assert again.returncode == 0, again.stderr
    assert printed(project) == "['0', '1', '2']\n"
    assert (project / "records/0").read_text(encoding="utf-8") == made, "what was there is used"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"profile": "tyni"}, "there is no file profiles/tyni.yaml; the profiles are: "),
        ({"seeds": "one"}, "seeds='one': expected different whole numbers from 0"),
        ({"compute": "1 x"}, "compute='1 x': expected different whole numbers from 0"),
        ({"compute": "0 7"}, "compute='0 7': [7] are not among the seeds of the book, [0]"),
        ({"seeds": "1 1"}, "seeds='1 1': expected different whole numbers from 0"),
        ({"seeds": "-1"}, "expected different whole numbers from 0"),
    ],
)
def test_bad_settings_are_named(project, options, message):
    run = snakemake(project, **options)
    assert run.returncode != 0
    assert message in run.stderr


def test_second_run_in_the_same_folder_stops_at_once(tmp_path):
    locked = [sys.executable, str(ROOT / "tools" / "locked.py"), str(tmp_path / "lock"), sys.executable, "-c"]
    first = subprocess.Popen(
        [*locked, "print('held', flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout.readline() == b"held\n"
    second = subprocess.run([*locked, "print('ran')"], capture_output=True, text=True)
    assert second.returncode != 0 and "Another `make book`" in second.stderr and "ran" not in second.stdout
    first.kill()
    first.communicate()
    third = subprocess.run([*locked, "print('ran')"], capture_output=True, text=True)
    assert third.returncode == 0 and third.stdout == "ran\n", "a killed run leaves no lock"


def test_a_folder_without_locks_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import locked

    def refused(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locked.fcntl, "flock", refused)
    monkeypatch.setattr(sys, "argv", ["locked.py", str(tmp_path / "lock"), "true"])
    with pytest.raises(SystemExit, match=r"lock cannot be locked \(No locks available\): work in a folder on a"):
        locked.main()


def test_check_takes_what_papermill_would(project):
    """The message lists the parameters that the notebook has."""
    path = project / "notebooks" / "00_testbed.ipynb"
    execute = [sys.executable, ROOT / "tools" / "execution.py", path, project / "log.ipynb", project / "page.ipynb"]
    assert subprocess.run([*execute, json.dumps({"seeds": [1]})]).returncode == 0
    assert printed(project, "page.ipynb") == "tiny [1]\n"
    run = subprocess.run([*execute, json.dumps({"sees": [1]})], capture_output=True, text=True)
    assert run.returncode != 0 and "has no parameter sees; its parameters are: profile, seeds" in run.stderr


def test_a_clock_that_jumps(project):
    """Sources dated in the next century, pages in the last: what has not changed is not run again, what has is."""
    future, past = 4_000_000_000, 0
    notebook = project / "notebooks" / "00_testbed.ipynb"
    os.utime(notebook, (future, future))
    assert snakemake(project).returncode == 0 and printed(project) == "tiny [0]\n"
    os.utime(project / TARGET, (past, past))
    assert "Nothing to be done" in snakemake(project).stderr
    write_notebook(project, "print('changed')")
    os.utime(notebook, (past, past))
    done = snakemake(project)
    assert done.returncode == 0 and printed(project) == "changed\n", done.stderr
