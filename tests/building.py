"""The book or some of its notebooks, made by the Snakefile in a folder of a test's own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def build(folder: Path, places: dict[str, str], profile: str, *notebooks: str, left_out: str = "") -> str:
    """What `make book PROFILE=...` does at the smoke setting with seed 0; returns what it said.

    places: environment variables of folders. notebooks: only these, and no pages. left_out: pages whose name begins so.
    One after the other, as a further process of the tests keeps the second core busy. Fails with the end of what was
    said.
    """
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", folder]
    command += ["--cores", "1", "--quiet", "host", "rules", "reason"]
    command += ["--config", f"profile={profile}", "seeds=0", "grid=smoke"]
    command += ["--", *(f"book/executed/{name}.ipynb" for name in notebooks)] if notebooks else []
    if not notebooks:
        shutil.copy(ROOT / "_config.yml", folder)
        lines = (ROOT / "_toc.yml").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if not (left_out and left_out in line)]
        (folder / "_toc.yml").write_text("".join(kept), encoding="utf-8")
        shutil.copytree(ROOT / "book", folder / "book", ignore=shutil.ignore_patterns("executed", "__pycache__"))
    run = subprocess.run(command, env=os.environ | places, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert run.returncode == 0, run.stderr[-6000:]
    return run.stdout + run.stderr
