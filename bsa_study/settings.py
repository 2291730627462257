"""Settings of a scale, chosen by its gates alone: no defense is looked at.

A setting is a learning rate and a number of epochs. Of a grid, the rule takes the lightest setting (the smallest
product of the two, then the smaller rate) at which the gate holds with room on both sides: at the same epochs it holds
at the next lower and at the next higher rate of the grid as well. Where none has room, it takes the lightest at which
the gate holds, and where there is none either, the one that comes closest; both are said.

    headline   the attack gate, among the paper's ten epochs
    identity   the same gate for the identity role shift attack, among all epochs
    tasks      the gate of each task, without an attack, among all epochs of the region for tasks

    python -m bsa_study.settings tiny --seeds 0 1 2

computes what is missing, prints the grids and what was chosen, for a person to write into the profile.
"""

import argparse
import sys
from dataclasses import dataclass, field

import pandas as pd
import yaml

from bsa_core import profiles
from bsa_core.profiles import Profile
from bsa_study import gates

EPOCHS = 10  # the paper's


@dataclass(frozen=True)
class Chosen:
    """`training` fields: for the headline, for the identity role shift attack (none where there is no such grid), and
    by task. notes: where a gate has no room, or does not hold."""

    training: dict
    identity: dict = field(default_factory=dict)
    tasks: dict[str, dict] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def roomy(cells: pd.DataFrame) -> pd.Series:
    """Whether the gate holds at each of the `gates.cells`, and at both neighbours in rate."""
    grid = cells.pivot(index="rate", columns="epochs", values="holds").eq(True)  # one that is missing does not
    room = grid & grid.shift(1, fill_value=False) & grid.shift(-1, fill_value=False)
    return pd.Series([room.loc[rate, epochs] for rate, epochs in zip(cells["rate"], cells["epochs"], strict=True)])


def lightest(cells: pd.DataFrame, what: str) -> tuple[dict, str]:
    """The setting that the rule takes of `gates.cells`, and what is to be said of it ("" where there is room)."""
    cells = cells.reset_index(drop=True)
    cells = cells.assign(weight=(cells["rate"] * cells["epochs"]).round(12))
    roomy_ones, holding = cells[roomy(cells)], cells[cells["holds"]]
    said = "" if len(roomy_ones) else "holds, without room on both sides"
    if len(holding):
        chosen = (roomy_ones if len(roomy_ones) else holding).sort_values(["weight", "rate"]).iloc[0]
    else:
        said = "holds nowhere; this comes closest"
        chosen = cells.sort_values(["margin", "weight"], ascending=[False, True]).iloc[0]
    setting = {"learning_rate": float(chosen["rate"]), "epochs": int(chosen["epochs"])}
    told = f"{what}: at rate {setting['learning_rate']:g} and {setting['epochs']} epochs the gate {said}"
    return setting, told if said else ""


def grids(profile: Profile, seeds: list[int]) -> dict[str, pd.DataFrame]:
    """`gates.cells` of the attack, of the identity role shift and of every task, computed where they are missing.

    ValueError where the profile's region does not hold the paper's number of epochs.
    """
    if EPOCHS not in profile.region.epochs:
        found = list(profile.region.epochs)
        raise ValueError(f"region.epochs of profile {profile.name!r} is {found}; expected the paper's {EPOCHS} in it")
    made = {
        "headline": gates.attack_cells(profile, seeds, compute=True),
        gates.SHIFTED: gates.attack_cells(profile, seeds, compute=True, attack="identity-shift"),
        **{gates.of_task(task): gates.task_cells(profile, task, seeds, compute=True) for task in profile.tasks},
    }
    return {name: cells for name, cells in made.items() if len(cells)}


def chosen(grids: dict[str, pd.DataFrame]) -> Chosen:
    """What the rule chooses of `grids`, which hold the headline's."""
    grids = {**grids, "headline": grids["headline"].query("epochs == @EPOCHS")}
    taken = {name: lightest(cells, name) for name, cells in grids.items()}
    return Chosen(
        training=taken["headline"][0],
        identity=taken.get(gates.SHIFTED, ({}, ""))[0],
        tasks={name.removeprefix("task "): of[0] for name, of in taken.items() if name.startswith("task ")},
        notes=tuple(said for _, said in taken.values() if said),
    )


def main(given: list[str] | None = None) -> None:
    """Exits with one clear message where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bsa_study.settings", description=__doc__.partition("\n")[0])
    parser.add_argument("profile", help="a profile in profiles/, or the path of a YAML file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args(given)
    try:
        measured = grids(profiles.load(asked.profile), asked.seeds)
    except ValueError as error:
        sys.exit(f"{error}")
    for name, cells in measured.items():
        print(f"\n{name}\n{cells.to_string(index=False, float_format='{:.4g}'.format)}")
    made = chosen(measured)
    print(*(f"\nnote: {said}" for said in made.notes))
    of_tasks = {name: {"training": setting} for name, setting in made.tasks.items()}
    said = {"training": made.training, "pressures": {gates.SHIFTED: made.identity}, "tasks": of_tasks}
    print(f"\n{yaml.safe_dump({name: of for name, of in said.items() if any(of.values())}, sort_keys=False)}", end="")


if __name__ == "__main__":
    main()
