"""The paper's claims, each with a verdict that is computed from records alone.

    reproduced                           what the claim expects is established
    same direction, not established      the data lean to what the claim expects
    undecided                            the data do not decide
    contradicted                         the opposite is established
    not tested                           there are no records of it at this scale, or fewer than three seeds

A claim takes the weakest verdict of its comparisons. Where only some of them were measured, the verdict says how many.
`book/claims.yaml` holds the claims and says which comparisons decide each; `decided` holds the rule.
"""

from dataclasses import dataclass
from math import nan

import pandas as pd

from bsa_core import paths, records
from bsa_core.profiles import Profile
from bsa_study import contrasts, labels, paper
from bsa_study.grids import ablations, mixed
from bsa_study.grids.headline import headline

EXPECTATIONS = ("higher", "lower", "same")
VERDICTS = ("reproduced", "same direction, not established", "undecided", "contradicted")
REPRODUCED, LEANING, UNDECIDED, CONTRADICTED = VERDICTS  # from the strongest to the weakest
NOT_TESTED = "not tested"
LEANS = 0.2  # p, not corrected, below which a difference leans to its side: were there none, one in ten would lean so


@dataclass(frozen=True)
class Comparison(contrasts.Contrast):
    """The difference first - second of a metric between two cells of a source, and what the claim expects of it.

    margin: for "same", how far from zero the whole interval may reach. paper: table and two settings of reported.csv.
    """

    expect: str = ""
    margin: float = 0.0
    paper: tuple[str, ...] = ()

    def __post_init__(self):
        sources = ("headline", "mixed", "cost", *ablations.SECTIONS)
        if self.source not in sources:
            raise ValueError(f"source is {self.source!r}; expected one of {', '.join(sources)}")
        super().__post_init__()
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
    compare: tuple[Comparison, ...] = ()


def load() -> list[Claim]:
    """The claims of book/claims.yaml; ValueError names claim and field."""
    path = paths.BOOK / "claims.yaml"
    claims = []
    for number, entry in enumerate(contrasts.read(path.name), start=1):
        where = f"{path}, claim {number} ({entry.get('id', 'without id')})"
        compare = tuple(contrasts.build(Comparison, comparison, where) for comparison in entry.get("compare", ()))
        try:
            claims.append(Claim(**{**entry, "compare": compare}))
        except TypeError as error:
            raise ValueError(f"{where}: {error}") from None
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

    Columns as of `records.table`: defense, seed, metric, deployed, outcomes (the one number).
    """
    trained = [record for record in found if record["run"]["training"]]
    alone = {r["run"]["seed"]: r["training"]["tokens"] for r in trained if r["run"]["defense"] == "none"}
    return pd.DataFrame(
        {"defense": records.arm(r), "seed": seed, "metric": "tokens", "deployed": True}
        | {"outcomes": [r["training"]["tokens"] / alone[seed]]}
        for r in trained
        if (seed := r["run"]["seed"]) in alone
    )


def decided(comparison: Comparison, row: pd.Series) -> str:
    """The verdict on one comparison, from its contrast with "p (Holm)".

    "higher" and "lower": established, either way, by `contrasts.verdict`; else a difference on the claim's side with an
    uncorrected p below LEANS has the same direction. A mean on the right side is not enough: of two arms that do not
    differ, one lies there half of the time.
    "same": reproduced where the whole interval lies within the margin; contradicted where a difference is established
    and the whole interval lies outside; else a mean within the margin has the same direction.
    """
    if not row["seeds"] >= contrasts.SEEDS:  # also where nothing was measured
        return NOT_TESTED
    low, high, mean, margin = row["low"], row["high"], row["difference"], comparison.margin
    found = contrasts.verdict(row)
    if comparison.expect == "same":
        if -margin <= low and high <= margin:
            return REPRODUCED
        if found != "undecided" and (low > margin or high < -margin):
            return CONTRADICTED
        return LEANING if abs(mean) <= margin else UNDECIDED
    expected = "yes" if comparison.expect == "higher" else "no"
    if found != "undecided":
        return REPRODUCED if found == expected else CONTRADICTED
    return LEANING if row["p"] < LEANS and (mean > 0) == (expected == "yes") else UNDECIDED


def verdict(decisions: list[str]) -> str:
    """Of one claim: the weakest of its comparisons that were tested."""
    tested = [decision for decision in decisions if decision != NOT_TESTED]
    if not tested:
        return NOT_TESTED
    result = max(tested, key=VERDICTS.index)
    return result if len(tested) == len(decisions) else f"{result} ({len(tested)} of {len(decisions)} tested)"


def measured(claims: list[Claim], profile: Profile, seeds: list[int]) -> pd.DataFrame:
    """One row per comparison. Columns: id, metric, first, second, expected, difference, low, high, n, seeds, secrets,
    p, p (Holm) over all rows, paper (their difference, in the same unit), decided."""
    asked = [(claim.id, comparison) for claim in claims for comparison in claim.compare]
    of = {name: source(name, profile, seeds) for name in {comparison.source for _, comparison in asked}}
    rows = []
    for claim, comparison in asked:
        contrast = contrasts.measure(of[comparison.source], comparison)
        if contrast is None:
            contrast = dict.fromkeys(["difference", "low", "high", "n", "seeds", "p"], nan)
        rows.append(
            {
                "id": claim,
                "metric": comparison.metric,
                "first": named(comparison.first),
                "second": named(comparison.second),
                "expected": comparison.expect + (f" (±{comparison.margin:g})" if comparison.margin else ""),
                **contrast,
                "paper": reported_difference(comparison),
            }
        )
    table = contrasts.with_holm(pd.DataFrame(rows))
    pairs = zip(asked, table.iterrows(), strict=True)
    return table.assign(decided=[decided(comparison, row) for (_, comparison), (_, row) in pairs])


def named(where: dict | float) -> str:
    """A cell in words, e.g. "BSA, secret"."""
    if not isinstance(where, dict):
        return f"{where:g}"
    return ", ".join(labels.arm(v).title if k == "defense" else str(v) for k, v in where.items())


def reported_difference(comparison: Comparison) -> float | None:
    """The paper's difference between the two settings: a share for percentages, a ratio minus one for seconds."""
    if not comparison.paper:
        return None
    table, *settings = comparison.paper
    metric = "seconds_per_epoch" if comparison.metric == "tokens" else comparison.metric
    split = (setting.rpartition(":") for setting in settings)  # "main:bsa" is a setting of another table
    keys = [(where or table, name, metric) for where, _, name in split]
    reported = paper.reported().query("model == 'Llama-2-7B-Chat'")
    values = reported.set_index(["table", "setting", "metric"])["value"].to_dict()
    if missing := [key for key in keys if key not in values]:
        raise ValueError(f"reported.csv has no row with table, setting and metric {missing[0]}")
    first, second = (values[key] for key in keys)
    if comparison.metric == "tokens":
        return first / second - 1
    return (first - second) / (100 if comparison.metric == "asr" else 1)


def verdicts(claims: list[Claim], measured_at: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per claim (index: its wording), one column per scale: the verdict."""
    columns = {
        scale: [verdict(list(table["decided"][table["id"] == claim.id])) for claim in claims]
        for scale, table in measured_at.items()
    }
    return pd.DataFrame(columns, index=[claim.claim for claim in claims])
