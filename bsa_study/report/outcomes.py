"""What the models did with each request (`bsa_core.anatomy`): shares of outcomes by arm, as a figure and as a table."""

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from bsa_core import anatomy
from bsa_core.anatomy import OUTCOMES
from bsa_study import labels, statistics
from bsa_study.report import figures, tables

ROOM = 0.11  # the least share whose number is written into its part of a bar
# What a bar begins with, so that its interval can be drawn: the attack's success, by content where the policy can tell,
# and the answers that help.
FIRST = {"restricted": ("complied", "refused but gives away", "not refused"), "benign": ("helpful",)}
LAST = "refused"
INTERVAL = "95 % interval"


def of(found: list[dict], table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """`anatomy.table` of the records that stand in `table`, with some of its columns, such as the pressure.

    A record that stands there several times, such as that of the initial model under every pressure, is repeated.
    """
    rows = anatomy.table(list({record["key"]: record for record in found}.values()))
    told = table[["key", *columns]].drop_duplicates() if len(table) else pd.DataFrame(columns=["key", *columns])
    return told.merge(rows.drop(columns=[column for column in columns if column in rows]), on="key")


def counted(rows: pd.DataFrame) -> str:
    """What the shares of some rows of `anatomy.table` count: "n = 66, 3 seeds"."""
    cells = [column for column in rows if column not in ("seed", "share", "letters", "key")]
    seeds = rows.groupby(cells, dropna=False)["key"].nunique()
    return f"n = {'-'.join(map(str, sorted({rows['n'].min(), rows['n'].max()})))}, {tables.counted(seeds)}"


def table(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Share of each outcome (columns) for each combination of the columns `by`, as a mean over seeds.

    Outcomes that never occur in these rows are left out.
    """
    if rows.empty:
        return tables.nothing()
    rows = rows.assign(**{column: rows[column].map(tables.NAMES[column]) for column in set(tables.NAMES) & set(by)})
    titles = {kind: f"{kind} requests ({counted(part)})" for kind, part in rows.groupby("kind")}
    shown = rows.assign(kind=rows["kind"].map(titles))
    shown = shown.pivot_table(index=by, columns=["kind", "outcome"], values="share", sort=False, observed=True)
    order = [(titles[kind], name) for kind, names in OUTCOMES.items() if kind in titles for name in names.values()]
    shown = shown[[column for column in order if shown[column].max() > 0]].map("{:.3f}".format)
    return shown.rename_axis(index=tables.TITLES, columns=[None, None])


def figure(rows: pd.DataFrame, by: str | None = None, axis_title: str = "") -> Figure:
    """A bar of outcomes per arm, restricted requests beside benign ones, as means over seeds.

    A bar begins with FIRST, and a black line is the 95 % interval of their share over seeds and requests.
    rows: of `anatomy.table`, in one condition per arm, such as those of `of` that are `deployed`. by: a column whose
        values get bars of their own, such as the pressure or the condition. A bar is named by arm and value; by the
        value alone where all bars are of one arm. axis_title: what the values are, such as "attack examples".
    """
    if rows.empty:
        return figures.nothing()
    rows = rows.assign(bar=list(zip(rows[by] if by else [None] * len(rows), rows["defense"], strict=True)))
    groups, arms = list(dict.fromkeys(rows[by])) if by else [None], labels.ordered(rows["defense"])
    bars = sorted(set(rows["bar"]), key=lambda bar: (groups.index(bar[0]), arms.index(bar[1])))
    gap = 0.6 if len(arms) > 1 else 0
    places = {bar: place + gap * groups.index(bar[0]) for place, bar in enumerate(bars)}
    end = places[bars[-1]] + 0.6
    drawn, axes = figures.panels(2, width=4.0, height=0.4 * end + 1.5, shared="row")
    handles = {}
    for axis, (kind, names) in zip(axes, OUTCOMES.items(), strict=True):
        part = rows[rows["kind"] == kind]
        means = part.pivot_table(index="bar", columns="outcome", values="share")
        between = [name for name in names.values() if name not in (*FIRST[kind], LAST)]
        ordered = [*FIRST[kind], *between, LAST]
        for place, shares in ((places[bar], means.loc[[bar]].iloc[0]) for bar in bars):
            for name in ordered:
                if shares[name] > 0:
                    handles[name] = _part(axis, place, shares, name, ordered)
        ends = _intervals(part.assign(place=part["bar"].map(places)), kind)
        line = {"color": "black", "linestyle": "none", "capsize": 2.5, "elinewidth": 1.2}
        handles[INTERVAL] = axis.errorbar(ends["mean"], ends["place"] + 0.26, xerr=figures.errors(ends), **line)
        axis.set(title=f"{kind} requests\n({counted(part)})", xlim=(0, 1), xlabel="share of requests")
        axis.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])  # those of neighbours do not touch
        axis.set_yticks([*places.values()], [_title(*bar, one_arm=len(arms) == 1) for bar in bars])
        axis.set_ylim(end, -0.6)
        axis.grid(visible=False)
    axes[0].set_ylabel(axis_title)
    ordered = [name for name in (*labels.OUTCOMES, INTERVAL) if name in handles]
    how = {"loc": "outside lower center", "ncols": min(len(ordered), 4), "frameon": False}
    drawn.legend([handles[name] for name in ordered], ordered, **how)
    return figures.finished(drawn)


def _intervals(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    """The share of FIRST in each bar, a row per `place`, with its interval."""
    runs = rows.drop_duplicates(["place", "key"])
    first = {letter for letter, name in OUTCOMES[kind].items() if name in FIRST[kind]}
    marks = ["".join("01"[letter in first] for letter in letters) for letters in runs["letters"]]
    return statistics.summarize(runs.assign(metric=kind, outcomes=marks), ["place"])


def _title(group, arm: str, one_arm: bool) -> str:
    if group is None:
        return labels.arm(arm).title
    return labels.title(group) if one_arm else f"{labels.arm(arm).title}, {labels.title(group)}"


def _part(axis, place: float, shares: pd.Series, name: str, before: list[str]):
    """One part of a bar, with its share where there is room; returns its handle for the legend."""
    left, look = shares[before[: before.index(name)]].sum(), labels.OUTCOMES[name]
    lines = {"edgecolor": "0.35", "linewidth": 0.4, "hatch": look.get("hatch")}
    (handle,) = axis.barh(place, shares[name], left=left, height=0.78, facecolor=look["colour"], **lines)
    if shares[name] >= ROOM:
        dark = np.dot(to_rgb(look["colour"]), (0.299, 0.587, 0.114)) < 0.5
        ground = {"facecolor": look["colour"], "edgecolor": "none", "pad": 0.8} if "hatch" in look else None
        text = {"color": "white" if dark else "black", "ha": "center", "va": "center", "fontsize": 9, "bbox": ground}
        axis.text(left + shares[name] / 2, place - 0.06, f"{shares[name]:.2f}", **text)
    return handle
