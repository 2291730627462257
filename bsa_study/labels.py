"""How the book names, draws and prints what it shows: arms, metrics, conditions, tasks, intervals."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from bsa_core.arms import defenses


@dataclass(frozen=True)
class Arm:
    """Title, colour and marker. secret: the arm is served with the secret prompt."""

    title: str
    colour: str
    marker: str
    secret: bool = False


@dataclass(frozen=True)
class Metric:
    """Title, and the lowest and the highest outcome of one request."""

    title: str
    scale: tuple[float, float] = (0.0, 1.0)


def _defense(name: str, colour: str = "#CC79A7", marker: str = "v") -> Arm:
    defense = defenses.get(name)
    return Arm(defense.title, colour, marker, defense.serves_secret)


GIVEN = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
ARMS = {name: Arm(**how) if "title" in how else _defense(name, **how) for name, how in GIVEN["arms"].items()}
SCALES = {name: tuple(ends) for name, ends in GIVEN["scales"].items()}
METRICS = {name: Metric(title, SCALES.get(name, Metric.scale)) for name, title in GIVEN["metrics"].items()}
CONDITIONS, TASKS, SERVED = GIVEN["conditions"], GIVEN["tasks"], GIVEN["served"]
OUTCOMES: dict[str, dict[str, str]] = GIVEN["outcomes"]  # outcome -> its colour, and its hatch where it has one


def arm(name: str) -> Arm:
    """An arm by its name; defenses of one's own share a neutral style."""
    if name in ARMS:
        return ARMS[name]
    return _defense(name) if name in defenses.DEFENSES else Arm(name, "#CC79A7", "v")


def metric(name: str) -> Metric:
    """A metric by its name; one that is not listed, such as a benchmark of one's own, is a share under its own name."""
    return METRICS.get(name, Metric(name))


def ordered(names) -> list[str]:
    """Names of arms in the order of ARMS; others behind them, in order of appearance."""
    names = list(dict.fromkeys(names))
    return sorted(names, key=lambda name: [*ARMS, *names].index(name))


def title(value) -> str:
    """The title of a condition or a task; anything else as it is."""
    return {**CONDITIONS, **TASKS}.get(value, str(value))


def interval(mean: float, low: float, high: float, form: str = ".3f") -> str:
    """Mean and interval, as in "0.051 [0.029, 0.083]"; a narrow column can break between them only.

    form: of each number: "+.3f" for differences. What rounds to zero has no minus sign.
    """
    form = form[: form.startswith("+")] + "z" + form.removeprefix("+")
    return f"{mean:{form}} [{low:{form}},\u00a0{high:{form}}]"


def intervals(rows: pd.DataFrame, form: str = ".3f", of: str = "mean") -> pd.Series:
    """`interval` of each row with columns `of`, low and high."""
    cells = [interval(*cell, form) for cell in rows[[of, "low", "high"]].itertuples(index=False)]
    return pd.Series(cells, rows.index, dtype=object)
