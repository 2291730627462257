"""Try the launchers as far as a machine without Docker, Apptainer, Binder and Colab allows: `make launchers`.

    python tools/launchers.py [NAME ...] [--index ADDRESS]

Each NAME (docker, apptainer, binder, colab; all by default) runs the steps of its recipe in a fresh clone of what is
committed, in the clone in place of /bsa-book, and then one chapter at its smoke setting. Steps that change the system,
such as `apt-get`, are named and left out, and the base images are not tried. --index: where PyTorch comes from, in
place of the recipe's own; "" for PyPI alone.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = "/bsa-book"  # of the project in an image
SYSTEM = ("apt-get ", "useradd ")
CHAPTER = "01_fjattack"
LOOK = f"snakemake --cores 1 --quiet all --config grid=smoke seeds=0 -- book/executed/{CHAPTER}.ipynb"
INDEX = "https://download.pytorch.org/whl/cpu"


def docker(text: str) -> tuple[dict[str, str], list[str]]:
    """The arguments of a Dockerfile, by name, and the commands that it runs."""
    return dict(re.findall(r"^ARG (\w+)=(.*)$", text, re.M)), re.findall(r"^RUN (.*)$", text, re.M)


def apptainer(text: str, section: str) -> list[str]:
    """The lines of a section of an Apptainer recipe, without notes and indentation."""
    (found,) = re.findall(rf"^%{section}\n(.*?)(?=^%|\Z)", text, re.M | re.S)
    lines = (line.strip() for line in found.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def steps(name: str, index: str) -> list[str]:
    """The commands of a launcher, as its file has them."""
    if name == "docker":
        arguments, commands = docker((ROOT / "Dockerfile").read_text(encoding="utf-8"))
        return [
            f"export {' '.join(f'{each}={index}' for each in arguments)}",
            *commands,
            f"PATH=.venv/bin:$PATH {LOOK}",
        ]
    if name == "apptainer":
        text = (ROOT / "apptainer.def").read_text(encoding="utf-8")
        run = "\n".join(apptainer(text, "runscript"))
        begun = f"mkdir ../beside && cd ../beside && set -- {LOOK}"  # where the image is started
        return [line.replace("{{ index }}", index) for line in apptainer(text, "post")] + [f"{begun}\n{run}"]
    if name == "binder":
        return [
            "python3.11 -m venv .venv && PATH=$PWD/.venv/bin:$PATH",
            f"sed -i 's#{INDEX}#{index or 'https://pypi.org/simple'}#' .binder/requirements.txt",
            "pip install --quiet -r .binder/requirements.txt && .binder/postBuild",
            LOOK,
        ]
    first, *cells = [
        "".join(cell["source"])
        for cell in json.loads((ROOT / "tools" / "colab.ipynb").read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    assert "bsa-book/tools/colab.sh {name}" in first and f'chapter("{CHAPTER}")' in "".join(cells)
    own = f"sed -i 's#{INDEX}#{index}#' tools/colab.sh"
    return [own, f"tools/colab.sh {CHAPTER} && tools/colab.sh {CHAPTER}"]  # the second finds what is set up


def tried(name: str, index: str) -> bool:
    """Whether all steps of a launcher end well, in a new folder."""
    with tempfile.TemporaryDirectory(prefix=f"bsa-{name}-") as folder:
        clone = Path(folder, "bsa-book")
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        left_out = [step for step in steps(name, index) if step.startswith(SYSTEM)]
        here = [step.replace(PLACE, str(clone)) for step in steps(name, index) if step not in left_out]
        for step in left_out:
            print(f"{name}: left out: {step}", flush=True)
        script = "\n".join(["set -eux", f"cd {shlex.quote(str(clone))}", *here])
        clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        done = subprocess.run(["sh", "-c", script], env=clean)
        print(f"{name}: {'works' if done.returncode == 0 else 'FAILED'}", flush=True)
        return done.returncode == 0


def main() -> None:
    names = ("docker", "apptainer", "binder", "colab")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="*", choices=[*names, []], default=names)
    parser.add_argument("--index", default=INDEX)
    asked = parser.parse_args()
    sys.exit(not all([tried(name, asked.index) for name in asked.name]))


if __name__ == "__main__":
    main()
