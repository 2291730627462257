"""What the book's scales predict for one that nobody has measured yet: book/predictions.yaml.

    python -m bsa_study.predictions [--date 2026-11-26] [--anew]

Written from the shipped records, before they are held against any larger model, and not overwritten unless --anew is
given. RULE says how, in the words that the file repeats; `beside` holds predictions against a scale that was measured.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import date
from itertools import combinations
from math import prod, sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.stats import laplace, norm

from bsa_core import keys, paths, profiles, records, writing
from bsa_core.experiment import provenance
from bsa_core.profiles import Profile
from bsa_study import claims, contrasts, labels, transfer
from bsa_study.claims import CONTRAST, FAILED, NOT_TESTED, REPRODUCED, VERDICTS

NAME, CHAPTER = "predictions.yaml", "03_bsa"
LEVELS = (0.025, 0.975)  # of an interval
NEAR = 15  # comparisons whose scales say how far a further one may lie; with fewer, or one scale, ALONE does
ALONE = laplace.ppf(np.arange(0.5, 40) / 40, scale=0.2)
NO = "no prediction"  # nothing that decides the claim was measured at a scale where its controls hold
RULE = f"""
The difference that decides a comparison is predicted to be the mean of the scales that measured it with at least
{contrasts.SEEDS} seeds and at which the claim's controls hold. A further scale is taken to lie as far from this mean as
two scales lie from each other, to either side: on the {NEAR} comparisons, of those that both measured, whose difference
is the nearest in size (times the root of (1 + 1/k) / 2 for a mean of k scales). Where they share fewer, distances are
taken from a Laplace distribution of scale 0.2. The middle 95 % of what this gives is the interval. Each value is also
worded by the rule of the claims, as if it were measured with an interval as long as the scales' own on average, and
with a p-value corrected for all comparisons. The shares of the words are their chances. A claim takes the weakest word
of its comparisons, as if these were independent of each other, and "{FAILED}" with the
chance that not all of its controls are reproduced. The word with the largest chance is predicted, and that chance says
how sure the prediction is. A question of chapter 03 is treated as a claim that its statement holds.
"""


def asked() -> dict[str, list[claims.Claim]]:
    """The claims, and the questions of chapter 03 as claims that their statements hold."""
    questions = []
    for number, question in enumerate(contrasts.load(CHAPTER), start=1):
        compare = (claims.Comparison(**vars(question), expect="higher"),)
        questions.append(claims.Claim(f"{CHAPTER}-{number}", question.statement, "", CHAPTER, compare))
    return {"claims": claims.load(), "questions": questions}


def by_keywords(table: pd.DataFrame) -> pd.DataFrame:
    """`claims.measured` with refusals by keywords in place of content, where that decides: as for a policy that cannot
    tell what an answer gives away."""
    swapped = table["beside"] == "asr"
    fields = {name: table[name].mask(swapped, table[f"beside_{name}"]) for name in ("difference", "low", "high")}
    return table.assign(**fields, metric=table["metric"].mask(swapped, "asr"))


def held(listed: list[claims.Claim], table: pd.DataFrame) -> pd.DataFrame:
    """The rows that say something: enough seeds, and of no claim or comparison whose controls fail at this scale."""
    words = claims.verdicts(listed, {"": table})[""]
    failed = [claim.id for claim, word in zip(listed, words, strict=True) if word == FAILED]
    failing = (table["decided"] == FAILED) | (table["id"].isin(failed) & (table["role"] == "claim"))
    return table[(table["seeds"] >= contrasts.SEEDS) & ~failing]


def distances(tables: list[pd.DataFrame]) -> np.ndarray:
    """(comparisons, 2): the size of the mean difference of two scales, and how far these lie from each other, for every
    comparison that both measured."""
    by_contrast = [table.drop_duplicates(CONTRAST).set_index(CONTRAST)["difference"].astype(float) for table in tables]
    pairs = [pd.concat(pair, axis=1, join="inner").to_numpy() for pair in combinations(by_contrast, 2)]
    pairs = np.concatenate([np.empty((0, 2)), *pairs])
    return np.column_stack([abs(pairs.mean(axis=1)), pairs[:, 0] - pairs[:, 1]])


def draws(differences: list[float], apart: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """What a further scale may measure, from the differences of k scales: equally likely values between the ends."""
    centre, k = float(np.mean(differences)), len(differences)
    nearest = apart[np.argsort(abs(apart[:, 0] - abs(centre)), kind="stable")[:NEAR], 1]
    away = np.concatenate([nearest, -nearest]) if len(nearest) == NEAR else ALONE
    return np.clip(centre + away * sqrt((1 + 1 / k) / 2), *ends)


def foreseen(comparison: claims.Comparison, rows: dict[str, pd.Series], apart: np.ndarray, tests: int) -> dict:
    """One comparison, from its rows by scale. chances: word -> share.

    apart: `distances`. tests: how many comparisons the p-value is corrected for.
    """
    at = {scale: float(row["difference"]) for scale, row in rows.items()}
    reach = float(np.mean([row["high"] - row["low"] for row in rows.values()])) / 2
    (least, most), second = labels.metric(comparison.metric).scale, comparison.second
    ends = (least - most, most - least) if isinstance(second, dict) else (least - second, most - second)
    drawn = draws([*at.values()], apart, ends)
    words = Counter(claims.decided(comparison, _as_measured(draw, reach, tests)) for draw in drawn)
    low, high = map(float, np.quantile(drawn, LEVELS))
    told = {"metric": next(iter(rows.values()))["metric"], "first": claims.named(comparison.first)}
    told |= {"second": claims.named(second), "expected": comparison.expect, "measured": at}
    told |= {"predicted": float(np.mean(drawn)), "low": low, "high": high}
    return told | {"chances": {word: words[word] / len(drawn) for word in VERDICTS}}


def _as_measured(draw: float, reach: float, tests: int) -> dict:
    """A row of `claims.measured` with this difference."""
    p = float(2 * norm.sf(abs(draw) / max(reach, 1e-9) * norm.ppf(LEVELS[1])))
    ends = {"low": draw - reach, "high": draw + reach}
    return {"difference": draw, **ends, "seeds": contrasts.SEEDS, "p": p, "p (Holm)": min(1.0, p * tests)}


def chances(compared: list[dict], controls: list[dict]) -> dict[str, float]:
    """Word -> chance of a claim, from the `chances` of its comparisons and controls."""
    hold = prod((control[REPRODUCED] for control in controls), start=1.0)
    strong = [prod(sum(one[word] for word in VERDICTS[: n + 1]) for one in compared) for n in range(len(VERDICTS))]
    words = {word: hold * float(share) for word, share in zip(VERDICTS, np.diff([0.0, *strong]), strict=True)}
    return {**words, FAILED: 1 - hold}


def predict(listed: list[claims.Claim], tables: dict[str, pd.DataFrame], apart: np.ndarray) -> list[dict]:
    """One entry per claim, see RULE. tables: scale -> the rows of `claims.measured` that say something (`held`)."""
    tests = max(len(table.drop_duplicates(CONTRAST)) for table in tables.values()) if tables else 0

    def of(claim: claims.Claim, role: str, number: int, comparison: claims.Comparison) -> dict | None:
        rows = {}
        for scale, table in tables.items():
            row = table[(table["id"] == claim.id) & (table["role"] == role) & (table["number"] == number)]
            rows |= {scale: row.iloc[0]} if len(row) else {}
        return foreseen(comparison, rows, apart, tests) if rows else None

    entries = []
    for claim in listed:
        roles = {"claim": claim.compare, "control": claim.needs}
        known = {role: [of(claim, role, n, one) for n, one in enumerate(some)] for role, some in roles.items()}
        compared, controls = ([one for one in some if one] for some in known.values())
        words = chances(*([one.pop("chances") for one in some] for some in (compared, controls))) if compared else {}
        entry = {"id": claim.id, "claim": claim.claim, "predicted": max(words, key=words.get, default=NO)}
        if words:
            entry |= {"sure": max(words.values()), "chances": {word: of for word, of in words.items() if of > 0}}
            entry |= {"tested": f"{len(compared)} of {len(claim.compare)} comparisons", "comparisons": compared}
        entries.append(entry)
    return entries


def measured(listed: list[claims.Claim], profile: Profile) -> pd.DataFrame:
    """`claims.measured` for all seeds at hand, with a column `number`: which of the claim's comparisons or controls."""
    table = claims.measured(listed, profile, transfer.seeds_of(profile))
    return table.assign(number=table.groupby(["id", "role"]).cumcount())


def rests_on(scale: str) -> dict:
    """How many records of a scale ship, and a digest over theirs; ValueError where others lie beside them."""
    if own := records.own(scale):
        fix = "predictions rest on shipped records alone; move it, or set BSA_RESULTS to a folder without it"
        raise ValueError(f"{own[0]}: one of {len(own)} records that do not ship; {fix}")
    digests = sorted(record["digest"] for record in records.shipped(scale).values())
    return {"records": len(digests), "digest": keys.digest("".join(digests), 64)}


def made(on: str) -> dict:
    """What the file holds, from the records that ship with the project. on: the date."""
    basis = {name: rests_on(name) for name in transfer.SCALES if name in profiles.available()}
    scales = {name: profiles.load(name) for name, of in basis.items() if of["records"]}
    found = {}
    for kind, listed in asked().items():
        found[kind] = {name: held(listed, measured(listed, scale)) for name, scale in scales.items()}
    at = provenance.provenance("cpu", "float32")
    told = {"date": on, "rule": " ".join(RULE.split()), "scales": basis}
    told["code"] = {name: at[name] for name in ("git_commit", "git_dirty")}
    for counting, change in {"content": lambda table: table, "keywords": by_keywords}.items():
        tables = {kind: {name: change(of) for name, of in at.items()} for kind, at in found.items()}
        apart = distances([pd.concat([tables[kind][name] for kind in tables]) for name in scales])
        told[counting] = {kind: predict(listed, tables[kind], apart) for kind, listed in asked().items()}
    return told


def _rounded(value):
    if isinstance(value, dict):
        return {name: _rounded(of) for name, of in value.items()}
    if isinstance(value, list):
        return [_rounded(of) for of in value]
    return round(value, 3) + 0.0 if isinstance(value, float) else value


def path() -> Path:
    return paths.BOOK / NAME


def load() -> dict:
    """What the file holds; ValueError where it is no YAML."""
    return contrasts.read(NAME)


def at(profile: Profile) -> dict[str, pd.DataFrame]:
    """What a scale measured: `measured` claims and questions."""
    return {kind: measured(listed, profile) for kind, listed in asked().items()}


def elsewhere(profile: str, others: Sequence[str] = ()) -> dict[str, dict[str, pd.DataFrame]]:
    """Scale -> `at`, for the scales that predictions are held against: the profile and the others, or all profiles.

    Those of the book and those without records are left out; so is one whose data are not here, named on stderr."""
    scales = map(profiles.load, dict.fromkeys([profile, *(others or profiles.available())]))
    scales = [scale for scale in scales if scale.name not in transfer.SCALES and records.load(scale.name)]
    return {scale.name: found for scale in scales if (found := records.usable(at, scale))}


def counting(found: dict[str, pd.DataFrame]) -> str:
    """What decides at a scale: "content", or "keywords" where its policy cannot tell what an answer gives away."""
    return "content" if any((table["metric"] == "asr_content").any() for table in found.values()) else "keywords"


def beside(told: dict, found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The predictions beside what a scale measured (`at`), one row per claim and question.

    Columns: kind, id, claim, predicted, sure, measured, hit ("yes", "no", or "" where either says nothing), score (of
    Brier: 0 for a sure hit, 2 for a sure miss).
    """
    rows = []
    for kind, listed in asked().items():
        entries = {entry["id"]: entry for entry in told[counting(found)][kind]}
        words = claims.verdicts(listed, {"": found[kind]})[""]
        for claim, word in zip(listed, words, strict=True):
            entry, bare = entries.get(claim.id, {"predicted": NO}), word.partition(" (")[0]
            row = {"kind": kind, "id": claim.id, "claim": claim.claim, "predicted": entry["predicted"]}
            row |= {"sure": entry.get("sure", np.nan), "measured": word, "hit": "", "score": np.nan}
            if bare != NOT_TESTED and entry["predicted"] != NO:
                row["hit"] = "yes" if bare == entry["predicted"] else "no"
                given = {word: entry["chances"].get(word, 0.0) for word in (*VERDICTS, FAILED)}
                row["score"] = sum((share - (word == bare)) ** 2 for word, share in given.items())
            rows.append(row)
    return pd.DataFrame(rows)


def comparisons(told: dict, counted: str) -> pd.DataFrame:
    """One row per predicted comparison: kind, id, metric, first, second, measured (by scale), predicted, low, high."""
    return pd.DataFrame(
        {"kind": kind, "id": entry["id"], **one}
        for kind, entries in told[counted].items()
        for entry in entries
        for one in entry.get("comparisons", ())
    )


def main(arguments: list[str] | None = None) -> None:
    """Exits with one clear message where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bsa_study.predictions", description=__doc__.partition("\n")[0])
    today = date.today().isoformat()
    parser.add_argument("--date", type=date.fromisoformat, default=today, help="of the predictions (default: today)")
    parser.add_argument("--anew", action="store_true", help="overwrite predictions that are there")
    given = parser.parse_args(arguments)
    try:
        if path().exists() and not given.anew:
            raise ValueError(f"{path()} is there: predictions are made once; add --anew to make them anew")
        text = yaml.safe_dump(_rounded(made(str(given.date))), sort_keys=False, default_flow_style=None, width=118)
        writing.write_whole(path(), f"# Written by `python -m bsa_study.predictions`; not by hand.\n{text}".encode())
    except (ValueError, writing.RecordError) as error:
        sys.exit(f"{error}")
    print(f"{path()}: written")


if __name__ == "__main__":
    main()
