"""Every test works on records of its own: the user's results folder is neither read nor written.

The notebooks that nbval runs in the same session, and the book that test_book.py builds, share one temporary results
folder, so that whichever comes second finds the records of the first; so do the processes that pytest-xdist starts.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def session_results() -> Path:
    """A temporary results folder that holds the committed records: of `tiny`, cheap to rerun, only the long grids."""
    folder = Path(tempfile.mkdtemp(prefix="bsa-results-"))
    for made in (folder, f"{folder}-generations", f"{folder}-hosted"):
        atexit.register(shutil.rmtree, made, ignore_errors=True)
    for scale in (ROOT / "results").glob("*/"):
        own = () if not scale.name.startswith("tiny") else ("*.json", "*.gz", ".*")
        shutil.copytree(scale, folder / scale.name, ignore=shutil.ignore_patterns(*own))
    return folder


# Set here, before anything imports bsa_core or torch, and inherited by every kernel and subprocess. A worker of
# pytest-xdist is a subprocess of the session and takes over its folder.
SESSION_RESULTS = Path(os.environ["BSA_RESULTS"]) if "PYTEST_XDIST_WORKER" in os.environ else session_results()
os.environ["BSA_RESULTS"] = str(SESSION_RESULTS)
os.environ["BSA_GENERATIONS"] = f"{SESSION_RESULTS}-generations"
os.environ["BSA_HOSTED"] = f"{SESSION_RESULTS}-hosted"
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("OMP_NUM_THREADS", "1")


# Files that take a minute or two, which pytest-xdist (--dist loadscope) therefore hands out before all others.
LONG = "book cluster paper_scale extending benchmarks pipeline experiment faults capability".split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, then the notebooks, so that no process ends with one while the others are idle."""
    order = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG) + (item.path.suffix != ".ipynb")))


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch) -> Path:
    """The empty results folder of one test, in place of the package's."""
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setenv("BSA_RESULTS", str(folder))
    if paths := sys.modules.get("bsa_core.paths"):
        monkeypatch.setattr(paths, "RESULTS", folder)
    return folder


@pytest.fixture(autouse=True)
def generations(tmp_path, monkeypatch) -> Path:
    """The folder of one test for answers that are not harmless; not there before the first of them."""
    folder = tmp_path / "generations"
    monkeypatch.setenv("BSA_GENERATIONS", str(folder))
    if paths := sys.modules.get("bsa_core.paths"):
        monkeypatch.setattr(paths, "GENERATIONS", folder)
    return folder


@pytest.fixture(scope="session")
def shared_results() -> Path:
    """The results folder of the whole session, see above."""
    return SESSION_RESULTS


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """A sum over floats depends on how many threads share it."""
    import torch

    torch.set_num_threads(1)


BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
SWITCHES = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, driven by playwright."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=SWITCHES)
        yield opened
        opened.close()
