"""The file of a sweep, and the points of its grid.

    profiles: [tiny]              every one of these profiles
    seeds: [0, 1, 2]              with every seed
    grid:                         and every value of every line here
      defense: [bsa, balanced-bsa]
      secret_length: [10, 50, 150]

A line of the grid names a field of a run (an argument of `experiment.describe`), a field of its training, or one of the
profile with a dot, such as `evaluation.restricted`. A line with names in place of a list changes several fields at
once. In place of a grid, `book` takes runs of the book: `main`, the arms of its main table, or a section of its
ablations.
"""

import inspect
import re
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import product
from pathlib import Path

from pydantic import StrictInt, StrictStr

from bsa_core import checked, paths, profiles, reading
from bsa_core.checked import field, settings
from bsa_core.experiment.runs import Run, describe
from bsa_core.profiles import ELSEWHERE, Profile, Training
from bsa_core.progress import brief
from bsa_study.grids import ablations, headline

MAIN = "main"
OF_A_RUN = [name for name in inspect.signature(describe).parameters if name not in ("profile", "seed", "training")]
OF_TRAINING = [of.name for of in fields(Training)]
OF_A_PROFILE = [of.name for of in fields(Profile) if of.name not in ("name", *ELSEWHERE)]


@settings("")
class Sweep:
    """What the file says."""

    profiles: tuple[StrictStr, ...] = field("names of profiles, or paths of YAML files from here", min_length=1)
    seeds: tuple[StrictInt, ...] = field("the seeds, such as [0, 1, 2]", min_length=1)
    grid: dict = field("fields and their values, such as {defense: [none, bsa]}", factory=dict)
    book: StrictStr = field("runs of the book in place of a grid: `main`, or a section of its ablations", "")

    def __post_init__(self):
        for name, values in (("profiles", self.profiles), ("seeds", self.seeds)):
            once(name, values)
        if min(self.seeds) < 0:
            raise ValueError(f"seeds has {min(self.seeds)}; expected whole numbers from 0")
        if bool(self.grid) == bool(self.book):
            raise ValueError("expected either `grid`, with fields and their values, or `book`, with a name")
        if self.book not in ("", MAIN, *ablations.SECTIONS):
            raise ValueError(f"book is {brief(self.book)}; expected one of {MAIN}, {', '.join(ablations.SECTIONS)}")
        for name, values in self.grid.items():
            if not isinstance(values, list | dict) or not values:
                told = "a non-empty list of values, or names with the fields that each changes"
                raise ValueError(f"grid.{name} is {brief(values)}; expected {told}")
            if isinstance(values, list):
                known(f"grid.{name}", name)
                once(f"grid.{name}", values)
                continue
            for of, changes in values.items():
                if not isinstance(changes, dict):
                    raise ValueError(f"grid.{name}.{of} is {brief(changes)}; expected fields and their values")
                for changed in changes:
                    known(f"grid.{name}.{of}", changed)


def once(name: str, values) -> None:
    """ValueError where a value stands twice."""
    texts = [repr(value) for value in values]
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise ValueError(f"{name} lists {twice[0]} twice; keep one")


def known(where: str, name: str) -> None:
    """ValueError where no run, training or profile has a field of that name."""
    if name in (*OF_A_RUN, *OF_TRAINING) or name.partition(".")[0] in OF_A_PROFILE:
        return
    of_a_profile = ", ".join(OF_A_PROFILE)
    told = f"expected one of {', '.join((*OF_A_RUN, *OF_TRAINING))}, or a field of a profile ({of_a_profile})"
    raise ValueError(f"{where}: unknown field {brief(name)}; {told} such as evaluation.restricted")


@dataclass(frozen=True)
class Point:
    """A run of the grid. name: what it is called in tables, the same for all seeds; like: the name of the profile in
    the file, of which the run's own is a change where the grid changes fields of it."""

    name: str
    like: str
    profile: Profile
    run: Run


def read(path: Path) -> Sweep:
    """ValueError names the file and the field that is wrong."""
    said = reading.from_yaml(path, "a sweep, as YAML")
    if not isinstance(said, dict):
        raise ValueError(f"{path}: expected profiles, seeds and a grid, found {type(said).__name__}")
    try:
        return checked.read(Sweep, said)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def points(path: Path) -> list[Point]:
    """All runs of the sweep in a file, by profile, point and seed; ValueError names the file and the point."""
    sweep, made = read(path), []
    for profile in (loaded(name, path.parent) for name in sweep.profiles):
        try:
            of = book(sweep, profile) if sweep.book else grid(sweep, profile)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if not of:
            raise ValueError(f"{path}: profile {profile.name!r} leaves out {sweep.book!r} (its `ablations`)")
        made += of
    return made


def loaded(name: str, folder: Path) -> Profile:
    """A profile by its name, or by a path from the sweep's folder or the project's root: jobs work in other folders."""
    if not name.endswith((".yaml", ".yml")):
        return profiles.load(name)
    own = folder / Path(name).expanduser()
    return profiles.load(str(own if own.exists() else paths.ROOT / name))


def book(sweep: Sweep, profile: Profile) -> list[Point]:
    """The same runs as in the chapters, with the same keys."""
    seeds = list(sweep.seeds)
    if sweep.book == MAIN:
        pairs = [("", run) for run in headline.headline(profile, seeds, [profile.paper])]
    else:
        pairs = ablations.grid(sweep.book, profile, seeds)
    named = [(", ".join(filter(None, (str(of), arm(run)))), run) for of, run in pairs]
    order = list(dict.fromkeys(name for name, _ in named))
    named.sort(key=lambda pair: order.index(pair[0]))
    return [Point(name, profile.name, profile, run) for name, run in named]


def arm(run: Run) -> str:
    return run.defense if run.training else "initial"


def grid(sweep: Sweep, profile: Profile) -> list[Point]:
    """Every value of every line with every other. Runs are at the profile's pressure with the paper's settings unless
    the grid says another."""
    paper = profile.paper if profile.paper in profile.pressures else ""
    lines = [axis(name, values) for name, values in sweep.grid.items()]
    several = [len(line) > 1 for line in lines]
    shown = several if any(several) else [True] * len(lines)  # what is the same for all names nothing
    made = []
    for cell in product(*lines):
        name = ", ".join(told for (told, _), told_apart in zip(cell, shown, strict=True) if told_apart)
        changes = {"pressure": paper}
        for _, some in cell:
            changes |= some
        try:
            of_profile = {of: value for of, value in changes.items() if of not in (*OF_A_RUN, *OF_TRAINING)}
            of_run = {of: value for of, value in changes.items() if of not in of_profile}
            own = changed(profile, of_profile) if of_profile else profile
            made += [Point(name, profile.name, own, describe(own, seed=seed, **of_run)) for seed in sweep.seeds]
        except ValueError as error:
            raise ValueError(f"{profile.name}, {name}: {error}") from None
    return made


def axis(name: str, values: list | dict) -> list[tuple[str, dict]]:
    """What each value of a line is called, and what it changes."""
    if isinstance(values, dict):
        return [(str(of), changes) for of, changes in values.items()]
    return [(f"{name} {plain(value)}", {name: value}) for value in values]


def plain(value) -> str:
    """A value in a name."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return " ".join(map(str, parts))


def changed(profile: Profile, changes: dict) -> Profile:
    """The profile with other values, under a name that says which: its records have a folder of their own."""
    sections: dict = {}
    for path, value in changes.items():
        section, dot, name = path.partition(".")
        if not dot:
            sections[section] = value
            continue
        of = sections.get(section, getattr(profile, section))
        if "." in name or not (isinstance(of, dict) or is_dataclass(of)):
            raise ValueError(f"{path}: profiles have no such field")
        sections[section] = {**of, name: value} if isinstance(of, dict) else with_field(of, path, value)
    said = "-".join(f"{path.rpartition('.')[2]}-{plain(value)}" for path, value in changes.items())
    return replace(profile, name=f"{profile.name}-{file_name(said)}", **sections)


def with_field(of, path: str, value):
    name = path.partition(".")[2]
    if name not in (known := [one.name for one in fields(of)]):
        raise ValueError(f"{path}: unknown field; expected one of {', '.join(known)}")
    return replace(of, **{name: value})


def file_name(text: str) -> str:
    """The text as part of a file's name."""
    return re.sub(r"[^\w.+=-]+", "-", text).strip("-.")[:80]
