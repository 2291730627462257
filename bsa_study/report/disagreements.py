"""A chapter's results beside the paper's: the mapping `paper` of a chapter in book/sentences.yaml.

Each entry is a name, our number and the paper's. A disagreement is a difference of at least FAR where our whole
interval misses the paper's number.
"""

from dataclasses import dataclass

import pandas as pd

from bsa_study import contrasts
from bsa_study.report import tables
from bsa_study.report.numbers import FILE, Number, Scale, of_paper

FAR = 0.1  # ten points of a share
MOST = 3  # disagreements that are named


@dataclass(frozen=True)
class Pair:
    """One result at one scale."""

    name: str
    scale: str
    ours: Number
    paper: Number

    @property
    def gap(self) -> float:
        return self.ours.mean - self.paper.mean

    @property
    def far(self) -> bool:
        return abs(self.gap) >= FAR and not self.ours.low <= self.paper.mean <= self.ours.high

    def __str__(self) -> str:
        """The gap, in points where both are shares."""
        return f"{100 * self.gap:+.1f} points" if self.paper.percent else f"{self.gap:+.2f}"


def pairs(chapter: str, scales: list[Scale]) -> list[Pair]:
    """What a chapter compares, of the scales where it was measured with enough seeds."""
    entries = contrasts.read(FILE).get(chapter, {}).get("paper", {})
    numbers = [
        (name, scale.profile.name, scale.number(ours), of_paper(paper))
        for name, (ours, paper) in entries.items()
        for scale in scales
    ]
    return [Pair(*row) for row in numbers if row[2] is not None and row[2].seeds >= contrasts.SEEDS]


def table(chapter: str, scales: list[Scale]) -> pd.DataFrame:
    """One row per result: the paper's number, ours at each scale, and how far apart they are."""
    rows = {}
    for pair in pairs(chapter, scales):
        row = rows.setdefault(pair.name, {"paper": str(pair.paper)})
        row |= {pair.scale: str(pair.ours), f"{pair.scale}, minus the paper": str(pair)}
    if not rows:
        return tables.nothing("no records with three seeds")
    return pd.DataFrame.from_dict(rows, "index").fillna("–").rename_axis(index="result")


def largest(chapter: str, scales: list[Scale]) -> str:
    """The largest disagreements by name, in Markdown; "" for a chapter that compares nothing."""
    found = pairs(chapter, scales)
    far = sorted((pair for pair in found if pair.far), key=lambda pair: -abs(pair.gap))
    if not found:
        return ""
    if not far:
        return "No result here is ten points or more away from the paper's with an interval that excludes it."
    lines = []
    for name in list(dict.fromkeys(pair.name for pair in far))[:MOST]:
        same = [pair for pair in far if pair.name == name]
        ours = " and ".join(f"{pair.ours} (`{pair.scale}`)" for pair in same)
        lines.append(f"* {name}: {ours}. The paper has {same[0].paper}.")
    return "\n".join(["**The largest disagreements with the paper.**\n", *lines])
