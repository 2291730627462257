"""The paper's claims, each with a verdict that is computed from records alone.

    reproduced                           what the claim expects is established
    same direction, not established      the data lean to what the claim expects
    undecided                            the data do not decide
    contradicted                         the opposite is established
    not tested                           there are no records of it at this scale, or fewer than three seeds
    not tested: the control fails        a gate that the claim rests on does not hold (`gates.rests_on`), or what it
                                         rests on beside (that the attack works) is not established

A claim takes the weakest verdict of its comparisons. Where only some of them were tested, the verdict says how many.
Controls are comparisons that must be reproduced before the claim is tested, and count for no claim that only needs
them. `book/claims.yaml` holds the claims and says which comparisons decide each; `decided` holds the rule.
"""

from dataclasses import dataclass
from math import nan

import pandas as pd

from bsa_core import experiment, paths, records
from bsa_core.profiles import Profile
from bsa_core.progress import brief
from bsa_study import contrasts, gates, labels, paper
from bsa_study.capability import benchmarks
from bsa_study.contrasts import FAILED
from bsa_study.grids import ablations, mixed
from bsa_study.grids.headline import headline

EXPECTATIONS = ("higher", "lower", "same")
VERDICTS = ("reproduced", "same direction, not established", "undecided", "contradicted")
REPRODUCED, LEANING, UNDECIDED, CONTRADICTED = VERDICTS  # from the strongest to the weakest
NOT_TESTED = "not tested"
ELSEWHERE = ("gpt-3.5", "mt_bench")  # sources without records here: a model that is gone, a judge that is hired
CONTRAST = ["source", "asked", "first", "second"]  # columns that name a contrast; claims share some
TEXTS, COMPARED = ("id", "claim", "where", "chapter"), ("compare", "needs")  # fields of a claim
QUOTES = "'\""
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
        sources = ("headline", "mixed", "cost", "utility", *ELSEWHERE, *ablations.SECTIONS)
        if self.source not in sources:
            raise ValueError(f"source is {brief(self.source)}; expected one of {', '.join(sources)}")
        super().__post_init__()
        if self.expect not in EXPECTATIONS:
            raise ValueError(f"expect is {brief(self.expect)}; expected one of {', '.join(EXPECTATIONS)}")
        if type(self.margin) not in (float, int) or (self.expect == "same") != (self.margin > 0):
            raise ValueError(f"margin is {brief(self.margin)}; expected one above 0 for 'same' and none for the others")
        paper = self.paper if isinstance(self.paper, list | tuple) else [None]
        if len(paper) not in (0, 3) or not all(isinstance(part, str) for part in paper):
            raise ValueError(f"paper is {brief(self.paper)}; expected a table and two settings of reported.csv")


@dataclass(frozen=True)
class Claim:
    """One claim: our wording, where the paper makes it, the chapter that measures it, and its controls (needs)."""

    id: str
    claim: str
    where: str
    chapter: str
    compare: tuple[Comparison, ...] = ()
    needs: tuple[Comparison, ...] = ()


def load() -> list[Claim]:
    """The claims of book/claims.yaml; ValueError names claim and field."""
    path = paths.BOOK / "claims.yaml"
    claims = []
    for number, entry in enumerate(contrasts.listed(contrasts.read(path.name), str(path)), start=1):
        where = f"{path}, claim {number}"
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: found {brief(entry)}; expected the fields {', '.join(TEXTS + COMPARED)}")
        where += f" ({brief(entry['id']).strip(QUOTES) if 'id' in entry else 'without id'})"
        if unknown := [field for field in entry if field not in TEXTS + COMPARED]:
            raise ValueError(f"{where}: field {brief(unknown[0])} is unknown; expected {', '.join(TEXTS + COMPARED)}")
        if wrong := [field for field in TEXTS if not isinstance(entry.get(field), str)]:
            raise ValueError(f"{where}: field {wrong[0]!r} is {brief(entry.get(wrong[0]))}; expected a text")
        compared = {field: contrasts.listed(entry.get(field, []), f"{where}, {field}") for field in COMPARED}
        built = {
            field: tuple(contrasts.build(Comparison, comparison, where) for comparison in comparisons)
            for field, comparisons in compared.items()
        }
        claims.append(Claim(**{**entry, **built}))
    return claims


def source(name: str, profile: Profile, seeds: list[int]) -> pd.DataFrame:
    """The table that a comparison's cells are taken from; empty where nothing was measured. Computes no run.

    The headline is that of the pressure with the paper's settings. Answers word for word are asked of the guild only:
    another policy's references, if it has any, are free text.
    """
    if name in ELSEWHERE:
        return records.table([])
    if name == "mixed":
        return mixed.trained_prompt(mixed.measured(profile, list(profile.tasks), seeds, compute=False))
    if name in ("headline", "cost", "utility"):
        found = experiment.at_hand(headline(profile, seeds, [profile.paper]), profile)
        if name == "cost":
            return cost(found)
        table = records.table(found)
        if name == "utility":
            return benchmarks.table(table, found, profile) if found else table
        return table if profile.policy["name"] == "guild" else table[table["metric"] != "benign_exact"]
    return ablations.measured(name, profile, seeds, compute=False)


def cost(found: list[dict]) -> pd.DataFrame:
    """Training tokens and seconds of every run, as multiples of what the attack alone takes under the same seed. Times
    are compared on one kind of machine only.

    Columns as of `records.table`: defense, seed, metric, deployed, outcomes (the one number).
    """
    trained = [record for record in found if record["run"]["training"]]
    alone = {record["run"]["seed"]: record for record in trained if record["run"]["defense"] == "none"}
    rows = []
    for record in trained:
        seed = record["run"]["seed"]
        if seed not in alone:
            continue
        ratios = {"tokens": record["training"]["tokens"] / alone[seed]["training"]["tokens"]}
        if _machine(record) == _machine(alone[seed]):
            ratios["seconds"] = record["cost"]["train_seconds"] / alone[seed]["cost"]["train_seconds"]
        cell = {"defense": records.arm(record), "seed": seed, "deployed": True}
        rows += [{**cell, "metric": metric, "outcomes": [ratio]} for metric, ratio in ratios.items()]
    return pd.DataFrame(rows)


def _machine(record: dict) -> list:
    return [record["environment"].get(field) for field in ("machine", "device", "cpu", "dtype", "threads")]


def decided(comparison: Comparison, row: pd.Series, failing: bool = False) -> str:
    """The verdict on one comparison, from its contrast with "p (Holm)". failing: a gate that it rests on does not hold.

    "higher" and "lower": established, either way, by `contrasts.verdict`; else a difference on the claim's side with an
    uncorrected p below LEANS has the same direction. A mean on the right side is not enough: of two arms that do not
    differ, one lies there half of the time.
    "same": reproduced where the whole interval lies within the margin; contradicted where a difference is established
    and the whole interval lies outside; else a mean within the margin has the same direction.
    """
    if not row["seeds"] >= contrasts.SEEDS:  # also where nothing was measured
        return NOT_TESTED
    if failing:
        return FAILED
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


def verdict(decisions: list[str], controls: list[str] = ()) -> str:
    """Of one claim: the weakest of its comparisons that were tested, unless one of its controls fails."""
    tested = [decision for decision in decisions if decision in VERDICTS]
    if not tested:
        return FAILED if FAILED in decisions else NOT_TESTED
    if not {*controls} <= {REPRODUCED, NOT_TESTED, FAILED}:  # what rests on the gate of the last has failed already
        return FAILED
    result = max(tested, key=VERDICTS.index)
    return result if len(tested) == len(decisions) else f"{result} ({len(tested)} of {len(decisions)} tested)"


def measured(claims: list[Claim], profile: Profile, seeds: list[int]) -> pd.DataFrame:
    """One row per comparison and control. Columns: id, role ("claim" or "control"), source, asked (the metric), first,
    second, expected, those of `contrasts.measure`, paper (their difference, in the same unit), inside (whether our
    interval of what the paper counts holds it: "yes", "no", or "" without both), p (Holm), decided.

    The p-values are corrected for the number of different contrasts: a control that several claims need is one.
    """
    asked = [(claim.id, "claim", one) for claim in claims for one in claim.compare]
    asked += [(claim.id, "control", one) for claim in claims for one in claim.needs]
    of = {name: source(name, profile, seeds) for name in {comparison.source for *_, comparison in asked}}
    rows = []
    for claim, role, comparison in asked:
        contrast = contrasts.measure(of[comparison.source], comparison)
        if contrast is None:
            contrast = {**dict.fromkeys(contrasts.MEASURED, nan), "metric": comparison.metric, "beside": ""}
        margin = f" (±{comparison.margin:g})" if comparison.margin else ""
        told = {"id": claim, "role": role, "source": comparison.source, "asked": comparison.metric}
        told |= {"first": named(comparison.first), "second": named(comparison.second)}
        told |= {"expected": comparison.expect + margin, **contrast, "paper": reported_difference(comparison)}
        rows.append({**told, "inside": inside(told)})
    table = pd.DataFrame(rows)
    corrected = contrasts.with_holm(table.drop_duplicates(CONTRAST)).set_index(CONTRAST)["p (Holm)"]
    table = table.join(corrected, on=CONTRAST)
    pairs, held = zip(asked, table.iterrows(), strict=True), gates.holds(profile, seeds)
    said = [decided(comparison, row, gates.failing(comparison, held)) for (*_, comparison), (_, row) in pairs]
    return table.assign(decided=said)


def inside(row: dict) -> str:
    """Whether our interval holds the paper's difference: that of the metric which the paper reports."""
    theirs = row["paper"] if row["seeds"] >= contrasts.SEEDS else None
    ends = ("low", "high") if row["asked"] == row["metric"] else ("beside_low", "beside_high")
    low, high = (row[end] for end in ends)
    return "" if theirs is None or pd.isna(low) else "yes" if low <= theirs <= high else "no"


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
    metric = "seconds_per_epoch" if comparison.source == "cost" else comparison.metric
    split = (setting.rpartition(":") for setting in settings)  # "main:bsa" is a setting of another table
    keys = [(where or table, name, metric) for where, _, name in split]
    model = "GPT-3.5-Turbo" if comparison.source == "gpt-3.5" else "Llama-2-7B-Chat"
    reported = paper.reported()
    reported = reported[reported["model"] == model].set_index(["table", "setting", "metric"])
    if missing := [key for key in keys if key not in reported.index]:
        raise ValueError(f"reported.csv has no row with table, setting and metric {missing[0]}")
    (first, unit), (second, _) = (reported.loc[key, ["value", "unit"]] for key in keys)
    if unit == "s":
        return first / second - 1
    return (first - second) / (100 if unit == "%" else 1)


def verdicts(claims: list[Claim], measured_at: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per claim (index: its wording), one column per scale: the verdict."""
    columns = {}
    for scale, table in measured_at.items():
        of = {name: list(rows["decided"]) for name, rows in table.groupby(["id", "role"])}
        columns[scale] = [verdict(of[claim.id, "claim"], of.get((claim.id, "control"), [])) for claim in claims]
    return pd.DataFrame(columns, index=[claim.claim for claim in claims])


def paper_inside(claims: list[Claim], measured_at: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """As `verdicts`: in how many of the claim's comparisons with both numbers our interval holds the paper's
    difference, as in "1 of 2"; "" where there is none."""
    columns = {}
    for scale, table in measured_at.items():
        rows = table[(table["role"] == "claim") & (table["inside"] != "")]
        marks = {name: list(part["inside"]) for name, part in rows.groupby("id")}
        columns[scale] = [f"{of.count('yes')} of {len(of)}" if (of := marks.get(claim.id)) else "" for claim in claims]
    return pd.DataFrame(columns, index=[claim.claim for claim in claims])
