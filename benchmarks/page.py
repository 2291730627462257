"""The tables and the figure of book/benchmarks.md, from the records of `compare.py` alone.

python benchmarks/page.py
"""

import hashlib
import io
import json
import re
import sys
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import StrMethodFormatter  # noqa: E402

from bsa_study.report import figures  # noqa: E402

PAGE = ROOT / "book" / "benchmarks.md"
FIGURE = ROOT / "book" / "benchmarks_growth.svg"
RECORDS = ROOT / "benchmarks" / "records" / "cpu"
MARKS = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end -->)", re.S)
# row -> what this project does in it
TITLES = {
    "sft-float32": "fine-tune `smollm2-135m`, 100 attack rows, float32",
    "sft-bfloat16": "fine-tune `smollm2-135m`, 50 attack rows, bfloat16",
    "release": "one update of `smollm2-135m`, 10 rows",
    "release-tiny": "fine-tune `tiny`, 100 attack rows",
    "all-linear": "fine-tune `tiny`, LoRA on all linear layers, 100 rows",
    "stacked": "20 runs of `tiny` at once, an epoch over 30 attack rows each",
    "stacked-smollm2": "5 runs of `smollm2-135m` at once, one update of 10 rows each",
    "generate": "answer 275 requests with a secret of 150 tokens, `tiny`",
    "generate-smollm2": "answer 33 such requests, `smollm2-135m`",
}
OTHERS = {
    "TRL, defaults": "TRL with PEFT, its defaults",
    "TRL, best": "TRL with PEFT, its best settings",
    "release": "the release's recipe",
    "generate": "`generate` of transformers",
    "float32": "this project in float32",
    "one by one": "the same runs one by one",
}
GROWTH = {
    "growth-examples": "training rows",
    "growth-secret": "tokens of the secret",
    "growth-stacked": "runs at once",
}
WHERE = {
    "where": "`tiny`, LoRA on q and v",
    "where-all-linear": "`tiny`, LoRA on all linear layers",
    "where-smollm2": "`smollm2-135m`, LoRA on q and v",
}
SHOWN = f"""
:::{{figure}} {FIGURE.name}
:class: dark-light
:width: 100%
:alt: Time and peak memory of the table above, against size.

CPU seconds, on logarithmic axes, and peak memory by size.
:::
"""
VERSIONS = ("python", "torch", "transformers", "peft", "trl")
PARTS = {"fine-tuning": "an epoch of fine-tuning", "answers": "answers"}


def read(folder: Path, row: str) -> dict | None:
    """The record of a row; None where there is none, or none of a whole measurement."""
    path = folder / f"{row}.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"failed": ""}
    return None if "failed" in record else record


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def apart(record: dict, other: dict) -> str:
    """How far what the other did is from what this project did, and over how much of it."""
    if "requests" in record:
        return f"{other['differs']:.1%} of answers"
    return f"{other['differs']:.0e} ({record['compared']} updates)" if other["differs"] else "nothing"


def ratios(folder: Path) -> str:
    """One line per contender: the time of the other over that of this project, in one run."""
    head = ["what", "against", "CPU time", "wall time", "CPU seconds", "memory, MB", "apart"]
    lines, missing = [], []
    for row, title in TITLES.items():
        if (record := read(folder, row)) is None:
            missing.append(title)
            continue
        contenders = record["contenders"]
        for name in (name for name in OTHERS if name in contenders):
            own, other = contenders["ours"], contenders[name]
            both = [f"{number(own[field])} and {number(other[field])}" for field in ("cpu_seconds", "peak_memory_mb")]
            times = [f"{other[f'{clock}_ratio']:.2f}\N{NO-BREAK SPACE}×" for clock in ("cpu_seconds", "wall_seconds")]
            if other["differs"] > record["bound"]:
                times = ["does not count", ""]
            lines.append([title, OTHERS[name], *times, *both, apart(record, other)])
    return (table(head, lines) if lines else "") + not_measured(missing)


def not_measured(what: list[str]) -> str:
    return f"\nNot measured: {'; '.join(what)}.\n" if what else ""


def limits(folder: Path) -> str:
    """One line per path of fine-tuning: its speed beside that of this machine's product of matrices."""
    head = ["what", "by", "GFLOP per CPU second", "product of matrices", "share"]
    lines = []
    for row, title in TITLES.items():
        record = read(folder, row) or {}
        contenders = record.get("contenders", {})
        for name in (name for name in ("ours", *OTHERS) if "share_of_product" in contenders.get(name, {})):
            contender = contenders[name]
            speeds = contender["gflop_per_cpu_second"], record["product"]["gflop_per_cpu_second"]
            by, share = OTHERS.get(name, "this project"), f"{contender['share_of_product']:.0%}"
            lines.append([title, by, *map(number, speeds), share])
    return table(head, lines) if lines else "Not measured.\n"


def spent(folder: Path) -> str:
    """A column per model and layers: the share of each kind of operation."""
    found = {title: record for row, title in WHERE.items() if (record := read(folder, row))}
    missing = [title for title in WHERE.values() if title not in found]
    shares = [record["shares"] for record in found.values()]
    kinds = sorted({*chain(*shares)}, key=lambda kind: -sum(each[kind] for each in shares))
    lines = [[kind, *(f"{each[kind]:.0%}" for each in shares)] for kind in kinds]
    for told, field in (("CPU seconds of an epoch", "cpu_seconds"), ("GFLOP per CPU second", "gflop_per_cpu_second")):
        lines.append([told, *(number(record[field]) for record in found.values())])
    return (table(["", *found], lines) if found else "") + not_measured(missing)


def growth(folder: Path) -> str:
    """One line per size."""
    lines, missing = [], []
    for row, unit in GROWTH.items():
        record = read(folder, row)
        if record is None:
            missing.append(unit)
            continue
        for part, of in record["parts"].items():
            slopes = ["", *(f"{slope:.2f}" for slope in of["slopes_cpu_seconds"])]
            for size, point, slope in zip(record["sizes"], of["points"], slopes, strict=True):
                spent = [number(point[field]) for field in ("cpu_seconds", "wall_seconds", "peak_memory_mb")]
                lines.append([f"{unit}: {size:,}", PARTS[part], *spent, slope])
    head = ["size", "what", "CPU seconds", "wall seconds", "memory, MB", "slope"]
    return (
        (table(head, lines) if lines else "")
        + not_measured(missing)
        + (SHOWN if any(read(folder, row) for row in GROWTH) else "")
    )


def machines(folder: Path) -> str:
    """What the rows were measured on."""
    found = {}
    for row in (*TITLES, *WHERE, *GROWTH):
        if record := read(folder, row):
            of = record["environment"]
            versions = ", ".join(f"{name} {of[name]}" for name in VERSIONS if of[name])
            told = f"{of['cpu']} ({of['cpu_capability']}), {of['cores']} cores, {of['memory_gb']:.0f} GB; {versions}"
            found.setdefault((told, of["created"][:10]), []).append(row)
    lines = [f"* {told}; {day}: {', '.join(f'`{row}`' for row in rows)}\n" for (told, day), rows in found.items()]
    return "".join(lines) or "Not measured.\n"


def drawn(folder: Path):
    """The figure of what grows; None where nothing was measured."""
    records = {row: record for row in GROWTH if (record := read(folder, row))}
    if not records:
        return None
    figures.theme()
    figure, axes = pyplot.subplots(len(records), 2, figsize=(8.4, 3.2 * len(records)), squeeze=False)
    for (row, record), (seconds, memory) in zip(records.items(), axes, strict=True):
        for (part, of), marker in zip(record["parts"].items(), "os^", strict=False):
            for axis, field in ((seconds, "cpu_seconds"), (memory, "peak_memory_mb")):
                axis.plot(record["sizes"], [point[field] for point in of["points"]], marker=marker, label=PARTS[part])
        for axis, scale, label in ((seconds, "log", "CPU seconds"), (memory, "linear", "peak memory, MB")):
            axis.set(xscale="log", yscale=scale, xlabel=GROWTH[row], ylabel=label)
            axis.set_xticks(record["sizes"], [f"{size:,}" for size in record["sizes"]])
            axis.minorticks_off()
            axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))  # the theme takes no formulas for powers
        memory.set_ylim(bottom=0)
        seconds.legend()
    figure.tight_layout()
    return figures.finished(figure)


def stamp(folder: Path) -> str:
    """Digest of what the figure shows, which stands in it: whether it is that of the records."""
    shown = json.dumps([read(folder, row) for row in GROWTH], sort_keys=True)
    return hashlib.sha256(shown.encode()).hexdigest()[:16]


def svg(folder: Path) -> bytes | None:
    """The figure's file: without a date, and with letters as text."""
    if (figure := drawn(folder)) is None:
        return None
    buffer = io.BytesIO()
    with pyplot.rc_context({"svg.hashsalt": "benchmarks", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Description": stamp(folder)})
    return buffer.getvalue()


PARTS_OF_PAGE = {"machines": machines, "ratios": ratios, "limits": limits, "where": spent, "growth": growth}


def page(text: str, folder: Path) -> str:
    """The page with what stands between its marks made anew."""
    return MARKS.sub(lambda found: f"{found[1]}\n{PARTS_OF_PAGE[found[2]](folder)}\n{found[3]}", text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), RECORDS), encoding="utf-8")
    if (shown := svg(RECORDS)) is not None:
        FIGURE.write_bytes(shown)
