"""What runs tell of the mean over all runs where most lie at one end of the scale: generalized confidence intervals.

Five runs with shares of .00 to .03 say little about a mean of .10: if runs differ widely, most lie near zero and a few
rare ones make the mean. A t test takes the spread of those five for that of all. Here runs are normal on the probit of
their share, where such a spread is as wide as it looks. Mean and spread there are drawn from what the runs allow
(Weerahandi 1993); a draw of both gives one of the mean share, because a normal's probit has a closed mean:
E[Phi(m + s Z)] = Phi(m / sqrt(1 + s^2)).
"""

from functools import lru_cache
from math import ceil, sqrt

import numpy as np
from scipy.special import ndtr, ndtri

DRAWS = 20_000
PART = 0.25  # of a request is added to both outcomes, so that a share of 0 has a probit


@lru_cache(maxsize=8)
def _pivots(runs: int, arm: int) -> tuple[np.ndarray, np.ndarray]:
    """For each draw: the ratio of the true to the observed spread, and the distance of their means in true ones."""
    rng = np.random.default_rng([runs, arm])
    return np.sqrt((runs - 1) / rng.chisquare(runs - 1, DRAWS)), rng.standard_normal(DRAWS) / sqrt(runs)


def _means(shares: np.ndarray, n: int, arm: int) -> np.ndarray:
    """Draws of the mean share over all runs, from the shares of some (at least two) that were asked n requests each."""
    probits = ndtri((shares * n + PART) / (n + 2 * PART))
    ratio, distance = _pivots(len(shares), arm)
    spread = probits.std(ddof=1) * ratio
    return ndtr((probits.mean() - distance * spread) / np.sqrt(1 + spread**2))


def differences(first: np.ndarray, second: np.ndarray | float, n: int) -> np.ndarray:
    """Draws of the difference of two mean shares, first - second, or of one and a number.

    first, second: the share of each run. The arms are drawn apart: what their runs have in common is not used.
    """
    other = second if isinstance(second, float) else _means(second, n, 1)
    return _means(first, n, 0) - other


def interval(drawn: np.ndarray, level: float) -> tuple[float, float]:
    """The ends of the middle part of the draws: those beyond either are fewer than half of 1 - level."""
    beyond = max(ceil((1 - level) / 2 * len(drawn) - 1e-9) - 1, 0)
    ends = [beyond, len(drawn) - 1 - beyond]
    low, high = np.partition(drawn, ends)[ends]  # a fraction of the time that sorting takes
    return float(low), float(high)


def p_value(drawn: np.ndarray, positive: bool) -> float:
    """Two-sided p that the difference is zero, when it was found to be positive or negative."""
    against = drawn <= 0 if positive else drawn >= 0
    return min(1.0, 2 * float(against.mean()))
