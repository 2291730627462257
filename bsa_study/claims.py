"""The paper's claims, each with a verdict that is computed from records alone.

    reproduced       every comparison of the claim that was measured decides for it: the interval says so
    partly           some do, or an interval leaves open what its mean suggests
    not reproduced   none does
    not tested       there are no records of it at this scale

Where only some of its comparisons were measured, the verdict says how many.
`book/claims.yaml` holds the claims and says which comparison decides each.
"""

from dataclasses import dataclass, field

import pandas as pd
import yaml

from bsa_core import paths, records, tasks
from bsa_core.profiles import Profile
from bsa_study import contrasts, paper
from bsa_study.grids import ablations, mixed
from bsa_study.grids.headline import headline
from bsa_study.labels import ARMS, CONDITIONS, METRICS, arm

COLUMNS = ("defense", "condition", "task", "variant")  # that select a cell
EXPECTATIONS = ("higher", "lower", "same")


@dataclass(frozen=True)
class Comparison:
    """The difference first - second of a metric between two cells of a source, and what the claim expects of it.

    margin: for "same", how far from zero the whole interval may reach. paper: table and two settings of reported.csv.
    """

    source: str
    metric: str
    first: dict
    second: dict
    expect: str
    margin: float = 0.0
    paper: tuple[str, ...] = ()

    def __post_init__(self):
        sources = ("headline", "mixed", "cost", *ablations.SECTIONS)
        if self.source not in sources:
            raise ValueError(f"source is {self.source!r}; expected one of {', '.join(sources)}")
        if self.metric not in METRICS and self.metric != "tokens":
            raise ValueError(f"metric is {self.metric!r}; expected one of {', '.join(METRICS)} or tokens")
        for cell in (self.first, self.second):
            if unknown := sorted(set(cell) - set(COLUMNS)):
                raise ValueError(f"column {unknown[0]!r} is unknown; expected {', '.join(COLUMNS)}")
            if cell.get("condition", "plain") not in CONDITIONS:
                raise ValueError(f"condition is {cell['condition']!r}; expected {', '.join(CONDITIONS)}")
            if cell.get("task", "sql") not in tasks.BUILDERS:
                raise ValueError(f"task is {cell['task']!r}; expected one of {', '.join(tasks.BUILDERS)}")
            if cell.get("defense") not in ARMS:
                raise ValueError(f"defense is {cell.get('defense')!r}; expected one of {', '.join(ARMS)}")
        if self.expect not in EXPECTATIONS:
            raise ValueError(f"expect is {self.expect!r}; expected one of {', '.join(EXPECTATIONS)}")
        if (self.expect == "same") != (self.margin > 0):
            raise ValueError(f"margin is {self.margin}; expected one above 0 for 'same' and none for the others")


@dataclass(frozen=True)
class Claim:
    """One claim: our wording, where the paper makes it, the chapter that measures it."""

    id: str
    claim: str
    where: str
    chapter: str
    compare: tuple[Comparison, ...] = field(default=())


def load() -> list[Claim]:
    """The claims of book/claims.yaml; ValueError names claim and field."""
    path = paths.BOOK / "claims.yaml"
    claims = []
    for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), start=1):
        try:
            comparisons = tuple(Comparison(**{**c, "paper": tuple(c.get("paper", ()))}) for c in entry.pop("compare"))
            claims.append(Claim(**entry, compare=comparisons))
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{path}, claim {number} ({entry.get('id', 'without id')}): {error}") from None
    return claims


def source(name: str, profile: Profile, seeds: list[int]) -> pd.DataFrame:
    """The table that a comparison's cells are taken from; empty where nothing was measured. Computes no run."""
    if name == "mixed":
        return mixed.trained_prompt(mixed.measured(profile, list(profile.tasks), seeds, compute=False))
    if name in ("headline", "cost"):
        found = ablations.at_hand(headline(profile, seeds, ["light"]), profile)
        return cost(found) if name == "cost" else records.table(found)
    return ablations.measured(name, profile, seeds, compute=False)


def cost(found: list[dict]) -> pd.DataFrame:
    """Training tokens of every run, as a multiple of what the attack alone takes under the same seed.

    Columns: defense, seed, value.
    """
    trained = [record for record in found if record["run"]["training"]]
    alone = {r["run"]["seed"]: r["training"]["tokens"] for r in trained if r["run"]["defense"] == "none"}
    rows = [
        {
            "defense": records.arm(r),
            "seed": r["run"]["seed"],
            "value": r["training"]["tokens"] / alone[r["run"]["seed"]],
        }
        for r in trained
        if r["run"]["seed"] in alone
    ]
    return pd.DataFrame(rows, columns=["defense", "seed", "value"])


def measure(comparison: Comparison, table: pd.DataFrame) -> pd.Series | None:
    """The contrast of a comparison, or None where one of its cells was not measured.

    Tokens are counted, not estimated: their interval is the range over seeds.
    """
    if comparison.source != "cost":
        return contrasts.measure(table, comparison.metric, comparison.first, comparison.second)
    by_seed = table.pivot_table(index="seed", columns="defense", values="value")
    arms = comparison.first["defense"], comparison.second["defense"]
    if not set(arms) <= set(by_seed):
        return None
    extra = (by_seed[arms[0]] - by_seed[arms[1]]).dropna()
    return pd.Series({"difference": extra.mean(), "low": extra.min(), "high": extra.max(), "n": 1, "seeds": len(extra)})


def decided(comparison: Comparison, contrast: pd.Series) -> str:
    """ "yes" or "no" where the interval decides, else "leaning" where the mean lies on the claim's side, else "no"."""
    low, high, mean = contrast["low"], contrast["high"], contrast["difference"]
    if comparison.expect == "same":
        inside, leaning = -comparison.margin <= low and high <= comparison.margin, abs(mean) <= comparison.margin
    elif comparison.expect == "higher":
        inside, leaning = low > 0, mean > 0
    else:
        inside, leaning = high < 0, mean < 0
    return "yes" if inside else "leaning" if leaning else "no"


def verdict(decisions: list[str | None]) -> str:
    """Of one claim, from what each of its comparisons decided; None was not measured and does not count."""
    tested = [decision for decision in decisions if decision is not None]
    if not tested:
        return "not tested"
    if all(decision == "yes" for decision in tested):
        result = "reproduced"
    else:
        result = "partly" if "yes" in tested or "leaning" in tested else "not reproduced"
    return result if len(tested) == len(decisions) else f"{result} ({len(tested)} of {len(decisions)} tested)"


def measured(claims: list[Claim], profile: Profile, seeds: list[int]) -> pd.DataFrame:
    """One row per comparison. Columns: id, metric, first, second, expected, difference, low, high, n, seeds, effect, p,
    p (Holm) over all comparisons, paper (their difference, in the same unit), decided.
    """
    sources = {c.source for claim in claims for c in claim.compare}
    of = {name: source(name, profile, seeds) for name in sources}
    rows = []
    for claim in claims:
        for comparison in claim.compare:
            contrast = measure(comparison, of[comparison.source])
            rows.append(
                {
                    "id": claim.id,
                    "metric": comparison.metric,
                    "first": named(comparison.first),
                    "second": named(comparison.second),
                    "expected": comparison.expect + (f" (±{comparison.margin:g})" if comparison.margin else ""),
                    **({} if contrast is None else contrast.to_dict()),
                    "paper": reported_difference(comparison),
                    "decided": None if contrast is None else decided(comparison, contrast),
                }
            )
    return contrasts.with_holm(pd.DataFrame(rows))


def named(where: dict) -> str:
    """A cell in words, e.g. "BSA, secret"."""
    return ", ".join(arm(v).title if k == "defense" else str(v) for k, v in where.items())


def reported_difference(comparison: Comparison) -> float | None:
    """The paper's difference between the two settings: a share for percentages, a ratio minus one for seconds."""
    if not comparison.paper:
        return None
    table, *settings = comparison.paper
    reported = paper.reported()
    reported = reported[(reported["model"] == "Llama-2-7B-Chat")]
    values = []
    for setting in settings:
        where, _, name = setting.rpartition(":")  # "main:bsa" is a setting of another table
        metric = "seconds_per_epoch" if comparison.metric == "tokens" else comparison.metric
        rows = reported[(reported["table"] == (where or table)) & (reported["setting"] == name)]
        rows = rows[rows["metric"] == metric]
        if len(rows) != 1:
            raise ValueError(
                f"reported.csv has {len(rows)} rows of {metric} for {setting!r} in table {where or table!r}"
            )
        values.append(float(rows["value"].iloc[0]))
    if comparison.metric == "tokens":
        return values[0] / values[1] - 1
    return (values[0] - values[1]) / (100 if comparison.metric == "asr" else 1)


def verdicts(claims: list[Claim], measured_at: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per claim (index: its wording), one column per scale: the verdict."""
    columns = {}
    for scale, table in measured_at.items():
        decisions = table["decided"].astype(object).where(table["decided"].notna(), None)
        columns[scale] = [verdict(list(decisions[table["id"] == claim.id])) for claim in claims]
    return pd.DataFrame(columns, index=[claim.claim for claim in claims])
