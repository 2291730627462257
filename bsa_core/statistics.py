"""Intervals and tests: plain functions of outcomes, arrays of shape (seeds, prompts)."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest


@dataclass(frozen=True)
class Interval:
    """A mean with its interval. n: prompts per seed."""

    mean: float
    low: float
    high: float
    n: int
    seeds: int


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927), for the outcomes of one run."""
    interval = binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def matrix(texts: list[str]) -> np.ndarray:
    """Outcome strings of several seeds as an array (seeds, prompts). ValueError when their lengths differ."""
    if len({len(text) for text in texts}) != 1:
        raise ValueError(f"seeds were evaluated on different numbers of prompts: {sorted({len(t) for t in texts})}")
    return np.array([[int(mark) for mark in text] for text in texts])


SCALES = {"harmfulness": (1.0, 5.0)}  # lowest and highest outcome; 0 and 1 for every other metric


def bootstrap(
    outcomes: np.ndarray,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    scale: tuple[float, float] = (0.0, 1.0),
) -> Interval:
    """Percentile interval of the mean from a hierarchical bootstrap: seeds are resampled, then prompts.

    outcomes: (seeds, prompts). All arms answer the same prompts, so one resampled set of prompts serves all
    resampled seeds. With one seed the interval covers prompts only. Where every outcome is the lowest or every
    one the highest of the `scale`, nothing can be resampled: the Wilson interval of one run's prompts is given.
    """
    outcomes = np.atleast_2d(outcomes)
    seeds, prompts = outcomes.shape
    mean = float(outcomes.mean())
    if outcomes.min() == outcomes.max() and mean in scale:
        low, high = wilson(prompts if mean == scale[1] else 0, prompts, level)
        width = scale[1] - scale[0]
        return Interval(mean, scale[0] + width * low, scale[0] + width * high, prompts, seeds)
    rng = np.random.default_rng(seed)
    # The mean over resampled seeds and prompts is a product of counts: no resampled array is ever built.
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    by_prompt = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples) / prompts
    means = np.einsum("rs,sp,rp->r", by_seed, outcomes, by_prompt, optimize=True)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high), prompts, seeds)


def paired_test(first: np.ndarray, second: np.ndarray) -> float:
    """p-value that two arms do not differ, from pairs of 0/1 outcomes (same seed, same prompt): exact McNemar test.

    Pairs are pooled over seeds, so it speaks about these seeds; the bootstrap interval speaks about others as well.
    """
    if first.shape != second.shape:
        raise ValueError(f"arms have outcomes of shape {first.shape} and {second.shape}; pairs need the same")
    gained, lost = int(((first == 0) & (second == 1)).sum()), int(((first == 1) & (second == 0)).sum())
    return 1.0 if gained + lost == 0 else float(binomtest(gained, gained + lost, 0.5).pvalue)


def summarize(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean and interval over seeds and prompts for every cell of `records.table`.

    Columns: `by`, metric, mean, low, high, n (prompts per seed), seeds. ValueError when a cell holds a seed twice.
    """
    rows = []
    for names, cell in table.groupby([*by, "metric"], sort=False):
        if cell["seed"].duplicated().any():
            raise ValueError(f"cell {names} of {[*by, 'metric']} holds several runs of a seed; group by more columns")
        rows.append(
            {
                **dict(zip([*by, "metric"], names, strict=True)),
                **vars(bootstrap(matrix(list(cell["outcomes"])), scale=SCALES.get(names[-1], (0.0, 1.0)))),
            }
        )
    return pd.DataFrame(rows)


def cell(summary: pd.DataFrame, **where) -> pd.Series:
    """The one row of a summary with these values; ValueError when there is none or more than one."""
    chosen = summary
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    if len(chosen) != 1:
        raise ValueError(f"{len(chosen)} rows of the summary match {where}; expected one")
    return chosen.iloc[0]


def compare(table: pd.DataFrame, first: str, second: str, by: list[str], metrics: tuple[str, ...]) -> pd.DataFrame:
    """Two arms of `records.table`, paired by seed and prompt, for every combination of the columns `by`.

    Columns: `by`, the mean difference first - second with its bootstrap interval (low, high), McNemar's p, seeds, n.
    Only the 0/1 metrics named in `metrics`; only seeds that both arms have.
    """
    rows = []
    for names, part in table[table["metric"].isin(metrics)].groupby(by, sort=False):
        texts = part.pivot_table(index="seed", columns="defense", values="outcomes", aggfunc="first")
        if not {first, second} <= set(texts):
            continue
        texts = texts[[first, second]].dropna()
        one, other = matrix(list(texts[first])), matrix(list(texts[second]))
        difference = bootstrap(one - other, scale=(-1.0, 1.0))
        p = paired_test(one, other)
        rows.append({**dict(zip(by, names, strict=True)), **vars(difference), "McNemar p": p})
    return pd.DataFrame(rows).rename(columns={"mean": "difference"})
