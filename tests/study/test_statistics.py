"""Intervals and tests, against published values and by simulation."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cells import one_cell
from scipy.special import expit
from scipy.stats import norm as normal
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.anova import anova_lm

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import verdicts  # noqa: E402

from bsa_study import fiducial, statistics  # noqa: E402

FIELDS = ["difference", "low", "high", "n", "seeds", "secrets", "p"]


def table(outcomes: dict[str, list], metric: str = "asr") -> pd.DataFrame:
    """A table as of `records.table`: arm -> the outcomes of one run per seed."""
    return pd.DataFrame(
        {"defense": arm, "metric": metric, "seed": seed, "outcomes": text}
        for arm, texts in outcomes.items()
        for seed, text in enumerate(texts)
    )


def crossed(arm: str, outcomes: dict[tuple[int, int], str], metric: str = "asr") -> pd.DataFrame:
    """(secret_seed, seed) -> outcomes of the run, of one arm."""
    return pd.DataFrame(
        {"defense": arm, "metric": metric, "secret_seed": secret, "seed": seed, "outcomes": text}
        for (secret, seed), text in outcomes.items()
    )


GRID = {(0, 0): "0001", (0, 1): "0011", (0, 2): "0111", (1, 0): "1111", (1, 1): "1011", (1, 2): "1001"}


def test_wilson_gives_the_published_interval():
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, n), (low, high) in published.items():
        assert statistics.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_outcomes_are_digits_or_numbers():
    assert statistics.matrix(["015", "100"]).tolist() == [[0.0, 1.0, 5.0], [1.0, 0.0, 0.0]]
    assert statistics.matrix([[0.25, 1], [0, 0.5]]).tolist() == [[0.25, 1.0], [0.0, 0.5]]
    with pytest.raises(ValueError, match="could not convert"):
        statistics.matrix(["0x"])


def test_bootstrap_of_one_run_agrees_with_the_binomial():
    outcomes = np.repeat([[1, 0]], [60, 215], axis=1)
    interval = statistics.bootstrap(outcomes)
    error = np.sqrt(interval.mean * (1 - interval.mean) / 275)
    assert interval.mean == 60 / 275
    assert (interval.high - interval.low) == pytest.approx(2 * 1.96 * error, rel=0.05)
    assert (interval.low, interval.high) == pytest.approx(statistics.wilson(60, 275), abs=0.004)
    assert statistics.bootstrap(outcomes[0]) == interval


def test_bootstrap_counts_seeds_and_not_only_prompts():
    """Two runs that disagree on everything: pooled prompts would give a narrow interval around one half."""
    outcomes = np.array([[1] * 275, [0] * 275])
    interval = statistics.bootstrap(outcomes)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.5, 0.0, 1.0), abs=1e-6)
    assert (interval.n, interval.seeds, interval.secrets) == (275, 2, 1)


def test_bootstrap_resamples_whatever_varies():
    """Secrets alone, seeds alone or prompts alone: the interval is the same, but for the draws."""
    values = np.array([0.1, 0.4, 0.35, 0.8, 0.2])
    shapes = [(5, 1, 1), (1, 5, 1), (1, 1, 5)]
    intervals = [statistics.bootstrap(values.reshape(shape)) for shape in shapes]
    assert [(i.secrets, i.seeds, i.n) for i in intervals] == shapes
    assert [i.low for i in intervals] == pytest.approx([intervals[0].low] * 3, abs=0.02)
    assert [i.high for i in intervals] == pytest.approx([intervals[0].high] * 3, abs=0.02)


def test_half_width_is_that_of_students_t_where_only_one_factor_varies():
    runs = np.array([0.1, 0.4, 0.35, 0.8, 0.2])
    expected = np.ptp(ttest_1samp(runs, 0).confidence_interval(0.9)) / 2
    assert statistics._half_width(np.repeat(runs[:, None], 7, axis=1), 0.9) == pytest.approx(expected)
    assert statistics._half_width(np.repeat(runs[None], 7, axis=0), 0.9) == pytest.approx(expected)
    assert statistics._half_width(runs[None], 0.9) == pytest.approx(expected)
    assert statistics._half_width(np.repeat(runs[:, None], 12, axis=1).reshape(5, 3, 4), 0.9) == pytest.approx(expected)


def test_half_width_rests_on_the_mean_squares_of_the_analysis_of_variance():
    rng = np.random.default_rng(0)
    outcomes = rng.normal(size=(4, 1, 1)) + rng.normal(size=(1, 3, 1)) + rng.normal(size=(1, 1, 6))
    outcomes = outcomes + rng.normal(0, 0.1, (4, 3, 6))
    rows = pd.DataFrame([(*place, value) for place, value in np.ndenumerate(outcomes)], columns=["a", "b", "p", "y"])
    square = anova_lm(OLS.from_formula("y ~ (C(a) + C(b) + C(p)) ** 2", rows).fit())["mean_sq"]
    a, b, p, ab, ap, bp, abp = square  # the rest is the interaction of all three
    total = a + b + p - ab - ap - bp + abp
    freedom = total**2 / (a**2 / 3 + b**2 / 2 + p**2 / 5)
    expected = student_t.ppf(0.975, freedom) * np.sqrt(total / outcomes.size)
    assert statistics._half_width(outcomes, 0.95) == pytest.approx(expected)


def test_runs_that_agree_by_luck_do_not_shrink_the_interval_to_nothing():
    """Every run has the same share: the runs' mean square is 0, and so is what the runs alone would give."""
    outcomes = np.array([np.roll([1] * 20 + [0] * 80, 20 * run) for run in range(5)])
    interval = statistics.bootstrap(outcomes)
    assert interval.high - interval.low > np.diff(statistics.wilson(100, 500))[0] / 2


def test_equal_outcomes_get_the_interval_of_one_run():
    interval = statistics.bootstrap(np.zeros((5, 275)))
    assert (interval.mean, interval.low) == (0.0, 0.0)
    assert interval.high == pytest.approx(statistics.wilson(0, 275)[1])
    highest = statistics.bootstrap(np.ones((2, 5, 275)))
    assert (highest.low, highest.high) == pytest.approx(statistics.wilson(275, 275))
    assert (highest.seeds, highest.secrets) == (5, 2)


def test_arms_that_never_differ_may_still_differ_elsewhere():
    interval = statistics.bootstrap(np.zeros((5, 275)), scale=(-1, 1))
    reach = statistics.wilson(0, 275)[1]
    assert (interval.low, interval.high) == pytest.approx((-reach, reach))


def test_equal_scores_keep_to_their_scale():
    """A harmfulness score of 1 everywhere is the bottom of 1-5, not a share of one."""
    row = statistics.summarize(table({"bsa": ["1111", "1111"]}, "harmfulness"), ["defense"]).iloc[0]
    assert (row["mean"], row["low"]) == (1.0, 1.0)
    assert row["high"] == pytest.approx(1 + 4 * statistics.wilson(0, 4)[1])


def test_an_interval_moves_with_its_scale_and_never_leaves_it():
    outcomes = np.random.default_rng(2).random((3, 40)) ** 8
    share, score = statistics.bootstrap(outcomes), statistics.bootstrap(1 + 4 * outcomes, scale=(1, 5))
    assert (score.mean, score.low, score.high) == pytest.approx(
        [1 + 4 * x for x in (share.mean, share.low, share.high)]
    )
    one = np.zeros((5, 275))
    one[0, 0] = 1
    for outcomes in (one, 1 - one):
        interval = statistics.bootstrap(outcomes)
        assert 0 < interval.low < interval.mean < interval.high < 1


@pytest.mark.parametrize(
    "outcomes", [np.full((2, 3), 5.0), np.array([[-0.1, 0.5]]), np.array([[np.nan, 0.5]]), np.zeros((1, 1, 1, 1))]
)
def test_bootstrap_refuses_what_is_off_its_scale(outcomes):
    with pytest.raises(ValueError, match="scale"):
        statistics.bootstrap(outcomes)


def test_bootstrap_is_a_function_of_its_arguments():
    outcomes = np.random.default_rng(1).integers(0, 2, (3, 50))
    first = statistics.bootstrap(outcomes)
    statistics._draws.cache_clear()
    assert statistics.bootstrap(outcomes) == first
    assert statistics.bootstrap(outcomes, level=0.8).high < first.high


def coverage(mean: float, secret: float, seed: float, both: float, prompt: float, shape: tuple[int, int, int]) -> float:
    """Share of 2000 simulated experiments whose interval holds the mean over all secrets, seeds and prompts.

    secret, seed, both (a secret with a seed), prompt: standard deviations of normal effects on the logit.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(101)
    spread = np.sqrt(secret**2 + seed**2 + both**2 + prompt**2)
    centers = np.linspace(-15, 15, 3001)
    means = expit(centers[:, None] + spread * nodes) @ weights / weights.sum()
    center = np.interp(mean, means, centers)
    rng = np.random.default_rng(0)
    secrets, seeds, prompts = shape
    held = 0
    for _ in range(2000):
        effects = secret * rng.normal(size=(secrets, 1, 1)) + seed * rng.normal(size=(1, seeds, 1))
        effects = effects + both * rng.normal(size=(secrets, seeds, 1)) + prompt * rng.normal(size=(1, 1, prompts))
        interval = statistics.bootstrap(rng.random(shape) < expit(center + effects))
        held += interval.low <= mean <= interval.high
    return held / 2000


@pytest.mark.slow
@pytest.mark.parametrize(("mean", "seed", "prompt"), [(0.3, 0, 0), (0.3, 0, 1.5), (0.5, 1, 1), (0.3, 2, 1)])
def test_an_interval_holds_the_mean_as_often_as_it_says(mean, seed, prompt):
    assert 0.93 <= coverage(mean, 0, seed, 0, prompt, (1, 5, 275)) <= 0.97


@pytest.mark.slow
def test_so_it_does_where_secrets_and_seeds_are_crossed():
    assert 0.93 <= coverage(0.4, 1, 0.5, 0.5, 1, (5, 5, 275)) <= 0.97


@pytest.mark.slow
def test_so_it_does_in_small_experiments():
    assert 0.93 <= coverage(0.4, 0, 1, 0, 1, (1, 3, 66)) <= 0.97


def drawn(rng: np.random.Generator, shape: tuple[int, int], spread: float, shift: float = 0.0) -> np.ndarray:
    """Differences of two arms with the same prompts, whose seeds differ by `spread` on the logit, `shift` apart."""
    seeds, prompts = shape
    center = rng.normal(size=(1, prompts)) - 0.5
    arms = (center + spread * rng.normal(size=(seeds, 1)) + own for own in (shift, 0.0))
    first, second = ((rng.random(shape) < expit(arm)).astype(float) for arm in arms)
    return first - second


def chapters(count: int, shape: tuple[int, int], mean: float, spreads: tuple[float, float], questions: int) -> float:
    """Share of simulated chapters, of arms with equal means, in which the rule calls a difference."""
    drawn = verdicts.pairs(np.random.default_rng(0), count, shape, (mean, mean), spreads)
    return verdicts.wrong_chapters(verdicts.p_values(drawn)[:, 0], questions)


@pytest.mark.parametrize("shape", [(5, 275), (3, 66)])
@pytest.mark.parametrize("mean, spreads", [(0.5, (0, 0)), (0.5, (2, 2)), (0.9, (0, 2))])
def test_a_chapter_of_arms_that_do_not_differ_calls_no_difference(shape, mean, spreads):
    """At most 6 % of chapters; 12 % of chapters of six, from 400 comparisons, is two standard errors above that. By the
    t test alone half of those would call one where the runs of one arm only differ by 2."""
    assert chapters(400, shape, mean, spreads, 6) <= 0.12


@pytest.mark.slow
@pytest.mark.parametrize("mean", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("spreads", [(1, 1), (2, 2), (0, 2)])
def test_so_it_is_in_chapters_of_any_size(mean, spreads):
    for questions in (1, 6, 12):
        assert chapters(2000, (5, 275), mean, spreads, questions) <= 0.09


def test_arms_that_differ_are_told_apart():
    """At the level that Holm asks for in a chapter of 32 questions."""
    for means, spreads, share in (((0.95, 0.05), (2, 2), 0.85), ((0.9, 0.1), (0, 2), 0.75), ((0.6, 0.4), (0, 0), 0.8)):
        drawn = verdicts.pairs(np.random.default_rng(0), 150, (5, 275), means, spreads)
        assert np.mean(verdicts.p_values(drawn)[:, 0] < 0.05 / 32) > share


EQUAL = [np.full((5, 275), share) for share in (-1.0, -0.4, -0.003, 0.0, 0.015, 0.4, 1.0)]


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.999])
def test_the_interval_excludes_zero_exactly_when_p_is_below_its_level(level):
    rng = np.random.default_rng(1)
    shapes = [(1, 40), (3, 66), (5, 275), (3, 3, 66)]
    cases = [rng.choice([-1.0, 0.0, 1.0], shapes[i % 4], p=[0.2, 0.5, 0.3]) for i in range(40)]
    cases += [drawn(rng, (5, 66), spread, shift) for spread in (0, 1, 2) for shift in (0, 0.5, 1, 2, 4)] + EQUAL
    excluded = []
    for outcomes in cases:
        interval, p = statistics.t_test(outcomes, scale=(-1, 1), level=level)
        excluded.append(interval.low > 0 or interval.high < 0)
        assert excluded[-1] == (p < 1 - level) and 0 <= p <= 1
        assert -1 <= interval.low <= interval.mean <= interval.high <= 1
    assert 5 < sum(excluded) < len(cases) - 2


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99])
def test_so_does_that_of_two_arms(level):
    rng, excluded = np.random.default_rng(2), []
    for i in range(120):
        shape = [(3, 66), (5, 275), (1, 40), (3, 3, 66), (2, 30)][i % 5]
        spread, mean = rng.uniform(0, 4), rng.uniform(-4, 4, 2)
        first, second = (
            (rng.random(shape) < expit(m + spread * rng.normal(size=(*shape[:-1], 1)))).astype(float) for m in mean
        )
        for told in (
            statistics.difference(first, second, level=level),
            statistics.difference(first, 0.9, level=level),
            statistics.difference(1 + 4 * first, 1 + 4 * second, (1, 5), level),
        ):
            excluded.append(told["low"] > 0 or told["high"] < 0)
            assert excluded[-1] == (told["p"] < 1 - level) and 0 < told["p"] <= 1
            assert told["low"] <= told["difference"] + 1e-9 and told["difference"] - 1e-9 <= told["high"]
    assert 20 < sum(excluded) < len(excluded) - 20


@pytest.mark.parametrize("outcomes", [drawn(np.random.default_rng(0), (5, 66), 1, 1), *EQUAL[:3], *EQUAL[4:]])
def test_at_level_1_minus_p_an_end_of_the_interval_is_zero(outcomes):
    _, p = statistics.t_test(outcomes, scale=(-1, 1))
    if 1e-12 < p:
        interval, _ = statistics.t_test(outcomes, scale=(-1, 1), level=1 - p)
        assert min(abs(interval.low), abs(interval.high)) == pytest.approx(0, abs=1e-6)


def test_p_is_student_s_near_the_middle_of_the_scale():
    """One run, differences near zero: there the logit is a straight line."""
    outcomes = np.random.default_rng(3).normal(0.02, 0.1, (1, 50))
    expected = ttest_1samp(outcomes[0], 0)
    interval, p = statistics.t_test(outcomes, scale=(-1, 1))
    assert p == pytest.approx(expected.pvalue, rel=0.02)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected.confidence_interval()), abs=2e-3)


def test_equal_differences_get_the_p_of_the_exact_bound():
    """That all of 40 requests come out at one end, when the mean lies in the middle: a half, 40 times."""
    assert statistics.t_test(np.zeros((5, 275)), scale=(-1, 1))[1] == 1.0
    for shift, each in ((1.0, 1 / 2), (-1.0, 1 / 2), (0.25, 1 / 1.25)):
        p = statistics.t_test(np.full((5, 40), shift), scale=(-1, 1))[1]
        assert p == pytest.approx(each**40)


def test_two_arms_that_always_agree_differ_by_less_than_a_margin_of_five_points():
    """None of 66 came out differently: with 95 % confidence fewer than 4.44 % would (Hanley, Lippman-Hand 1983)."""
    told = statistics.difference(np.zeros((3, 66)), np.zeros((3, 66)))
    assert (told["low"], told["high"]) == pytest.approx((-0.0444, 0.0444), abs=5e-5) and told["p"] == 1
    assert statistics.difference(np.ones((5, 275)), np.ones((5, 275)))["high"] < 0.011


def test_a_mean_is_held_against_a_number():
    outcomes = np.random.default_rng(4).random((5, 275)) < 0.95
    told = statistics.difference(outcomes, 0.9)
    interval, p = statistics.t_test(outcomes, 0.9)
    assert told["low"] <= interval.low - 0.9 and p <= told["p"] < 0.05 and told["low"] > 0
    assert statistics.difference(outcomes, outcomes.mean())["p"] > 0.9
    assert statistics.difference(np.ones((5, 275)), 0.9)["p"] == pytest.approx(0.9**275)
    with pytest.raises(ValueError, match="cannot be tested against 1"):
        statistics.difference(outcomes, 1.0)


def test_pairs_need_the_same_prompts():
    with pytest.raises(ValueError, match="shape"):
        statistics.difference(np.zeros((1, 3)), np.zeros((2, 3)))


def test_summary_has_one_row_per_cell():
    summary = statistics.summarize(table({"bsa": ["0001", "0011"], "none": ["1111", "1110"]}), ["defense"])
    row = one_cell(summary, defense="bsa")
    assert (row["mean"], row["n"], row["seeds"], row["secrets"]) == (0.375, 4, 2, 1)
    assert len(summary) == 2
    assert list(summary) == ["defense", "metric", "mean", "low", "high", "n", "seeds", "secrets"]
    for nothing in (table({"bsa": ["01"]}).iloc[:0], pd.DataFrame()):
        assert list(statistics.summarize(nothing, ["defense"])) == list(summary)


def test_summary_of_lists_of_numbers():
    row = statistics.summarize(table({"bsa": [[0.25, 0.5], [0.75, 1.0]]}, "rouge1"), ["defense"]).iloc[0]
    assert (row["mean"], row["n"], row["seeds"]) == (0.625, 2, 2)


def test_a_secret_of_its_own_for_each_seed_is_no_grid():
    own = crossed("bsa", {(0, 0): "0001", (1, 1): "0011"})
    both = statistics.summarize(pd.concat([own, own.assign(secret_seed=-1, defense="none")]), ["defense"])
    assert both["secrets"].tolist() == [1, 1]
    without = statistics.summarize(own.drop(columns="secret_seed"), ["defense"])
    pd.testing.assert_frame_equal(both.iloc[:1], without)


def test_secrets_that_cross_seeds_are_an_axis():
    rows = crossed("bsa", GRID).sample(frac=1, random_state=0)
    row = statistics.summarize(rows, ["defense"]).iloc[0]
    expected = statistics.bootstrap(statistics.matrix(list(GRID.values())).reshape(2, 3, 4))
    assert row[["mean", "low", "high", "n", "seeds", "secrets"]].tolist() == list(vars(expected).values())
    assert (row["n"], row["seeds"], row["secrets"]) == (4, 3, 2)


def test_a_grid_with_a_hole_is_refused_by_name():
    holed = crossed("bsa", {pair: text for pair, text in GRID.items() if pair != (1, 2)})
    with pytest.raises(ValueError, match=r"bsa.*\(secret_seed, seed\) \[\(1, 2\)\]"):
        statistics.summarize(holed, ["defense"])


def test_summary_refuses_a_seed_twice_and_runs_of_different_length():
    twice = pd.concat([table({"bsa": ["01"]}), table({"bsa": ["10"]})])
    with pytest.raises(ValueError, match="several runs of a seed"):
        statistics.summarize(twice, ["defense"])
    with pytest.raises(ValueError, match="several runs of a seed"):
        statistics.summarize(pd.concat([crossed("bsa", GRID), crossed("bsa", {(1, 1): "0000"})]), ["defense"])
    with pytest.raises(ValueError, match="different numbers of prompts"):
        statistics.summarize(table({"bsa": ["01", "011"]}), ["defense"])


def test_contrast_pairs_by_seed_and_prompt_in_any_order():
    arms = table({"bsa": ["1100", "1000", "0000"], "none": ["1111", "1110"]})
    row = statistics.contrast(arms.iloc[::-1], {"defense": "none"}, {"defense": "bsa"}, "asr")
    assert (row["difference"], row["n"], row["seeds"], row["secrets"]) == (0.5, 4, 2, 1)
    assert row["low"] < 0.5 < row["high"]
    pairs = np.array([[0, 0, 1, 1], [0, 1, 1, 0]])
    assert row["p"] >= statistics.t_test(pairs, scale=(-1, 1))[1]


def test_contrast_keeps_to_the_scale_of_the_metric():
    scores = table({"bsa": ["11111111"], "none": ["55545555"]}, "harmfulness")
    row = statistics.contrast(scores, {"defense": "none"}, {"defense": "bsa"}, "harmfulness")
    assert row["difference"] == pytest.approx(4 - 1 / 8) and 0 < row["low"] < row["high"] <= 4
    assert statistics.contrast(scores, {"defense": "none"}, 3, "harmfulness")["difference"] == pytest.approx(2 - 1 / 8)


def test_contrast_refuses_several_runs_of_a_seed():
    both = table({"bsa": ["01"], "none": ["11"]})
    served = pd.concat([both.assign(condition="plain"), both.assign(condition="secret")])
    with pytest.raises(ValueError, match="several runs of a seed"):
        statistics.contrast(served, {"defense": "none"}, {"defense": "bsa"}, "asr")


def test_contrast_compares_any_two_cells():
    rows = pd.concat([table({"bsa": ["1100", "1000"]}).assign(condition="plain", n_defense=11)] * 2, ignore_index=True)
    rows.loc[2:, ["condition", "outcomes"]] = [["secret", "0000"], ["secret", "1000"]]
    row = statistics.contrast(
        rows,
        {"defense": "bsa", "condition": "plain", "n_defense": 11},
        {"defense": "bsa", "condition": "secret", "n_defense": 11},
        "asr",
    )
    assert list(row.index) == FIELDS
    assert (row["difference"], row["seeds"]) == (0.25, 2)
    assert isinstance(row["seeds"], int)


def test_contrast_pairs_by_secret_and_seed():
    rows = pd.concat([crossed("bsa", GRID), crossed("balanced-bsa", {(1, 2): "1000", (0, 1): "0011"})])
    row = statistics.contrast(rows, {"defense": "bsa"}, {"defense": "balanced-bsa"}, "asr")
    assert (row["difference"], row["seeds"], row["secrets"]) == (1 / 8, 2, 1)


@pytest.mark.parametrize("turned", [False, True])
def test_an_arm_without_a_secret_stands_beside_every_secret_of_the_other(turned):
    rows = pd.concat([crossed("bsa", GRID), crossed("none", {(-1, 0): "1111", (-1, 1): "1011", (-1, 2): "1111"})])
    arms = [{"defense": "none"}, {"defense": "bsa"}]
    row = statistics.contrast(rows, *(arms[::-1] if turned else arms), "asr")
    grid = statistics.matrix(list(GRID.values())).reshape(2, 3, 4)
    none = np.array([statistics.matrix(["1111", "1011", "1111"])] * 2)
    expected = statistics.difference(grid, none) if turned else statistics.difference(none, grid)
    assert row.tolist() == expected.tolist()
    assert (row["seeds"], row["secrets"]) == (3, 2)


def test_two_arms_without_a_secret_pair_by_seed():
    rows = pd.concat([crossed("none", {(-1, 0): "11", (-1, 1): "10"}), crossed("safety-data", {(-1, 1): "00"})])
    row = statistics.contrast(rows, {"defense": "none"}, {"defense": "safety-data"}, "asr")
    assert (row["difference"], row["seeds"]) == (0.5, 1)


def test_contrast_names_cells_that_share_no_run():
    rows = table({"bsa": ["01"]})
    with pytest.raises(statistics.Unpaired, match=r"'bsa'.*1 runs.*'none'.*0 runs"):
        statistics.contrast(rows, {"defense": "bsa"}, {"defense": "none"}, "asr")


def test_a_mean_of_runs_is_drawn_from_what_they_allow():
    """Runs normal on the probit: of simulated fives, 95 % intervals of the mean hold it as often as they say, also
    where most runs lie near zero."""
    rng, held, mean = np.random.default_rng(0), 0, normal.cdf(-2 / np.sqrt(1 + 1.2**2))
    for _ in range(1000):
        shares = normal.cdf(-2 + 1.2 * rng.normal(size=5))
        low, high = fiducial.interval(fiducial.differences(shares, float(mean), 100_000), 0.95)
        held += low <= 0 <= high
    assert 0.93 <= held / 1000 <= 0.97
    apart = fiducial.differences(np.full(3, 0.2), np.full(3, 0.5), 100_000)
    assert (apart.min(), apart.max()) == pytest.approx((-0.3, -0.3), abs=1e-4)
