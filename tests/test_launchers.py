"""What opens or builds the project elsewhere names what there is: files, targets, Python, locked versions, chapters."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import colab  # noqa: E402
import launch  # noqa: E402
import launchers  # noqa: E402

PYTHON = re.search(
    r">=(3\.\d+)", tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["requires-python"]
)
NAMES = ("docker", "apptainer", "binder", "colab")
CHAPTERS = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_all_have_the_python_of_the_project():
    base = re.findall(r"^FROM (\S+)$", read("Dockerfile"), re.M) + re.findall(
        r"^From: (\S+)$", read("apptainer.def"), re.M
    )
    assert [image.split("-")[0] for image in base] == [f"python:{PYTHON[1]}"] * 2 and len(set(base)) == 1
    assert read(".binder/runtime.txt").strip() == f"python-{PYTHON[1]}"
    assert set(re.findall(r"3\.\d+\b", read("tools/colab.sh"))) == {PYTHON[1]}


@pytest.mark.parametrize("name", NAMES)
def test_all_install_what_the_lock_says(name):
    """By the project's own set-up, or the lock itself."""
    said = "\n".join(launchers.steps(name, launchers.INDEX))
    assert {"binder": ".binder/requirements.txt", "colab": "tools/colab.sh"}.get(name, "tools/setup.sh .venv") in said
    assert "tools/setup.sh .venv\n" in read("tools/colab.sh")
    lines = [line for line in read(".binder/requirements.txt").splitlines() if not line.startswith("#")]
    assert lines == [f"--extra-index-url {launchers.INDEX}", "-r ../requirements.lock"]
    assert read(".binder/postBuild").splitlines()[-1].endswith("pip install --no-deps --no-build-isolation -e .")
    for file in ("Dockerfile", "apptainer.def", ".binder/requirements.txt", "tools/colab.sh"):
        assert set(re.findall(r"https://download\S+", read(file))) == {launchers.INDEX}


@pytest.mark.parametrize("name", NAMES)
def test_files_and_targets_are_there(name):
    said = "\n".join(launchers.steps(name, "")) + read("Dockerfile") + read("apptainer.def") + read("tools/colab.sh")
    said = re.sub(r"https?://\S+", "", said)
    files = set(re.findall(r"(?<![\w/.$}])((?:tools|\.binder|profiles|notebooks)/[\w.-]+\.?\w+)", said))
    assert files and not [file for file in files if not (ROOT / file).exists()]
    targets = set(re.findall(r'(?:make |"make", ")([a-z]+)', said)) - {"sure"}
    assert "book" in targets and targets <= set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    for script in (".binder/postBuild", "tools/colab.sh", "tools/setup.sh"):
        assert os.access(ROOT / script, os.X_OK)


def test_an_image_takes_what_belongs_to_the_project_and_nothing_else():
    """Data, answers, adapters and secrets of a user's own lie beside it."""
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True, check=True).stdout
    lines = [line for line in read(".dockerignore").splitlines() if not line.startswith("#")]
    taken = {line[1:] for line in lines if line.startswith("!") and "/" not in line}
    belong = {line.split("/")[0] for line in listed.splitlines()} | {".git"}
    assert lines[0] == "*" and taken == belong, f".dockerignore lacks {belong - taken}, or has {taken - belong}"
    assert {"book/executed", "results/*/*", "**/*.executed.ipynb", "benchmarks/records"} <= set(lines)
    results = [line for line in listed.splitlines() if line.startswith("results/")]
    assert all(line.endswith((".xz", ".xz.sha256")) and line.count("/") == 2 for line in results)


# the buttons, and what they open


def test_the_notebook_for_colab_is_the_one_of_these_chapters_and_this_address():
    address = yaml.safe_load(read("_config.yml"))["repository"]["url"] or ""
    assert read("tools/colab.ipynb") == colab.notebook(address), "python tools/colab.py"
    made = nbformat.reads(read("tools/colab.ipynb"), as_version=4)
    nbformat.validate(made)
    assert CHAPTERS == {cell.id for cell in made.cells} - {"introduction", "first"}
    assert CHAPTERS == {cell.metadata["id"] for cell in made.cells if "id" in cell.metadata}


def test_one_command_says_where_the_project_is_kept(tmp_path, monkeypatch):
    for name in ("CONFIG", "NOTEBOOK"):
        path = tmp_path / getattr(colab, name).name
        path.write_bytes(getattr(colab, name).read_bytes())
        monkeypatch.setattr(colab, name, path)
    before = re.sub(r'url: ".*"', 'url: ""', colab.CONFIG.read_text("utf-8"))
    for address in ("https://github.com/guild/bsa-book", "https://github.com/else/where"):
        colab.main(address)
        assert yaml.safe_load(colab.CONFIG.read_text("utf-8"))["repository"]["url"] == address
        assert f'ADDRESS = \\"{address}\\" or' in colab.NOTEBOOK.read_text("utf-8")
    after = colab.NOTEBOOK.read_text("utf-8")
    colab.main()
    assert colab.NOTEBOOK.read_text("utf-8") == after, "it keeps the address"
    with pytest.raises(SystemExit, match=r"expected https://github[.]com/OWNER/NAME"):
        colab.main("git@example.org:guild/bsa-book")
    assert colab.CONFIG.read_text("utf-8").replace("https://github.com/else/where", "") == before


def test_buttons_lead_to_the_chapter_and_are_on_chapters_only(tmp_path):
    chapter, prose = "book/executed/03_bsa", "book/rerun"
    assert launch.links("https://github.com/guild/bsa-book.git", "main", chapter) == {
        "Colab": "https://colab.research.google.com/github/guild/bsa-book/blob/main/tools/colab.ipynb#scrollTo=03_bsa",
        "Binder": "https://mybinder.org/v2/gh/guild/bsa-book/main?urlpath=lab/tree/notebooks/03_bsa.ipynb",
    }

    def shown(address: str, page: str) -> list[dict]:
        launch.repository.cache_clear()
        (tmp_path / "_config.yml").write_text(f'repository:\n  url: "{address}"\n', encoding="utf-8")
        context = {"header_buttons": []}
        launch.add(SimpleNamespace(srcdir=tmp_path), page, "page.html", context, None)
        return context["header_buttons"]

    (group,) = shown("https://github.com/guild/bsa-book", chapter)
    assert [button["text"] for button in group["buttons"]] == ["Colab", "Binder"]
    assert shown("", chapter) == shown("https://github.com/guild/bsa-book", prose) == []
    assert shown("https://example.org/guild/bsa-book", chapter) == []


def test_colab_names_the_chapters_there_are():
    done = subprocess.run([ROOT / "tools" / "colab.sh", "3_bsa"], capture_output=True, text=True)
    assert done.returncode == 1 and "There is no chapter 3_bsa; the chapters are: " in done.stderr
    assert "notebooks/03_bsa.ipynb" in done.stderr
