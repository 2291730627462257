"""Intervals and tests: plain functions of outcomes.

Outcomes are arrays of shape (seeds, prompts), or (secrets, seeds, prompts) where every secret prompt was trained with
every seed. A seed is one fine-tuning run; all runs answer the same prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations, product
from math import prod, sqrt

import numpy as np
import pandas as pd
from scipy.special import expit, logit, ndtri, stdtr, stdtrit
from scipy.stats import binomtest

from bsa_study import fiducial, labels

NO_SECRET = -1  # `secret_seed` of a run without a secret prompt
Scale = tuple[float, float]  # the lowest and the highest outcome of one request
SINGLE = 2 / 3  # see _errors
RESAMPLES = 2000  # of a bootstrap


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


@cache
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

    def values(text: str | Sequence[float]) -> np.ndarray | list[float]:
        if isinstance(text, str) and text.isascii() and text.isdigit():
            return np.frombuffer(text.encode(), np.uint8) - ord("0")
        return [*map(float, text)]

    return np.array([values(text) for text in texts], dtype=float)


@lru_cache(maxsize=8)
def _draws(n: int, axis: int) -> np.ndarray:
    """n units drawn n times with replacement: the share of each, (RESAMPLES, n). Kept, as most cells have one size."""
    drawn = np.random.default_rng([0, axis]).integers(0, n, (RESAMPLES, n)) + n * np.arange(RESAMPLES)[:, None]
    shares = np.bincount(drawn.ravel(), minlength=RESAMPLES * n).reshape(RESAMPLES, n) / n
    shares.flags.writeable = False
    return shares


def _errors(outcomes: np.ndarray) -> list[tuple[float, float]]:
    """Degrees of freedom and standard error of the mean, from the analysis of variance of crossed random effects.

    Several pairs: the interval is the longest that any of them gives, and the p-value the largest. The mean square of
    an axis (secrets, seeds or prompts) measures its own effect and every interaction with it; adding those of the axes
    counts interactions more than once, and inclusion-exclusion takes them out again. The degrees of freedom of the sum
    are Satterthwaite's.
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
    # A few runs can agree by luck, and the sum come out near or below 0. The interval is therefore no shorter than
    # SINGLE times what any one effect alone asks for: with the whole of it, 98 % of the intervals would hold the mean
    # where seeds do not differ, and with none 89 % (3 x 66) or 79 % (5 x 5 x 275).
    errors = [(freedom, SINGLE * sqrt(square / outcomes.size)) for square, freedom in squares.values() if square > 0]
    if total > 0:
        satterthwaite = total**2 / sum(square**2 / freedom for square, freedom in main)
        errors.append((max(satterthwaite, min(freedom for _, freedom in main)), sqrt(total / outcomes.size)))
    return errors


def _half_width(outcomes: np.ndarray, level: float) -> float:
    """Half the length of the t interval of the mean."""
    return float(max(stdtrit(freedom, (1 + level) / 2) * error for freedom, error in _errors(outcomes)))


def _on_scale(outcomes: np.ndarray, scale: Scale) -> np.ndarray:
    """The outcomes as floats (secrets, seeds, prompts); ValueError when they leave the scale."""
    outcomes = np.atleast_2d(np.asarray(outcomes, dtype=float))
    if outcomes.ndim > 3 or not (scale[0] <= outcomes.min() and outcomes.max() <= scale[1]):
        raise ValueError(f"outcomes of shape {outcomes.shape} do not lie on the scale {scale}, or have too many axes")
    return outcomes.reshape((1, *outcomes.shape)[-3:])


def _interval(outcomes: np.ndarray, low: float, high: float) -> Interval:
    return Interval(float(outcomes.mean()), float(low), float(high), *reversed(outcomes.shape))


def _of_equal(outcomes: np.ndarray, scale: Scale, moved: float) -> Interval:
    """Where all outcomes are equal, nothing tells how far the mean may move. A bound on the share of requests that
    could have come out differently does: the interval is where those could have moved it."""
    mean = float(outcomes.mean())
    return _interval(outcomes, mean - (mean - scale[0]) * moved, mean + (scale[1] - mean) * moved)


def bootstrap(outcomes: np.ndarray, level: float = 0.95, scale: Scale = (0.0, 1.0)) -> Interval:
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
    """
    outcomes = _on_scale(outcomes, scale)
    if outcomes.min() == outcomes.max():
        return _of_equal(outcomes, scale, wilson(0, outcomes.shape[-1], level)[1])
    by_secret, by_seed, by_prompt = (_draws(size, axis) for axis, size in enumerate(outcomes.shape))
    by_run = (by_secret[:, :, None] * by_seed[:, None, :]).reshape(RESAMPLES, -1)
    means = np.einsum("rn,rn->r", by_prompt @ outcomes.reshape(-1, outcomes.shape[-1]).T, by_run)
    stretch = _half_width(outcomes, level) / (ndtri((1 + level) / 2) * means.std())
    half = stretch * np.quantile(np.abs(means - outcomes.mean()), level)
    width, above, below = scale[1] - scale[0], outcomes.mean() - scale[0], scale[1] - outcomes.mean()
    ends = expit(logit(above / width) + np.array([-1, 1]) * half * width / (above * below))
    return _interval(outcomes, *(scale[0] + width * ends))


def t_test(
    outcomes: np.ndarray, null: float = 0.0, scale: Scale = (0.0, 1.0), level: float = 0.95
) -> tuple[Interval, float]:
    """t interval of the mean over secrets, seeds and prompts, and the p-value that the mean is `null`, two-sided.

    outcomes: as for `bootstrap`, of one arm or differences of two. The p-value is 1 minus the largest level at which
    the interval excludes `null`. With one run both are about prompts only. ValueError when `null` is not within the
    scale.

    Where all outcomes are equal, the bound is the exact one: the largest share of requests that come out differently
    of which none in n is seen with a chance of 1 - level (3 / n, Hanley and Lippman-Hand 1983). n is one run's
    requests, although all runs agree: they were asked the same. Two arms of 66 requests that always agree have
    +-.044. (A two-sided bound such as Wilson's would give .055: there is no other side.)
    """
    outcomes = _on_scale(outcomes, scale)
    if not scale[0] < null < scale[1]:
        raise ValueError(f"a mean cannot be tested against {null:g}; expected a value within {scale}")
    mean, n = float(outcomes.mean()), outcomes.shape[-1]
    if outcomes.min() == outcomes.max():
        interval = _of_equal(outcomes, scale, 1 - (1 - level) ** (1 / n))
        end = scale[0] if mean > null else scale[1]
        return interval, ((null - end) / (mean - end)) ** n if mean != null else 1.0
    p = max(2 * stdtr(freedom, -abs(mean - null) / error) for freedom, error in _errors(outcomes))
    half = _half_width(outcomes, level)
    return _interval(outcomes, max(mean - half, scale[0]), min(mean + half, scale[1])), float(p)


def difference(
    first: np.ndarray, second: np.ndarray | float, scale: Scale = (0.0, 1.0), level: float = 0.95
) -> pd.Series:
    """Two arms with paired outcomes (same shape, same runs and prompts in the same order), first - second.

    Fields: difference with its interval (low, high), n, seeds, secrets, p. scale: of the outcomes. A number in place of
    the second arm is what the mean of the first is held against.

    Two ways must agree: the interval reaches as far as either of two, and p is the larger one. `t_test` of the paired
    outcomes counts requests and what arms have in common. `fiducial` looks at the runs on the probit, along seeds and
    along secrets: it knows how little a few runs near one end of the scale say about others. The interval excludes zero
    exactly when p < 1 - level. What both call is in book/background.md, and benchmarks/verdicts.py measures it.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if second.ndim and first.shape != second.shape:
        raise ValueError(f"arms have outcomes of shape {first.shape} and {second.shape}; pairs need the same")
    width, against = scale[1] - scale[0], 0.0 if second.ndim else float(second)
    if second.ndim:
        interval, p = t_test(first - second, 0.0, (-width, width), level)
    else:
        interval, p = t_test(first, against, scale, level)
    mean, low, high = (value - against for value in (interval.mean, interval.low, interval.high))
    arms = [(_on_scale(arm, scale) - scale[0]) / width for arm in ([first, second] if second.ndim else [first])]
    for axis, size in enumerate((interval.secrets, interval.seeds)):
        if size > 1 and interval.n > 1:  # a cost is one number per run, far from the ends of its scale
            shares = [arm.mean(axis=(1 - axis, 2)) for arm in arms]
            other = shares[1] if second.ndim else (against - scale[0]) / width
            drawn = width * fiducial.differences(shares[0], other, interval.n)
            p = max(p, fiducial.p_value(drawn, mean > 0))
            least, most = fiducial.interval(drawn, level)
            low, high = min(low, least), max(high, most)
    counts = {"n": interval.n, "seeds": interval.seeds, "secrets": interval.secrets}
    return pd.Series({"difference": mean, "low": low, "high": high, **counts, "p": p}, dtype=object)


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
    table = table if len(table) else pd.DataFrame(columns=keys)
    rows = []
    for names, part in table.groupby(keys, sort=False):
        outcomes = _stack(_runs(part, f"{names} of {keys}"), f"{names} of {keys}")
        interval = bootstrap(outcomes, scale=labels.metric(names[-1]).scale)
        rows.append({**dict(zip(keys, names, strict=True)), **vars(interval)})
    cells = pd.DataFrame(rows, columns=[*keys, *Interval.__dataclass_fields__])
    return cells.astype({"deployed": bool}) if "deployed" in cells else cells  # also where there is none: it selects


def contrast(table: pd.DataFrame, first: dict, second: dict | float, metric: str) -> pd.Series:
    """`difference` of two cells of `records.table`, paired by secret, seed and prompt, or of one and a number.

    first, second: column -> value of the cell's rows, such as {"defense": "bsa", "condition": "secret"}. Only runs that
    both have; where one has no secret, runs pair by seed, and its run stands beside each secret of the other.
    ValueError when a cell holds several runs of a pair; Unpaired, a ValueError, when they have no run in common.
    """
    table, scale = table[table["metric"] == metric], labels.metric(metric).scale
    cells = [where for where in (first, second) if isinstance(where, dict)]
    arms = [_runs(table[(table[list(where)] == pd.Series(where)).all(axis=1)], where) for where in cells]
    bare = [(arm.index.get_level_values(0) == NO_SECRET).all() for arm in arms]
    if len(arms) == 2 and bare[0] != bare[1]:
        place, other = bare.index(True), arms[bare.index(False)].index
        arms[place] = arms[place].droplevel(0).reindex(other.get_level_values(1)).set_axis(other).dropna()
    shared = arms[0].index.intersection(arms[-1].index, sort=True)
    if shared.empty:
        found = " and ".join(f"{where} ({len(arm)} runs)" for where, arm in zip(cells, arms, strict=True))
        raise Unpaired(f"{metric}: {found} have no run in common")
    outcomes = [_stack(arm[shared], " and ".join(map(str, cells))) for arm in arms]
    return difference(outcomes[0], outcomes[1] if len(arms) == 2 else second, scale)
