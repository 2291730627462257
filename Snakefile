"""Which notebook runs with which parameters, in what order; then the book.

    snakemake --cores 2 --config profile=tiny seeds="0 1 2 3 4" [compute="0 1"] [full=1] [grid=smoke]

Executed notebooks are the targets. Run records are not: they are what lets a job that was killed go on where it
was, and Snakemake deletes the targets of failed jobs. The log of a failed job, its notebook included, stays in
_build/logs. With --directory the outputs go to another folder, which needs _config.yml, _toc.yml and book/.
"""

import glob
import hashlib
import json
import os
import shlex
import sys
import time
from contextlib import suppress
from functools import cache

import yaml
from snakemake.exceptions import WorkflowError

ROOT = os.path.relpath(workflow.basedir)
PYTHON = shlex.quote(sys.executable)

# The notebook with the most work starts first. None of these waits for another: runs that several need are computed by
# whichever comes first, so that those which start late share what is left.
COMPUTING = ["03_bsa", "02_safety_data", "01_fjattack", "00_testbed", "04_comparison", "05_mixed_tasks"]
# These look up what the others have computed; that of hosted models needs none of it.
LATER = {
    "06_ablations": COMPUTING,
    "07_claims": [*COMPUTING, "06_ablations"],
    "08_hosted_models": [],
    "09_answers": COMPUTING,
    "10_predictions": [*COMPUTING, "06_ablations"],
    "home": [*COMPUTING, "06_ablations"],
}
NOTEBOOKS = [*COMPUTING, *LATER]


def source(*patterns):
    """The files of the project that match, by their path from the working folder, sorted."""
    found = {path for pattern in patterns for path in glob.glob(os.path.join(ROOT, pattern), recursive=True)}
    return sorted(os.path.normpath(path) for path in found if os.path.isfile(path))


@cache
def digest(path):
    """Of a file; one that is missing is named by Snakemake."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def content(*paths):
    """A digest of the files: as a parameter of a job it says what has changed, whatever the dates of files say."""
    return hashlib.sha256("".join(f"{path} {digest(path)}\n" for path in paths).encode()).hexdigest()


def profile_file(name):
    """The YAML file of a profile: a name in profiles/, or a path."""
    path = name if name.endswith((".yaml", ".yml")) else os.path.normpath(os.path.join(ROOT, "profiles", f"{name}.yaml"))
    if not os.path.exists(path):
        known = ", ".join(os.path.basename(file).removesuffix(".yaml") for file in source("profiles/*.yaml"))
        raise WorkflowError(f"profile={name!r}: there is no file {path}; the profiles are: {known}")
    return path


def seed_list(name, text):
    """'0 1 2' -> [0, 1, 2]; name: of the setting, for messages"""
    try:
        seeds = [int(seed) for seed in str(text).replace(",", " ").split()]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise WorkflowError(f'{name}={text!r}: expected different whole numbers from 0, such as {name}="0 1 2"')
    return seeds


PROFILE = str(config.get("profile", "tiny"))
PROFILE_FILE = profile_file(PROFILE)
SEEDS = seed_list("seeds", config.get("seeds", " ".join(map(str, range(20 if PROFILE == "tiny" else 3)))))
HERE = seed_list("compute", config["compute"]) if "compute" in config else []  # in place of those of the grid
with open(PROFILE_FILE, encoding="utf-8") as file:
    THREADS = (yaml.safe_load(file).get("compute") or {}).get("threads", 1)

if lacking := sorted({*HERE} - {*SEEDS}):
    raise WorkflowError(f"compute={config['compute']!r}: {lacking} are not among the seeds of the book, {SEEDS}")

# grid=smoke leaves the defaults that are written in the notebooks; full=1 computes the long grids, in place of showing
# the records that are there.
with open(os.path.join(ROOT, "notebooks", "parameters.yaml"), encoding="utf-8") as file:
    GRID = {} if config.get("grid") == "smoke" else yaml.safe_load(file) or {}
RESULTS = os.path.relpath(os.environ.get("BSA_RESULTS", os.path.join(ROOT, "results")))
SHIPS = os.path.exists(os.path.join(RESULTS, PROFILE, "shipped.jsonl.xz"))
for VALUES in GRID.values():
    if isinstance(VALUES.get("compute"), list):  # of a scale that ships no records, all seeds asked for are computed
        VALUES["compute"] = [seed for seed in HERE or VALUES["compute"] if SHIPS and seed in SEEDS] or SEEDS
if config.get("full"):
    GRID = {
        name: {key: key.startswith("compute") or value for key, value in values.items()} for name, values in GRID.items()
    }

CORE = [path for path in source("bsa_core/**/*", "bsa_study/**/*") if "__pycache__" not in path]
# The committed records of other scales are shown beside this one's. The notebooks write this scale's own and those of
# `tiny`, each with its controls (`tiny-validation`, ...), so these are no inputs.
SHOWN = [
    path
    for path in sorted(glob.glob(os.path.join(RESULTS, "*", "*.json")))
    if not os.path.basename(os.path.dirname(path)).startswith((PROFILE, "tiny"))
    if os.path.isfile(path)  # a dangling link is no input
]
# What further judges said, written by people's own commands and shown in the comparison.
JUDGED = sorted(filter(os.path.isfile, glob.glob(os.path.join(RESULTS, "*", "judged", "*.json"))))
# Evaluations of models served elsewhere, written and shown by the chapter about them.
HOSTED = sorted(filter(os.path.isfile, glob.glob(os.path.join(RESULTS, "*", "hosted", "*.json"))))
TOLD = source("book/*.csv", "book/*.yaml")
TOOL = source("tools/execution.py")
PROSE = sorted(
    path
    for pattern in ("*", "_static/*", "examples/*.py")
    for path in glob.glob(f"book/{pattern}")
    if os.path.isfile(path)
)
STRUCTURE = ["_config.yml", "_toc.yml"]
# The reference is made from the docstrings.
REFERENCE = [path for path in CORE if path.endswith(".py")] + source(
    "tools/docstrings.py", "tools/launch.py", "tools/mathml.py"
)

# A file that was dated while a clock was ahead would fail every job that reads it, at the job's end, until that day.
for PATH in [*source("notebooks/*", "bsa_*/**/*", "results/**/*", "book/**/*", "tools/*", "_*.yml"), PROFILE_FILE]:
    with suppress(OSError):
        if os.path.getmtime(PATH) > time.time():
            os.utime(PATH)


rule book:
    input:
        pages=expand("book/executed/{name}.ipynb", name=NOTEBOOKS),
        prose=PROSE,
        structure=STRUCTURE,
        core=REFERENCE,
    output:
        "_build/html/index.html",
    log:
        "_build/logs/book.log",
    params:
        tools=os.path.abspath(os.path.join(ROOT, "tools")),
        content=content(*PROSE, *STRUCTURE, *REFERENCE),
    shell:
        # from nothing each time: an incremental build keeps pages that are no longer in the table of contents
        """
        echo "book: building the pages" >&2
        rm -rf _build/html _build/.doctrees
        PYTHONPATH={params.tools:q} {PYTHON} -c "from jupyter_book.cli.main import main; main()" \
            build . -W -n --keep-going > {log} 2>&1 \
            || {{ grep -E "WARNING|ERROR|rror:" {log} >&2 || tail -n 40 {log} >&2; exit 1; }}
        """


for PLACE, NAME in enumerate(NOTEBOOKS):

    rule:
        name:
            f"notebook_{NAME}"
        input:
            notebook=os.path.normpath(os.path.join(ROOT, "notebooks", f"{NAME}.ipynb")),
            core=CORE,
            profile=PROFILE_FILE,
            shown=SHOWN,
            judged=JUDGED if NAME == "04_comparison" else [],
            hosted=HOSTED if NAME == "08_hosted_models" else [],
            shipped=source("results/*/*.jsonl.xz"),
            told=TOLD,
            before=expand("book/executed/{name}.ipynb", name=LATER.get(NAME, [])),
            tool=TOOL,
        output:
            f"book/executed/{NAME}.ipynb",
        log:
            text=f"_build/logs/{NAME}.log",
            notebook=f"_build/logs/{NAME}.ipynb",
        params:
            name=NAME,
            values=json.dumps({"profile": PROFILE, "seeds": SEEDS, **GRID.get(NAME, {})}),
            content=content(os.path.join(ROOT, "notebooks", f"{NAME}.ipynb"), *CORE, PROFILE_FILE, *TOLD, *TOOL),
        threads: THREADS
        priority: -PLACE
        # the whole log goes to the file, the lines of progress to the terminal as they come
        shell:
            """
            export OMP_NUM_THREADS={threads} MKL_NUM_THREADS={threads} TOKENIZERS_PARALLELISM=false TQDM_DISABLE=1
            # glibc gives large blocks back to the system at once and gets them anew, page by page: a sixth of the
            # training time of a model of 270 million parameters
            export MALLOC_MMAP_THRESHOLD_=8589934592 MALLOC_TRIM_THRESHOLD_=17179869184
            export IPYTHONDIR="$PWD/_build/ipython/{params.name}" JUPYTER_PREFER_ENV_PATH=1
            echo "{params.name}: starting" >&2
            {PYTHON} {input.tool:q} {input.notebook:q} {log.notebook:q} {output:q} {params.values:q} \
                2>&1 | tee {log.text:q} \
                | while IFS= read -r line; do
                    case "$line" in *"[bsa]"*) echo "{params.name}: ${{line#*\\[bsa\\] }}" >&2 ;; esac
                done \
                || {{ tail -n 30 {log.text:q} >&2; echo "{params.name}: failed; as far as it came: {log.notebook}" >&2; exit 1; }}
            echo "{params.name}: done" >&2
            """
