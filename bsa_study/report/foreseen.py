"""The page about transfer: how alike two scales rank the arms, and what was predicted beside what was measured."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler

from bsa_study import labels, predictions, transfer
from bsa_study.grids import ablations
from bsa_study.report import figures, tables

NAMED = 3  # cells of a panel that are named: those farthest from the line on which both scales agree
ENOUGH = 5  # predictions, from which on a mean score is shown
CHANCE = 0.8  # Brier's score of equal chances for the five words


def correlations(rows: pd.DataFrame) -> pd.DataFrame:
    """`transfer.correlations` as a table."""
    if rows["mean"].isna().all():
        return tables.nothing("no records of both scales")
    told = rows.assign(seeds=labels.intervals(rows, ".2f"))
    told["both"] = labels.intervals(rows.assign(low=rows["arms_low"], high=rows["arms_high"]), ".2f")
    told = told.assign(metric=rows["metric"].map(lambda name: labels.metric(name).title))
    told["seeds"] = told["seeds"].where(rows["mean"].notna(), "–")
    told["both"] = told["both"].where(rows["arms_low"].notna(), "–")
    told["chance"] = rows["chance"].map(lambda share: "–" if np.isnan(share) else f"{share:.3f}")
    told = told.set_index(["metric", "part"])[["arms", "seeds", "both", "chance"]]
    return told.rename(
        columns={
            "arms": "cells",
            "seeds": "rank correlation [95 % over seeds]",
            "both": "[95 % over seeds and arms]",
            "chance": "random orders as good",
        }
    )


def scatter(first: pd.DataFrame, second: pd.DataFrame, names: tuple[str, str] = transfer.SCALES) -> Figure:
    """One panel per metric: the mean of every cell at one scale (x) and at the other (y), as `transfer.matched` gives
    them, by arm. The cells on which the scales differ most are named."""
    cells = pd.DataFrame({"x": transfer.means(first), "y": transfer.means(second)}).reset_index()
    if cells.empty:
        return figures.nothing()
    figure, axes = figures.panels(len(transfer.METRICS), width=3.4, height=4.1)
    for axis, metric in zip(axes, transfer.METRICS, strict=True):
        rows = cells[cells["metric"] == metric]
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1, zorder=0)
        for name in labels.ordered(cells["defense"]):
            arm, of = labels.arm(name), rows[rows["defense"] == name]
            axis.scatter(of["x"], of["y"], s=26, alpha=0.75, color=arm.colour, marker=arm.marker, label=arm.title)
        written = []
        for _, row in rows.loc[(rows["x"] - rows["y"]).abs().sort_values(ascending=False).index].iterrows():
            if len(written) < NAMED and all(abs(row["y"] - other) > 0.08 for other in written):
                written.append(row["y"])
                side = {"ha": "right", "xytext": (-5, 3)} if row["x"] > 0.5 else {"ha": "left", "xytext": (5, 3)}
                at = {"xy": (row["x"], row["y"]), "textcoords": "offset points", "fontsize": 6.5, **side}
                axis.annotate(cell_name(row), **at)
        axis.set(title=labels.metric(metric).title, xlabel=names[0], ylabel=names[1])
        axis.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), aspect="equal")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figures.finished(figure)


def cell_name(row: pd.Series) -> str:
    """Where a cell stands, in words: section and variant."""
    of = {"headline": "main arms", "mixed": "mixed setting"}
    section = of.get(row["section"]) or ablations.SECTIONS[row["section"]].title
    return ": ".join(filter(None, (section, labels.title(row["variant"]))))


def predicted(told: dict, found: dict[str, dict]) -> Figure:
    """Every comparison with its predicted interval, what the book's scales measured (hollow), and what others did.

    found: scale -> `predictions.at`; what decides there is what is shown of the predictions.
    """
    counted = predictions.counting(next(iter(found.values()))) if found else "content"
    rows = predictions.comparisons(told, counted)
    if rows.empty:
        return figures.nothing()
    figure, (axis,) = figures.panels(1, width=7.6, height=0.25 * len(rows) + 1.3)
    axis.axvline(0, color="0.4", linewidth=1)
    axis.hlines(rows.index, rows["low"], rows["high"], color="#56B4E9", linewidth=4, alpha=0.6, label="predicted, 95 %")
    for scale, marker in zip(told["scales"], "osD^", strict=False):
        at = [one.get(scale, np.nan) for one in rows["measured"]]
        how = {"marker": marker, "markerfacecolor": "none", "markersize": 4.5, "linestyle": "none", "color": "0.25"}
        axis.plot(at, rows.index, label=scale, **how)
    for scale, colour in zip(found, ("#D55E00", "#009E73", "#CC79A7", "#0072B2"), strict=False):
        at = pd.concat(found[scale].values()).query("role == 'claim' and seeds >= 3")
        at = at.drop_duplicates(["id", "first", "second", "metric"])
        at = rows[["id", "first", "second", "metric"]].merge(at, "left")["difference"].astype(float)
        axis.plot(at, rows.index, linestyle="none", marker="o", color=colour, label=f"{scale}, measured")
    names = [f"{labels.metric(r['metric']).title}: {r['first']} – {r['second']}" for _, r in rows.iterrows()]
    axis.set_yticks(rows.index, names, fontsize=7.5)
    axis.set(xlabel="difference first – second", xlim=(-1.08, 1.08), ylim=(len(rows) - 0.4, -0.6))
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figures.finished(figure)


def beside(told: dict, found: dict[str, dict]) -> Styler:
    """Claims and questions: what is predicted, how sure, and beside it what each of the other scales measured."""
    rows = pd.DataFrame([{"sure": 0, **entry} for entries in told["content"].values() for entry in entries])
    shown = pd.DataFrame({"claim": rows["claim"], **_in_words(rows["sure"], rows["predicted"])})
    for scale, at in found.items():
        of = predictions.beside(told, at)
        if predictions.counting(at) == "keywords":
            shown = shown.assign(**_in_words(of["sure"], of["predicted"], " (by keywords)"))
        shown[scale] = of["measured"]
        shown[f"{scale}: hit"] = of["hit"].replace("", "–")
    return tables.texts(shown)


def _in_words(sure: pd.Series, words: pd.Series, how: str = "") -> dict[str, pd.Series]:
    shares = [f"{share:.2f}" if share > 0 else "–" for share in sure]
    return {f"predicted{how}": words, f"how sure{how}": pd.Series(shares, words.index)}


def scores(told: dict, found: dict[str, dict]) -> str:
    """One line per other scale: how many predictions hit, and their mean score where there are enough."""
    lines = []
    for scale, at in found.items():
        rows = predictions.beside(told, at).query("hit != ''")
        line = f"{scale}: {(rows['hit'] == 'yes').sum()} of {len(rows)} predictions hit"
        if len(rows) >= ENOUGH:
            line += f"; Brier score {rows['score'].mean():.2f} (equal chances: {CHANCE:.2f}; sure hits: 0)"
        lines.append(f"{line}.")
    return "\n".join(lines) or "No records of another scale are here yet. The predictions are open."


def numbers(told: dict) -> Styler:
    """The comparisons behind the predictions by content, with their intervals."""
    rows = predictions.comparisons(told, "content")
    if rows.empty:
        return tables.note()
    rows["predicted [95 %]"] = labels.intervals(rows, "+.3f", of="predicted")
    for scale in told["scales"]:
        rows[scale] = [f"{one[scale]:+.3f}" if scale in one else "–" for one in rows["measured"]]
    rows["metric"] = rows["metric"].map(lambda name: labels.metric(name).title)
    return tables.texts(rows[["metric", "first", "second", "expected", *told["scales"], "predicted [95 %]"]])


def origin(told: dict) -> Styler:
    """Date, code and records of the predictions, and their rule."""
    lines = {"date": told["date"], "code": f"commit {told['code']['git_commit']}"}
    lines |= {name: f"{of['records']} records, digest {of['digest']}" for name, of in told["scales"].items()}
    return tables.texts({"": name, "predictions": line} for name, line in {**lines, "rule": told["rule"]}.items())
