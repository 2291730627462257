"""Figures of the book: one theme, and one colour and marker per arm, told apart without colour as well.

Every function takes a summary (`statistics.summarize`) and returns a matplotlib Figure on an opaque white ground, so
that it reads the same in the book's light and dark mode and in print.
"""

import warnings
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from bsa_study import labels
from bsa_study.claims import VERDICTS
from bsa_study.report import fonts

SAFE = ("asr", "asr_content", "over_refusal", "benign_exact")  # what gets through, by both measures, and its price


def theme() -> None:
    """Set the book's theme; called by every figure. Labels are text: a "$" in a category begins no formula."""
    more = {
        "text.parse_math": False,
        "figure.dpi": 110,
        "savefig.facecolor": "white",
        "figure.facecolor": "white",
        "axes.titlesize": "medium",
    }
    sns.set_theme(context="notebook", style="whitegrid", font_scale=0.95, rc=more)


def finished(figure: Figure) -> Figure:
    """The figure, forgotten by pyplot, so that a notebook shows it once: as the value of its cell."""
    fonts.fit(figure)
    plt.close(figure)
    return figure


def errors(rows: pd.DataFrame) -> np.ndarray:
    """Distances from the mean to both ends of the interval: array (2, rows)."""
    return np.clip(np.array([rows["mean"] - rows["low"], rows["high"] - rows["mean"]]), 0, None)


def _drawn(arm: labels.Arm) -> dict:
    """Colour, marker and caps of an arm's points."""
    return {"color": arm.colour, "marker": arm.marker, "capsize": 3}


def _scale(axis, metric: str, along: str = "y") -> None:
    shown = labels.metric(metric)
    (low, high), room = shown.scale, 0.04 * (shown.scale[1] - shown.scale[0])
    axis.set(**{f"{along}lim": (low - room, high + room), f"{along}label": shown.title})


def nothing() -> Figure:
    """In place of a figure whose runs have no records yet."""
    figure, (axis,) = panels(1, height=1.0)
    axis.set_axis_off()
    axis.text(0.5, 0.5, "no records at hand", ha="center", va="center")
    return finished(figure)


def _measured(summary: pd.DataFrame, metrics: tuple[str, ...]) -> list[str]:
    """Those of the metrics that the summary holds: not every policy can tell content or has a judge."""
    return [metric for metric in metrics if metric in set(summary["metric"])]


def decisive(summary: pd.DataFrame, metrics: tuple[str, ...] = SAFE) -> list[str]:
    """Those of the metrics that the summary holds, without keyword ASR where it holds content ASR."""
    found = _measured(summary, metrics)
    return [metric for metric in found if metric != "asr" or "asr_content" not in found]


def panels(
    count: int, width: float = 4.1, height: float = 3.4, rows: int = 1, shared: bool | str = False
) -> tuple[Figure, list]:
    """A figure and its panels, row by row. count: in a row; width, height: of one; shared: what `subplots` takes."""
    theme()
    layout = {"figsize": (width * count, height * rows), "layout": "constrained", "sharex": shared, "sharey": shared}
    figure, axes = plt.subplots(rows, count, squeeze=False, **layout)
    return figure, list(axes.flat)


def _of_metrics(count: int, **more) -> tuple[Figure, list]:
    """`panels` of so many metrics, at most three in a row, so that the book need not shrink them."""
    columns = count if count <= 3 else 2 if count == 4 else 3
    figure, axes = panels(columns, rows=-(-count // columns), **more)
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


def legend(figure: Figure, axis) -> None:
    handles, names = axis.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 3), frameon=False)


def heat(cells: pd.DataFrame, axis, **more) -> None:
    """A heat map of shares with their values."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # labels are measured here, and get their fonts when all is drawn
        sns.heatmap(cells, annot=True, fmt=".2f", cmap="cividis", vmin=0, vmax=1, ax=axis, **more)


def curves(summary: pd.DataFrame, x: str, xlabel: str, metrics: tuple[str, ...] = SAFE) -> Figure:
    """One panel per metric, one line per arm and condition, with intervals, over evenly spaced values of x.

    Where the policy can tell content, keyword ASR stands beside content ASR, dotted and without intervals.
    Numbers stand in their order; names in that of their appearance, and without a line between them.
    """
    if summary.empty:
        return nothing()
    metrics = decisive(summary, metrics)
    ticks = list(dict.fromkeys(summary[x]))
    numbers = all(isinstance(tick, (int, float, np.number)) for tick in ticks)
    ticks = sorted(ticks) if numbers else ticks
    longest = 0 if numbers else max(len(str(tick)) for tick in ticks)
    figure, axes = _of_metrics(len(metrics), width=max(4.1, 0.62 * len(ticks) if longest > 6 else 0))
    cells = ["defense", "condition"]
    for axis, metric in zip(axes, metrics, strict=True):
        beside = "asr" if metric == "asr_content" else None
        for index, ((name, condition), rows) in enumerate(summary.groupby(cells, sort=False)):
            arm = labels.arm(name)
            rows = rows.sort_values(x, key=lambda values: values.map(ticks.index))
            keywords, rows = rows[rows["metric"] == beside], rows[rows["metric"] == metric]
            offset = 0.06 * (index - (summary.groupby(cells).ngroups - 1) / 2)
            title = arm.title
            if arm.secret or condition == "secret":
                title += f", {labels.CONDITIONS[condition]}"
            line = "none" if not numbers else "--" if arm.secret and condition == "plain" else "-"
            places = [ticks.index(value) + offset for value in rows[x]]
            axis.errorbar(places, rows["mean"], errors(rows), label=title, linestyle=line, **_drawn(arm))
            open_marker = {"marker": arm.marker, "markerfacecolor": "white", "markersize": 5, "zorder": 1}
            dotted = {"color": arm.colour, "linewidth": 1.2, "linestyle": ":" if numbers else "none", **open_marker}
            if len(keywords):
                axis.plot([ticks.index(value) + offset for value in keywords[x]], keywords["mean"], **dotted)
        axis.set_xticks(range(len(ticks)), [f"{tick:g}" if isinstance(tick, float) else str(tick) for tick in ticks])
        if longest * len(ticks) > 40:
            plt.setp(axis.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")
        axis.set(xlabel=xlabel, xlim=(-0.5, len(ticks) - 0.5))
        _scale(axis, metric)
        if beside in set(summary["metric"]):
            axis.set_ylabel(f"{labels.metric(metric).title}\n(dotted: {labels.metric(beside).title})")
    legend(figure, axes[0])
    return finished(figure)


def arms(summary: pd.DataFrame, metrics: tuple[str, ...] = SAFE, hue: str | None = None) -> Figure:
    """One panel per metric, one row per arm as it is deployed, with intervals.

    hue: a column whose values split each row, told apart by the fill of the marker.
    """
    if summary.empty:
        return nothing()
    metrics = _measured(summary, metrics)
    size = {"width": 3.8 if len(metrics) == 4 else 3.1, "height": 0.42 * summary["defense"].nunique() + 1.1}
    figure, axes = _of_metrics(len(metrics), shared="row", **size)
    order = labels.ordered(summary["defense"])
    groups = list(summary[hue].unique()) if hue else [None]
    for axis, metric in zip(axes, metrics, strict=True):
        for place, name in enumerate(order):
            arm = labels.arm(name)
            for index, group in enumerate(groups):
                rows = summary[(summary["metric"] == metric) & (summary["defense"] == name)]
                rows = rows[rows[hue] == group] if hue else rows
                offset = 0.22 * (index - (len(groups) - 1) / 2)
                how = {"markerfacecolor": "white" if index else arm.colour, "linestyle": "none", **_drawn(arm)}
                axis.errorbar(rows["mean"], [place + offset] * len(rows), xerr=errors(rows), **how)
        _scale(axis, metric, along="x")
        axis.locator_params(axis="x", nbins=5 if len(metrics) == 4 else 3)  # so that those of neighbours do not touch
        axis.set_yticks(range(len(order)), [labels.arm(name).title for name in order])
        axis.set_ylim(len(order) - 0.5, -0.5)
    if hue:
        for index, group in enumerate(groups):  # points of no arm, for the legend
            point = {"color": "0.3", "marker": "o", "markerfacecolor": "white" if index else "0.3"}
            axes[0].plot([], [], linestyle="none", label=labels.title(group), **point)
        legend(figure, axes[0])
    return finished(figure)


def tradeoff(summary: pd.DataFrame, label: str) -> Figure:
    """Content ASR against over-refusal, both with intervals; the good corner is bottom left.

    Open markers show the keyword ASR of the same runs. Where the policy cannot tell content, it takes the place of
    content ASR. label: the column whose value is written beside each point. Both axes begin at 0 and end behind the
    last interval.
    """
    figure, (axis,) = panels(1, width=6.4, height=5.0)
    shown = _measured(summary, ("asr_content", "asr"))[0]
    cells = summary[summary["metric"].isin((shown, "asr", "over_refusal"))]
    ends = (cells.groupby("metric")["high"].max() * 1.08).clip(0.2, 1.04)
    right, top = ends["over_refusal"], ends[["asr", shown]].max()
    for index, (name, rows) in enumerate(cells.groupby("defense", sort=False)):
        arm = labels.arm(name)
        asr, refusal, keyword = (
            rows[rows["metric"] == metric].set_index(label) for metric in (shown, "over_refusal", "asr")
        )
        refusal, keyword = refusal.loc[asr.index], keyword.loc[asr.index]
        if shown != "asr":
            thin = {"color": arm.colour, "linewidth": 0.8, "linestyle": ":"}
            axis.vlines(refusal["mean"], asr["mean"], keyword["mean"], **thin)
            open_marker = {"facecolors": "white", "edgecolors": arm.colour, "marker": arm.marker, "zorder": 1, "s": 80}
            axis.scatter(refusal["mean"], keyword["mean"], **open_marker)  # larger: it is seen around a filled one
        how = {"label": arm.title, "linestyle": "none", "alpha": 0.85, **_drawn(arm), "capsize": 2}
        axis.errorbar(refusal["mean"], asr["mean"], errors(asr), errors(refusal), **how)
        # two arms write on different sides of their points, above the intervals and not across them
        side, ha = ((1, "left"), (-1, "right"))[index % 2]
        text = {"textcoords": ("offset points", "data"), "ha": ha, "va": "bottom", "fontsize": 9, "color": arm.colour}
        above = -1.0
        for point, height in asr["mean"].sort_values(kind="stable").items():
            above = max(height, above + 0.035 * top)  # labels of neighbours stand one above the other
            axis.annotate(str(point), (refusal["mean"][point], height), xytext=(7 * side, above), **text)
    if shown != "asr":
        point = {"color": "0.3", "marker": "o", "markerfacecolor": "white", "linestyle": "none"}
        axis.plot([], [], label=f"open: {labels.metric('asr').title}", **point)
    axis.set(xlabel=labels.metric("over_refusal").title, xlim=(-0.14 * right, right))
    axis.set(ylabel=labels.metric(shown).title, ylim=(-0.03 * top, top))
    axis.legend(frameon=True)
    return finished(figure)


def crossed(table: pd.DataFrame) -> Figure:
    """Every secret (rows) with every fine-tuning seed (columns): one heat map per arm and metric.

    table: rows of `records.table` with columns defense, metric, seed, secret_seed, value.
    """
    if table.empty:
        return nothing()
    arms, metrics = labels.ordered(table["defense"]), decisive(table)
    figure, axes = panels(len(metrics), width=2.7, height=2.7, rows=len(arms), shared=True)
    for axis, (arm, metric) in zip(axes, product(arms, metrics), strict=True):
        part = table[(table["defense"] == arm) & (table["metric"] == metric)]
        heat(part.pivot_table(index="secret_seed", columns="seed", values="value"), axis, cbar=False)
        title = f"{labels.arm(arm).title}:\n{labels.metric(metric).title}"
        axis.set(title=title, xlabel="fine-tuning seed", ylabel="secret")
        axis.label_outer()
    return finished(figure)


def comparisons(table: pd.DataFrame) -> Figure:
    """Ours, with its interval, and the paper's difference for every comparison of `claims.measured` with records.

    Where the paper counts otherwise (refusals by keywords), what that count gives stands beside as a hollow mark.
    """
    tested = table[table["decided"].isin(VERDICTS) & (table["role"] == "claim")].reset_index(drop=True)
    if tested.empty:
        return nothing()
    figure, (axis,) = panels(1, width=7.6, height=0.27 * len(tested) + 1.2)
    axis.axvline(0, color="0.4", linewidth=1)
    ours = tested.rename(columns={"difference": "mean"}).astype({"mean": float, "low": float, "high": float})
    for decision, colour in zip(VERDICTS, ("#0072B2", "#56B4E9", "#888888", "#D55E00"), strict=True):
        rows = ours[ours["decided"] == decision]
        marks = {"color": colour, "marker": "o", "linestyle": "none", "capsize": 2.5, "label": decision}
        axis.errorbar(rows["mean"], rows.index, xerr=errors(rows), **marks)
    hollow = {"color": "0.2", "marker": "o", "markerfacecolor": "none", "markersize": 7, "linestyle": "none"}
    beside = tested["beside_difference"].astype(float).where(tested["metric"] != tested["asked"])
    if beside.notna().any():
        axis.plot(beside, tested.index, **hollow, label="ours, counted as in the paper")
    marks = {"color": "0.2", "marker": "|", "markersize": 11, "linestyle": "none", "label": "paper"}
    axis.plot(tested["paper"].astype(float), tested.index, **marks)
    names = [f"{labels.metric(r['metric']).title}: {r['first']} – {r['second']}" for _, r in tested.iterrows()]
    axis.set_yticks(range(len(tested)), names, fontsize=8)
    axis.set(xlabel="difference first – second", ylim=(len(tested) - 0.4, -0.6))
    legend(figure, axis)
    return finished(figure)


def categories(table: pd.DataFrame, by: str, xlabel: str) -> Figure:
    """Mean of each category (rows) for each value of `by` (columns): a labelled heat map for each metric.

    table: rows of `records.by_category`, with the column `by`.
    """
    size = {"width": 1.2 + 0.72 * table[by].nunique(), "height": 0.36 * table["category"].nunique() + 1.2}
    metrics = list(dict.fromkeys(table["metric"]))
    figure, axes = panels(len(metrics), shared=True, **size)
    for axis, metric in zip(axes, metrics, strict=True):
        part = table[table["metric"] == metric]
        heat(part.pivot_table(index="category", columns=by, values="value", sort=False), axis, cbar=False)
        axis.set(title=labels.metric(metric).title, xlabel=xlabel, ylabel="")
    return finished(figure)
