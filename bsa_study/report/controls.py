"""How the controls are shown: the gates, and the region in which the attack works."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bsa_core.profiles import Profile
from bsa_study import gates, labels
from bsa_study.grids import region
from bsa_study.report import figures, tables


def figure(cells: pd.DataFrame, attack: pd.DataFrame) -> Figure:
    """Rate by epochs: a panel for each arm (columns), content ASR above and over-refusal below, means over seeds. Cells
    in which the attack gate holds are outlined.

    cells: of `region.cells`; attack: of `gates.attack_cells`.
    """
    if cells.empty:
        return figures.nothing()
    measured = set(cells["metric"])
    metrics = ["asr_content" if "asr_content" in measured else "asr", "over_refusal"]
    arms = labels.ordered(cells["defense"])
    made, axes = figures.panels(len(arms), width=2.5, height=2.2, rows=2, shared=True)
    rates, epochs = sorted(set(cells["rate"])), sorted(set(cells["epochs"]), reverse=True)
    inside = attack[attack["holds"].astype(bool)] if len(attack) else attack
    for axis, (metric, arm) in zip(axes, [(metric, arm) for metric in metrics for arm in arms], strict=True):
        part = cells[(cells["metric"] == metric) & (cells["defense"] == arm)]
        grid = part.pivot(index="epochs", columns="rate", values="mean").reindex(index=epochs, columns=rates)
        figures.heat(grid, axis, cbar=False, annot_kws={"fontsize": 9})
        for rate, n in zip(inside["rate"], inside["epochs"], strict=True):
            if rate in rates and n in epochs:
                at = rates.index(rate) + 0.04, epochs.index(n) + 0.04
                axis.add_patch(Rectangle(at, 0.92, 0.92, fill=False, edgecolor="#D55E00", linewidth=2.5))
        axis.set(title=f"{labels.arm(arm).title}:\n{labels.metric(metric).title}", xlabel="learning rate")
        axis.set_xticklabels([f"{rate:g}" for rate in rates], rotation=0)
        axis.tick_params(axis="y", labelrotation=0)
        axis.label_outer()
    return figures.finished(made)


def over(cells: pd.DataFrame, attack: pd.DataFrame) -> pd.DataFrame:
    """In numbers, of every arm over the cells in which the attack gate holds."""
    inside = attack[attack["holds"].astype(bool)] if len(attack) else attack
    if cells.empty or inside.empty:
        return tables.nothing("no cell in which the attack gate holds is at hand")
    told = region.over(cells, inside)
    told = told.set_index("defense").loc[labels.ordered(told["defense"])].reset_index()
    shown = pd.DataFrame(
        {
            "arm": told["defense"].map(lambda name: labels.arm(name).title),
            "metric": told["metric"].map(lambda name: labels.metric(name).title),
            "mean over the region": told["mean"].map("{:.3f}".format),
            "worst cell": told["worst"].map("{:.3f}".format),
            "worst single run": told["worst_run"].map("{:.3f}".format),
            "cells": told["cells"],
        }
    )
    return shown.set_index(["arm", "metric"])


def setting(profile: Profile, attack: pd.DataFrame) -> str:
    """One sentence: the headline setting, and whether the attack gate holds there and beside it."""
    training = {**vars(profile.training), **profile.pressures.get(profile.paper, {})}
    rate, epochs = training["learning_rate"], training["epochs"]
    said = f"On `{profile.name}` the headline setting is a learning rate of {rate:g} and {epochs} epochs."
    held = {(row["rate"], row["epochs"]): bool(row["holds"]) for row in attack.to_dict("records")}
    if (rate, epochs) not in held:
        return f"{said} It is no cell of a region at hand."
    rates = sorted({of for of, n in held if n == epochs})
    place = rates.index(rate)
    beside = [held[of, epochs] for of in (*rates[max(place - 1, 0) : place], *rates[place + 1 : place + 2])]
    if not held[rate, epochs]:
        return f"{said} The attack gate does not hold there: of the grid, it comes closest."
    room = len(beside) == 2 and all(beside)
    return f"{said} The attack gate holds there{' and at both neighbours in rate' if room else ', without room'}."


def gate_table(held: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Every bound of every gate, with what was measured. held: scale -> `gates.measured`."""
    parts = [gates.titled(told).assign(scale=scale) for scale, told in held.items() if len(told)]
    if not parts:
        return tables.nothing()
    return pd.concat(parts).set_index(["scale", "gate", "metric", "condition"])
