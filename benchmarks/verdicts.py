"""How often the rule of the chapters calls a difference: where there is none, and where there is one.

    python benchmarks/verdicts.py [comparisons per row, 1500]

Both arms answer the same requests, which differ by a normal effect of 1 on the logit. Runs (seeds) of an arm differ by
a normal effect of the given spread. Means are over all requests and runs, so that arms whose spreads differ can have
equal means. p is that of `bsa_study.statistics.difference`; a chapter of m independent questions is wrong where one of
its p is below .05 / m, the first step of Holm's correction. "t alone" is the paired t test without the look at runs.
Needs no GPU; ten minutes on one core.
"""

import sys
from collections.abc import Iterable

import numpy as np
from scipy.special import expit

from bsa_study import statistics

SIZES = ((5, 275), (3, 66))
SPREADS = tuple((0, spread) for spread in (0, 0.5, 1, 2)) + tuple((spread, spread) for spread in (0.5, 1, 2))
NULLS = tuple(((mean, mean), spreads) for mean in (0.1, 0.5, 0.9) for spreads in SPREADS)
EFFECTS = (
    ((0.95, 0.05), (2, 2)),
    ((0.95, 0.05), (1, 1)),
    ((0.9, 0.1), (0, 2)),
    ((0.9, 0.5), (1, 1)),
    ((0.6, 0.4), (0, 0)),
    ((0.1, 0.02), (0, 0)),
)
CHAPTERS = (1, 6, 12, 32)  # questions


def center(mean: float, spread: float) -> float:
    """Where on the logit a normal of this spread has to lie for its mean share."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    centers = np.linspace(-15, 15, 3001)
    return float(np.interp(mean, expit(centers[:, None] + spread * nodes) @ weights / weights.sum(), centers))


def pairs(
    rng: np.random.Generator,
    count: int,
    shape: tuple[int, int],
    means: tuple[float, float],
    spreads: tuple[float, float],
) -> Iterable[list]:
    """`count` times the outcomes of two arms, each of shape (seeds, prompts)."""
    seeds, prompts = shape
    centers = [center(mean, np.hypot(spread, 1)) for mean, spread in zip(means, spreads, strict=True)]
    for _ in range(count):
        request = rng.normal(size=(1, prompts))
        effects = (c + s * rng.normal(size=(seeds, 1)) for c, s in zip(centers, spreads, strict=True))
        yield [(rng.random(shape) < expit(request + effect)).astype(float) for effect in effects]


def p_values(arms: Iterable[list]) -> np.ndarray:
    """Of each pair of arms (rows): p of the rule and of the t test alone."""
    found = [
        (statistics.difference(*pair)["p"], statistics.t_test(pair[0] - pair[1], 0.0, (-1, 1))[1]) for pair in arms
    ]
    return np.array(found)


def wrong_chapters(p: np.ndarray, questions: int) -> float:
    """Share of chapters of so many independent questions in which one is called, from p-values of true nulls."""
    return 1 - (1 - (p < 0.05 / questions).mean()) ** questions


def main(count: int) -> None:
    for title, cases, share in (
        ("No difference: share of chapters that call one", NULLS, wrong_chapters),
        ("A difference: share of questions that call it", EFFECTS, lambda p, m: (p < 0.05 / m).mean()),
    ):
        print(f"{title}, by the number of questions {CHAPTERS}")
        print(f"{'size':8} {'means':12} {'spreads':12} {'the rule':28} t alone")
        for shape in SIZES:
            for means, spreads in cases:
                p = p_values(pairs(np.random.default_rng(0), count, shape, means, spreads)).T
                told = ["  ".join(f"{share(of, m):.3f}" for m in CHAPTERS) for of in p]
                print(f"{'{} x {}'.format(*shape):8} {means!s:12} {spreads!s:12} {told[0]:28} {told[1]}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1500)
