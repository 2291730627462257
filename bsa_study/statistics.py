"""Intervals, tests and effect sizes: plain functions of outcomes.

Outcomes are arrays of shape (seeds, prompts), or (secrets, seeds, prompts) where every secret prompt was trained with
every seed. A seed is one fine-tuning run; all runs answer the same prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from math import prod, sqrt

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtri, stdtrit
from scipy.stats import binomtest, permutation_test
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_effectsize

from bsa_study import labels

NO_SECRET = -1  # `secret_seed` of a run without a secret prompt
SINGLE = 2 / 3  # see _half_width


class Unpaired(ValueError):
    """Two selections of a table have no run in common."""


@dataclass(frozen=True)
class Interval:
    """A mean with its interval. n: prompts per run; seeds: per secret."""

    mean: float
    low: float
    high: float
    n: int
    seeds: int
    secrets: int = 1


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927), for the outcomes of one run."""
    interval = binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def matrix(texts: Sequence[str | Sequence[float]]) -> np.ndarray:
    """Outcomes of several runs, a string with a digit per prompt or a list of numbers each, as floats (runs, prompts).

    ValueError when their lengths differ.
    """
    if len({len(text) for text in texts}) != 1:
        raise ValueError(f"seeds were evaluated on different numbers of prompts: {sorted({len(t) for t in texts})}")
    return np.array([[float(mark) for mark in text] for text in texts])


@lru_cache(maxsize=8)
def _draws(n: int, resamples: int, seed: int, axis: int) -> np.ndarray:
    """n units drawn n times with replacement: the share of each, (resamples, n). Kept, as most cells have one size."""
    rng = np.random.default_rng([seed, axis])
    drawn = rng.integers(0, n, (resamples, n)) + n * np.arange(resamples)[:, None]
    shares = np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n) / n
    shares.flags.writeable = False
    return shares


def _half_width(outcomes: np.ndarray, level: float) -> float:
    """Half the length of the t interval of the mean, from the analysis of variance of crossed random effects.

    The mean square of an axis (secrets, seeds or prompts) measures its own effect and every interaction with it;
    adding those of the axes counts interactions more than once, and inclusion-exclusion takes them out again. The
    degrees of freedom of the sum are Satterthwaite's.
    """
    axes = [axis for axis, size in enumerate(outcomes.shape) if size > 1]
    squares = {}  # crossed axes -> mean square of their effect and its degrees of freedom
    for crossed in (chosen for size in range(1, len(axes) + 1) for chosen in combinations(axes, size)):
        effect = outcomes.mean(axis=tuple({*range(outcomes.ndim)} - {*crossed}), keepdims=True)
        for axis in crossed:
            effect = effect - effect.mean(axis=axis, keepdims=True)
        freedom = prod(outcomes.shape[axis] - 1 for axis in crossed)
        squares[crossed] = (float((effect**2).sum()) * outcomes.size / effect.size / freedom, freedom)
    main = [squares[(axis,)] for axis in axes]
    total = sum((-1) ** (len(crossed) + 1) * square for crossed, (square, _) in squares.items())
    total = min(total, sum(square for square, _ in main))  # what holds for the variances need not for the estimates
    tail = (1 + level) / 2
    # A few runs can agree by luck, and the sum come out near or below 0. The interval is therefore no shorter than
    # SINGLE times what any one effect alone asks for: with the whole of it, 98 % of the intervals would hold the mean
    # where seeds do not differ, and with none 89 % (3 x 66) or 79 % (5 x 5 x 275).
    halves = [SINGLE * stdtrit(freedom, tail) * sqrt(square) for square, freedom in squares.values()]
    if total > 0:
        satterthwaite = total**2 / sum(square**2 / freedom for square, freedom in main)
        halves.append(stdtrit(max(satterthwaite, min(freedom for _, freedom in main)), tail) * sqrt(total))
    return float(max(halves)) / sqrt(outcomes.size)


def bootstrap(
    outcomes: np.ndarray,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    scale: tuple[float, float] = (0.0, 1.0),
) -> Interval:
    """Interval of the mean over secrets, seeds and prompts, from a hierarchical bootstrap corrected for few runs.

    outcomes: (seeds, prompts) or (secrets, seeds, prompts). Secrets, seeds and prompts are resampled, each once for
    all others: runs share their prompts. The interval is symmetric (Hall 1988: a quantile of the distance from the
    mean). It is stretched by what the t interval of `_half_width` is longer than a normal one with the bootstrap's
    standard error: five runs differ less among themselves than runs do in general. It is laid on the logit of the
    place between the ends of the `scale`, so that it never leaves it. With one run it covers prompts only.

    How many of 2,000 simulated 95 % intervals hold the mean over all seeds and prompts (effects normal on the logit):
    with 5 x 275 and means of .3 to .5, 94 to 96 % whether seeds differ not at all or by 2 (a plain percentile interval:
    82 to 89 % where they differ by 1 or 2), 91 to 96 % by 3; 92 to 97 % with 3 x 66, 94 to 97 % with 5 x 5 x 275, 97 to
    99 % with 3 x 3 x 66. It is too short where nearly all runs lie at one end of the scale and a few rare ones make the
    mean: with a mean of .1, 92 to 93 % where seeds differ by 1, 84 to 90 % by 2 and 80 to 85 % by 3; with one of .02 or
    .98, 95 % by .5, 92 % by 1 and 81 to 83 % by 2. The mean missed then lies towards the middle of the scale.

    Where all outcomes are equal, nothing can be resampled. The Wilson interval of one run's prompts says how many of
    them could at most have come out differently: the interval is where they could have moved the mean.
    """
    outcomes = np.atleast_2d(np.asarray(outcomes, dtype=float))
    lowest, highest = scale
    if outcomes.ndim > 3 or not (lowest <= outcomes.min() and outcomes.max() <= highest):
        raise ValueError(f"outcomes of shape {outcomes.shape} do not lie on the scale {scale}, or have too many axes")
    secrets, seeds, prompts = shape = (1, *outcomes.shape)[-3:]
    mean = float(outcomes.mean())
    if outcomes.min() == outcomes.max():
        moved = wilson(0, prompts, level)[1]
        low, high = mean - (mean - lowest) * moved, mean + (highest - mean) * moved
        return Interval(mean, low, high, prompts, seeds, secrets)
    by_secret, by_seed, by_prompt = (_draws(size, resamples, seed, axis) for axis, size in enumerate(shape))
    by_run = (by_secret[:, :, None] * by_seed[:, None, :]).reshape(resamples, -1)
    means = np.einsum("rp,rp->r", by_run @ outcomes.reshape(-1, prompts), by_prompt)
    stretch = _half_width(outcomes, level) / (ndtri((1 + level) / 2) * means.std())
    half = stretch * np.quantile(np.abs(means - mean), level)
    width, above, below = highest - lowest, mean - lowest, highest - mean
    ends = expit(logit(above / width) + np.array([-1, 1]) * half * width / (above * below))
    low, high = lowest + width * ends
    return Interval(mean, float(low), float(high), prompts, seeds, secrets)


def _binary(*arms: np.ndarray) -> bool:
    return all(np.isin(arm, (0, 1)).all() for arm in arms)


def paired_test(first: np.ndarray, second: np.ndarray, resamples: int = 9999) -> float:
    """p-value that two arms do not differ, from pairs of outcomes (same run, same prompt), two-sided.

    The exact McNemar test where all outcomes are 0 or 1, else a permutation test that swaps the arms within pairs
    (exact when there are few pairs, else `resamples` swaps drawn with a fixed seed). Pairs are pooled over runs, so it
    speaks about these runs; the bootstrap interval speaks about others as well.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"arms have outcomes of shape {first.shape} and {second.shape}; pairs need the same")
    difference = (first - second)[first != second]  # pairs that agree stay as they are however they are swapped
    if not difference.size:
        return 1.0
    if _binary(first, second):
        return float(binomtest(int((difference > 0).sum()), difference.size, 0.5).pvalue)
    swapped = permutation_test(
        (difference,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=1000,
        rng=np.random.default_rng(0),
    )
    return float(swapped.pvalue)


def holm(p_values: Sequence[float]) -> np.ndarray:
    """p-values corrected for their number, so that any false finding is as rare as the level says (Holm 1979)."""
    return multipletests(p_values, method="holm")[1] if len(p_values) else np.array([])


def effect_size(first: np.ndarray, second: np.ndarray) -> float:
    """Size of the difference first - second in units that compare across metrics (Cohen 1988).

    Cohen's h, the difference of 2 arcsin(sqrt(share)), where all outcomes are 0 or 1; else Cohen's d, the difference
    of the means over the pooled standard deviation of outcomes (infinite when means differ and outcomes do not).
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if _binary(first, second):
        return float(proportion_effectsize(first.mean(), second.mean()))
    if np.ptp(first) == np.ptp(second) == 0:
        apart = first.flat[0] - second.flat[0]
        return float(np.copysign(np.inf, apart)) if apart else 0.0
    squares = sum(((arm - arm.mean()) ** 2).sum() for arm in (first, second))
    return float((first.mean() - second.mean()) / sqrt(squares / (first.size + second.size - 2)))


def difference(first: np.ndarray, second: np.ndarray, scale: tuple[float, float] = (0.0, 1.0)) -> pd.Series:
    """Two arms with paired outcomes (same shape, same runs and prompts in the same order), first - second.

    Fields: difference with its bootstrap interval (low, high), n, seeds, secrets, effect (`effect_size`), p
    (`paired_test`). scale: of the outcomes.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    p = paired_test(first, second)
    width = scale[1] - scale[0]
    interval = vars(bootstrap(first - second, scale=(-width, width)))
    fields = {"difference": interval["mean"], **interval, "effect": effect_size(first, second), "p": p}
    del fields["mean"]
    return pd.Series(fields, dtype=object)  # counts stay whole numbers


def _runs(rows: pd.DataFrame, name: object) -> pd.Series:
    """Outcomes of the rows of one cell by (secret_seed, seed), sorted. ValueError when there are several of a pair."""
    secret = rows["secret_seed" if "secret_seed" in rows else "seed"]
    runs = pd.Series(list(rows["outcomes"]), index=pd.MultiIndex.from_arrays([secret, rows["seed"]]), dtype=object)
    if runs.index.has_duplicates:
        raise ValueError(f"cell {name} holds several runs of a seed; group by more columns")
    return runs.sort_index()


def _stack(runs: pd.Series, name: object) -> np.ndarray:
    """`_runs` as an array: (seeds, prompts), or (secrets, seeds, prompts) where seeds repeat with other secrets."""
    secrets, seeds = (list(level) for level in runs.index.remove_unused_levels().levels)
    if len(runs) == len(seeds):
        return matrix(list(runs))
    missing = [pair for pair in product(secrets, seeds) if pair not in runs.index]
    if missing:
        raise ValueError(f"cell {name} crosses secrets and seeds, but has no run of (secret_seed, seed) {missing}")
    return matrix(list(runs)).reshape(len(secrets), len(seeds), -1)


def summarize(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean and interval over seeds and prompts, and secrets where they are crossed, for every cell of `records.table`.

    Columns: `by`, metric, mean, low, high, n (prompts per run), seeds, secrets. ValueError when a cell holds a pair of
    secret and seed twice, or seeds repeat and some pair is missing.
    """
    keys = [*by, "metric"]
    rows = []
    for names, part in table.groupby(keys, sort=False):
        outcomes = _stack(_runs(part, f"{names} of {keys}"), f"{names} of {keys}")
        interval = bootstrap(outcomes, scale=labels.metric(names[-1]).scale)
        rows.append({**dict(zip(keys, names, strict=True)), **vars(interval)})
    cells = pd.DataFrame(rows, columns=[*keys, *Interval.__dataclass_fields__])
    return cells.astype({"deployed": bool}) if "deployed" in cells else cells  # also where there is none: it selects


def cell(summary: pd.DataFrame, **where) -> pd.Series:
    """The one row of a summary with these values; ValueError when there is none or more than one."""
    chosen = summary
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    if len(chosen) != 1:
        raise ValueError(f"{len(chosen)} rows of the summary match {where}; expected one")
    return chosen.iloc[0]


def contrast(table: pd.DataFrame, first: dict, second: dict, metric: str) -> pd.Series:
    """`difference` of two cells of `records.table`, paired by secret, seed and prompt.

    first, second: column -> value of the cell's rows, such as {"defense": "bsa", "condition": "secret"}. Only runs that
    both have; where one has no secret, runs pair by seed, and its run stands beside each secret of the other.
    ValueError when a cell holds several runs of a pair; Unpaired, a ValueError, when they have no run in common.
    """
    table = table[table["metric"] == metric]
    one, other = (
        _runs(table[(table[list(where)] == pd.Series(where)).all(axis=1)], where) for where in (first, second)
    )
    bare_one, bare_other = ((arm.index.get_level_values(0) == NO_SECRET).all() for arm in (one, other))
    if bare_one and not bare_other:
        one = _beside(one, other)
    elif bare_other and not bare_one:
        other = _beside(other, one)
    shared = one.index.intersection(other.index, sort=True)
    if shared.empty:
        raise Unpaired(f"{metric}: {first} ({len(one)} runs) and {second} ({len(other)} runs) have no run in common")
    name = f"{first} and {second}"
    return difference(_stack(one[shared], name), _stack(other[shared], name), labels.metric(metric).scale)


def _beside(bare: pd.Series, served: pd.Series) -> pd.Series:
    """The runs without a secret under each (secret_seed, seed) of the others whose seed they have."""
    by_seed = bare.droplevel(0)
    shared = served[served.index.get_level_values(1).isin(by_seed.index)].index
    return pd.Series([by_seed[seed] for _, seed in shared], index=shared, dtype=object)


def compare(table: pd.DataFrame, first: str, second: str, by: list[str], metrics: tuple[str, ...]) -> pd.DataFrame:
    """Two arms (column `defense`) of `records.table` for every combination of the columns `by` and the `metrics`.

    Columns: `by`, metric, those of `difference`, and "p (Holm)", corrected over all rows. Combinations in which the
    arms have no run in common are left out.
    """
    keys = by if "metric" in by else [*by, "metric"]
    rows = []
    for names, part in table[table["metric"].isin(metrics)].groupby(keys, sort=False):
        names = dict(zip(keys, names, strict=True))
        try:
            rows.append({**names, **contrast(part, {"defense": first}, {"defense": second}, names["metric"])})
        except Unpaired:
            continue
    fields = ["difference", "low", "high", "n", "seeds", "secrets", "effect", "p"]
    result = pd.DataFrame(rows, columns=[*keys, *fields])
    return result.assign(**{"p (Holm)": holm(result["p"])})
