"""Does what one scale shows transfer to another? Rank correlations of the arms between two scales.

A cell is what both scales measured under one name: section, variant, arm and condition, as deployed, and in the section
about it also otherwise. The same runs stand in several sections and count once. The mean of a cell over its seeds is
ranked among the other cells of the scale, and the ranks of two scales are correlated (Spearman 1904).

Two intervals, both from a bootstrap on Fisher's scale. "Over seeds": would other seeds give the same, for these arms?
Seeds are weighted anew (Rubin 1981), a seed once for all arms, as those share what is drawn by it. "Over seeds and
arms" draws the arms anew as well. Beside them stands how often a random order of the arms would be correlated as well.
None of them says anything about a third scale: two scales are one pair.
"""

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from bsa_core import records
from bsa_core.profiles import Profile
from bsa_study import claims
from bsa_study.grids import ablations

SCALES = ("tiny", "smollm2-135m")  # which the book compares, and which it predicts others from
METRICS = ("asr_content", "over_refusal", "benign_exact")
CELL = ["section", "variant", "defense", "condition", "metric"]
BOTH = "secret_at_test"  # the section that is about both conditions
FEWEST, ENOUGH = 4, 8  # arms: for a correlation, and for drawing them anew (in four, no order is rare enough)
RESAMPLES = 2000


def seeds_of(profile: Profile) -> list[int]:
    """The seeds of all records of a scale, computed here or shipped."""
    return sorted({record["run"]["seed"] for record in records.load(profile.name)})


def cells(profile: Profile) -> pd.DataFrame:
    """Every cell that was measured (index: CELL), by seed. Columns: the seeds, and "first", the key of the cell's run
    with the lowest one, by which the same runs in two sections are known."""
    parts, seeds = [], seeds_of(profile)
    for name in ("headline", "mixed", *ablations.SECTIONS) if seeds else ():
        table = claims.source(name, profile, seeds)
        if table.empty:
            continue
        table = table[table["metric"].isin(METRICS) & (table["deployed"] | (name == BOTH))]
        variant = table["task"] if name == "mixed" else table.get("variant", pd.Series("", table.index))
        variant = variant if variant.nunique() > 1 or name == "mixed" else ""  # a pressure, named as the profile does
        parts.append(table.assign(section=name, variant=variant))
    if not parts:
        return pd.DataFrame(columns=["first"], index=pd.MultiIndex.from_tuples([], names=CELL))
    rows = pd.concat(parts).sort_values(["seed", "secret_seed"]).astype({"variant": str})
    by_cell = rows.groupby([*CELL, "seed"], sort=False)["value"].mean().unstack("seed")
    return by_cell.assign(first=rows.groupby(CELL, sort=False)["key"].first())


def matched(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Those of the `cells` that both have, each once, in one order."""
    shared = first.index.intersection(second.index)
    keys = pd.DataFrame({"first": first["first"][shared], "second": second["first"][shared]}).reset_index()
    shared = shared[~keys.duplicated(["first", "second", "condition", "metric"])]
    return first.loc[shared], second.loc[shared]


def means(of: pd.DataFrame) -> pd.Series:
    """The mean of every cell over its seeds."""
    return of.drop(columns="first").mean(axis=1)


def correlated(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation of the rows of two arrays (n, arms); missing where all arms of a row are equal."""
    ranks = [rankdata(of.round(12), axis=1) for of in (first, second)]
    one, other = (of - of.mean(axis=1, keepdims=True) for of in ranks)
    size = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return np.divide((one * other).sum(axis=1), size, out=np.full(len(size), np.nan), where=size > 0)


def _reweighted(of: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Means under other weights of the seeds: (RESAMPLES, arms). Arms may lack seeds that others have.

    Stretched, as n seeds differ less among themselves than seeds do: without it the variance would be (n - 1) / (n + 1)
    of a mean's.
    """
    values = of.drop(columns="first").to_numpy(dtype=float)
    known, exact = ~np.isnan(values), means(of).to_numpy()
    weights, n = rng.exponential(size=(RESAMPLES, values.shape[1])), known.sum(axis=1)
    drawn = weights @ np.nan_to_num(values).T / (weights @ known.T)
    return exact + (drawn - exact) * np.sqrt((n + 1) / np.maximum(n - 1, 1))


def _interval(exact: float, resampled: np.ndarray) -> tuple[float, float]:
    """Symmetric around the correlation on Fisher's scale: noise in the ranks lowers those of resamples.

    Of 150 simulated intervals over seeds (18 or 30 arms, 10 and 3 seeds or 20 and 5) 89 % hold the correlation that any
    number of seeds would give where these differ by 0.1, and 75 % where three seeds differ by 0.25: noise lowers it.
    """
    middle, others = (np.arctanh(np.clip(of, -0.9999, 0.9999)) for of in (exact, resampled[~np.isnan(resampled)]))
    reach = np.quantile(np.abs(others - middle), 0.95)
    return min(exact, float(np.tanh(middle - reach))), max(exact, float(np.tanh(middle + reach)))


def correlation(first: pd.DataFrame, second: pd.DataFrame) -> dict:
    """Of the cells of one metric: arms (how many), mean (the correlation), low and high over seeds, arms_low and
    arms_high over seeds and arms, chance (the share of random orders). Missing where there are too few arms, or all of
    them are equal."""
    told = {"arms": len(first)} | dict.fromkeys(("mean", "low", "high", "arms_low", "arms_high", "chance"), np.nan)
    if len(first) < FEWEST:
        return told
    rng, exact = np.random.default_rng(0), [means(of).to_numpy()[None] for of in (first, second)]
    (mean,) = correlated(*exact)
    if np.isnan(mean):
        return told
    drawn = [_reweighted(of, rng) for of in (first, second)]
    told["mean"], (told["low"], told["high"]) = float(mean), _interval(mean, correlated(*drawn))
    orders = rng.permuted(np.repeat(exact[1], RESAMPLES, axis=0), axis=1)
    told["chance"] = (1 + int((correlated(exact[0], orders) >= mean - 1e-9).sum())) / (1 + RESAMPLES)
    if len(first) >= ENOUGH:
        arms = rng.integers(0, len(first), (RESAMPLES, len(first)))
        anew = [np.take_along_axis(of, arms, axis=1) for of in drawn]
        told["arms_low"], told["arms_high"] = _interval(mean, correlated(*anew))
    return told


def correlations(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """`correlation` of two scales' `matched` cells, by metric and by where the arms stand: all, or one of its parts."""
    sections = first.index.get_level_values("section")
    parts = {
        "all": np.ones(len(first), dtype=bool),
        "main arms": sections == "headline",
        "ablations": ~sections.isin(["headline", "mixed"]),
        "mixed setting": sections == "mixed",
    }
    rows = []
    for metric in METRICS:
        of = first.index.get_level_values("metric") == metric
        for part, chosen in parts.items():
            rows.append({"metric": metric, "part": part, **correlation(first[of & chosen], second[of & chosen])})
    return pd.DataFrame(rows)
