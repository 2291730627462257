"""Numbers of a scale by their names, each with its interval and printed in one way.

The names are those of book/sentences.yaml:

    bsa asr_content                           a cell of the headline table, as deployed: mean and 95 % interval
    bsa asr_content, condition plain          the same, served without the secret
    mixed/none - bsa asr_content, task sql    a paired difference of two arms, in points
    paper/lora, bsa, asr                      what the paper reports for Llama-2-7B-Chat: table, setting, metric
    paper GPT-3.5-Turbo/main, bsa, asr        for another model of book/reported.csv
    region mean/bsa asr_content               over the rates and epochs at which the attack works: the mean of all cells
    region worst/bsa asr_content              the mean of the worst cell
    gate/hold                                 how many of the `gate/all` gates hold; `gate/attack` is 1 where it does
    claims/reproduced                         how many of the paper's claims have this verdict; `claims/all` counts all
    profile/epochs                            a training setting of the pressure that the claims are read at
    5 %                                       a bound

Nothing is computed here: records are looked up.
"""

from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property, partial

import pandas as pd

from bsa_core import profiles, records
from bsa_core.arms import defenses
from bsa_core.profiles import Profile, Training
from bsa_study import claims, contrasts, gates, labels, paper, statistics
from bsa_study.grids import ablations, curve, region

SIZES = (0, 1, 2, 5, 10, 20, 50, 100)  # attack examples of the source `curve`
SOURCES = ("headline", "curve", "mixed", *ablations.SECTIONS)
REGION = {"region mean": "mean", "region worst": "worst"}  # source -> column of `region.over`
COLUMNS = ("condition", "task", "variant", "n_attack")  # that tell the cells of a source apart, beside the arm
COUNTED = {  # kind of number -> its names
    "claims": (*claims.VERDICTS, claims.NOT_TESTED, claims.FAILED, "all"),
    "gate": ("hold", "all", *gates.MODELS, *map(gates.of_task, labels.TASKS)),
    "profile": tuple(one.name for one in fields(Training)),
}
LLAMA = "Llama-2-7B-Chat"
FILE = "sentences.yaml"


@dataclass(frozen=True)
class Number:
    """A number with its interval. seeds, n: None for what is not measured here, such as a bound."""

    mean: float
    low: float
    high: float
    metric: str = ""
    difference: bool = False
    seeds: int | None = None
    n: int | None = None

    @property
    def percent(self) -> bool:
        """Whether it is a share that is printed in percent; ROUGE is not, as in the paper."""
        return bool(self.metric) and labels.metric(self.metric).scale == (0.0, 1.0) and "rouge" not in self.metric

    def __str__(self) -> str:
        """Such as "10.5 % [2.3, 37.1]"; a difference of shares is in points."""
        factor, form = (100, "z.1f") if self.percent else (1, "z.2f" if self.metric else "g")
        unit = ("\u00a0points" if self.difference else "\u00a0%") if self.percent else ""
        mean, low, high = (format(factor * value, form) for value in (self.mean, self.low, self.high))
        return f"{mean}{unit}" + (f" [{low},\u00a0{high}]" if self.low < self.high else "")


def single(value: float, metric: str = "") -> Number:
    """A number without an interval."""
    return Number(value, value, value, metric)


def bound(text: str) -> Number | None:
    """A number as a condition writes it, "5 %" or "0.05"; None where the text is no number."""
    digits = text.removesuffix("%").strip()
    try:
        value = float(digits)
    except ValueError:
        return None
    return single(value / 100 if text.endswith("%") else value, "asr" if text.endswith("%") else "")


@cache
def reported(model: str) -> dict[tuple[str, str, str], Number]:
    """The paper's numbers of a model by table, setting and metric; percentages as shares."""
    rows = paper.reported().query("model == @model")
    share = rows["unit"].map({"%": 100}).fillna(1)
    names = zip(rows["table"], rows["setting"], rows["metric"], strict=True)
    return {name: single(value, name[2]) for name, value in zip(names, rows["value"] / share, strict=True)}


def of_paper(name: str) -> Number | None:
    """A number of the paper by its name; None where the name is of another kind. ValueError where it has no such."""
    model, _, rest = name.partition("/")
    if model.split(" ")[0] != "paper":
        return None
    table, _, rest = rest.partition(", ")
    setting, _, metric = rest.rpartition(", ")
    found = reported(model.removeprefix("paper").strip() or LLAMA).get((table, setting, metric))
    if found is None:
        raise ValueError(f"{name!r}: reported.csv has no such row; expected 'paper/table, setting, metric'")
    return found


@dataclass(frozen=True)
class Cell:
    """One cell of a source, or the difference between two arms of it."""

    source: str
    arms: tuple[str, ...]
    metric: str
    where: tuple[tuple[str, str], ...]


def check(name: str) -> None:
    """ValueError where there is no number of that name, with what was expected."""
    kind, _, rest = name.partition("/")
    if kind in COUNTED and rest not in COUNTED[kind]:
        raise ValueError(f"{name!r}: {kind} has no {rest!r}; expected one of {', '.join(COUNTED[kind])}")
    if kind not in COUNTED and bound(name) is None and of_paper(name) is None:
        cell(name)


def cell(name: str) -> Cell:
    """ValueError says which part of the name is not known."""
    source, _, rest = name.partition("/") if "/" in name else ("", "", name)
    first, *more = rest.split(", ")
    arms, _, metric = first.rpartition(" ")
    where = tuple(tuple(part.split(" ", 1)) for part in more)
    parsed = Cell(source or "headline", tuple(arms.split(" - ")), metric, where)
    known = {"source": ([parsed.source], (*SOURCES, *REGION)), "metric": ([metric], labels.METRICS)}
    known |= {
        "arm": (parsed.arms, {**labels.ARMS, **defenses.DEFENSES}),
        "column": ([part[0] for part in where], COLUMNS),
    }
    for kind, (given, expected) in known.items():
        if unknown := [one for one in given if one not in expected]:
            raise ValueError(f"{name!r}: {kind} {unknown[0]!r} is unknown; expected one of {', '.join(expected)}")
    return parsed


def _curve(profile: Profile, seeds: list[int]) -> pd.DataFrame:
    return curve.measured(curve.gathered(profile, SIZES, seeds, compute=False))


@dataclass(frozen=True)
class Scale:
    """What the records of a scale say.

    ships: whether its records come with the project, for these seeds. used: every measured number that was asked
    for, so that a page can say how many seeds they rest on.
    """

    profile: Profile
    seeds: list[int]
    ships: bool = False
    sources: dict[str, pd.DataFrame] = field(default_factory=dict)
    used: list[Number] = field(default_factory=list)

    def number(self, name: str) -> Number | None:
        """The number of that name; None where it was not measured. ValueError where there is no such name."""
        if told := bound(name) or of_paper(name):
            return told
        kind, _, rest = name.partition("/")
        if kind in COUNTED:
            return {"claims": self._claims, "gate": self._gate, "profile": self._setting}[kind](rest)
        asked = cell(name)
        found = self._over_region(asked) if asked.source in REGION else self._measured(asked)
        self.used.extend([found] if found else [])
        return found

    def table(self, source: str) -> pd.DataFrame:
        """The rows of a source; empty where nothing was measured."""
        if source not in self.sources:
            look_up = _curve if source == "curve" else partial(claims.source, source)
            self.sources[source] = look_up(self.profile, self.seeds)
        return self.sources[source]

    def _measured(self, asked: Cell) -> Number | None:
        rows = self.table(asked.source)
        if rows.empty:
            return None
        rows = rows[rows["metric"] == asked.metric]
        if "condition" not in dict(asked.where):
            rows = rows[rows["deployed"]]
        for column, value in asked.where:
            rows = rows[rows[column].astype(str) == value] if column in rows else rows[:0]
        if not set(asked.arms) <= set(rows["defense"]):
            return None
        if len(asked.arms) == 2:
            first, second = ({"defense": arm} for arm in asked.arms)
            try:
                told = statistics.contrast(rows, first, second, asked.metric).rename({"difference": "mean"})
            except statistics.Unpaired:
                return None
        else:
            (told,) = statistics.summarize(rows[rows["defense"] == asked.arms[0]], ["defense"]).to_dict("records")
        counts = {"seeds": told["seeds"], "n": told["n"], "difference": len(asked.arms) == 2}
        return Number(told["mean"], told["low"], told["high"], asked.metric, **counts)

    def _over_region(self, asked: Cell) -> Number | None:
        rows = self.region[(self.region["defense"] == asked.arms[0]) & (self.region["metric"] == asked.metric)]
        if rows.empty:
            return None
        (value,), (seeds,) = rows[REGION[asked.source]], rows["seeds"]
        return replace(single(value, asked.metric), seeds=seeds)

    @cached_property
    def region(self) -> pd.DataFrame:
        """`region.over` the cells at which the attack gate holds, with the fewest seeds of a cell."""
        grid = region.defended(self.profile, self.seeds)
        cells = region.cells(region.measured(grid, self.profile, compute=False))
        inside = gates.attack_cells(self.profile, self.seeds).query("holds == True")
        if cells.empty or inside.empty:
            return pd.DataFrame(columns=["defense", "metric"])
        return region.over(cells, inside).assign(seeds=cells["seeds"].min())

    @cached_property
    def gates(self) -> dict[str, bool]:
        """`gates.holds` of the gates that were measured."""
        held = gates.holds(self.profile, self.seeds)
        return {name: holds for name, holds in held.items() if holds != gates.NOT_MEASURED}

    @cached_property
    def claims(self) -> pd.DataFrame:
        """`claims.measured` of all claims."""
        return claims.measured(claims.load(), self.profile, self.seeds)

    def _gate(self, name: str) -> Number | None:
        counts = {"hold": sum(self.gates.values()), "all": len(self.gates)} if self.gates else {}
        found = {**self.gates, **counts}.get(name)
        return None if found is None else single(found)

    def _claims(self, verdict: str) -> Number:
        told = claims.verdicts(claims.load(), {"": self.claims})[""].str.partition(" (")[0]
        return single(len(told) if verdict == "all" else (told == verdict).sum())

    def _setting(self, name: str) -> Number:
        return single(getattr(self.profile.trained(self.profile.paper), name))


def scales(profile: str, seeds: list[int], beside: dict[str, list[int]] | None = None) -> list[Scale]:
    """The scale of a page; then those beside it that have the same policy and records at hand.

    beside: name -> seeds; None: the scales of book/sentences.yaml, with the seeds that ship.
    """
    ship = {name: list(range(count)) for name, count in contrasts.read(FILE)["scales"].items()}
    asked = {name: of for name, of in (ship if beside is None else beside).items() if records.load(name)}
    first = profiles.load(profile)
    others = [(profiles.load(name), of) for name, of in asked.items() if name != first.name]
    found = [(first, seeds), *((other, of) for other, of in others if other.policy == first.policy)]
    return [Scale(at, of, ships=at.name in ship and {*ship[at.name]} <= {*of}) for at, of in found]
