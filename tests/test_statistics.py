"""Intervals, tests and effect sizes, against published values and by simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import t as student_t
from scipy.stats import ttest_1samp
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.anova import anova_lm

from bsa_study import statistics

FIELDS = ["difference", "low", "high", "n", "seeds", "secrets", "effect", "p"]


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
    assert statistics.bootstrap(outcomes, seed=1) != first
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


@pytest.mark.parametrize(("mean", "seed", "prompt"), [(0.3, 0, 0), (0.3, 0, 1.5), (0.5, 1, 1), (0.3, 2, 1)])
def test_an_interval_holds_the_mean_as_often_as_it_says(mean, seed, prompt):
    assert 0.93 <= coverage(mean, 0, seed, 0, prompt, (1, 5, 275)) <= 0.97


def test_so_it_does_where_secrets_and_seeds_are_crossed():
    assert 0.93 <= coverage(0.4, 1, 0.5, 0.5, 1, (5, 5, 275)) <= 0.97


def test_so_it_does_in_small_experiments():
    assert 0.93 <= coverage(0.4, 0, 1, 0, 1, (1, 3, 66)) <= 0.97


def test_mcnemar_gives_the_exact_binomial_p():
    # 10 pairs turn one way, 2 the other: two-sided binomial p of 2 in 12 at one half
    first = np.array([[1] * 10 + [0] * 2 + [1] * 30])
    second = np.array([[0] * 10 + [1] * 2 + [1] * 30])
    assert statistics.paired_test(first, second) == pytest.approx(0.03857, abs=1e-5)
    assert statistics.paired_test(first == 1, second == 1) == pytest.approx(0.03857, abs=1e-5)
    assert statistics.paired_test(first, first) == 1.0


def test_permutation_gives_fishers_p():
    # Fisher 1935, section 21: of 2^15 signs of Darwin's 15 differences, 1726 have a sum as far from 0 as 314
    differences = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48.0])
    assert differences.sum() == 314
    zero = np.zeros_like(differences)
    assert statistics.paired_test(differences, zero, resamples=2**15) == pytest.approx(1726 / 2**15)
    drawn = statistics.paired_test(differences, zero)
    assert drawn == pytest.approx(1726 / 2**15, abs=0.01)
    assert statistics.paired_test(differences, zero) == drawn


def test_pairs_need_the_same_prompts():
    with pytest.raises(ValueError, match="shape"):
        statistics.paired_test(np.zeros((1, 3)), np.zeros((1, 4)))
    with pytest.raises(ValueError, match="shape"):
        statistics.difference(np.zeros((1, 3)), np.zeros((2, 3)))


def test_holm_steps_down():
    # By hand: 4 x .005, 3 x .01, 2 x .03, and .04 no less than that
    assert statistics.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm([0.7, 0.8]) == pytest.approx([1.0, 1.0])
    assert len(statistics.holm([])) == 0


def test_effect_of_shares_is_cohens_h():
    # Cohen 1988, table 6.2.2: 2 arcsin(sqrt(P))
    published = {0.01: 0.200, 0.05: 0.451, 0.25: 1.047, 0.5: 1.571, 0.75: 2.094, 0.9: 2.498, 1.0: 3.142}
    none = np.zeros((4, 25))
    for share, value in published.items():
        arm = (np.arange(100) < 100 * share).reshape(4, 25)
        assert statistics.effect_size(arm, none) == pytest.approx(value, abs=5e-4)
        assert statistics.effect_size(none, arm) == pytest.approx(-value, abs=5e-4)
    half, quarter = np.repeat([1, 0], [50, 50]), np.repeat([1, 0], [25, 75])
    assert statistics.effect_size(half, quarter) == pytest.approx(0.524, abs=5e-4)


def test_effect_of_scores_is_cohens_d():
    first, second = np.array([[2, 4, 6.0]]), np.array([[1, 3, 5.0]])  # variance 4 in each
    assert statistics.effect_size(first, second) == pytest.approx(0.5)
    assert statistics.effect_size(second, first) == pytest.approx(-0.5)
    equal = np.full((2, 3), 0.4)
    assert statistics.effect_size(equal, equal) == 0.0
    assert statistics.effect_size(equal, equal + 0.1) == -np.inf


def test_summary_has_one_row_per_cell():
    summary = statistics.summarize(table({"bsa": ["0001", "0011"], "none": ["1111", "1110"]}), ["defense"])
    row = statistics.cell(summary, defense="bsa")
    assert (row["mean"], row["n"], row["seeds"], row["secrets"]) == (0.375, 4, 2, 1)
    assert len(summary) == 2
    assert list(summary) == ["defense", "metric", "mean", "low", "high", "n", "seeds", "secrets"]
    assert list(statistics.summarize(table({"bsa": ["01"]}).iloc[:0], ["defense"])) == list(summary)


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


def test_cell_wants_exactly_one_row():
    summary = statistics.summarize(table({"bsa": ["01"]}), ["defense"])
    with pytest.raises(ValueError, match="0 rows"):
        statistics.cell(summary, defense="none")


def test_compare_pairs_by_seed_and_prompt():
    both = table({"bsa": ["1100", "1000"], "none": ["1111", "1110"]})
    result = statistics.compare(both, "none", "bsa", ["metric"], ("asr",))
    assert list(result) == ["metric", *FIELDS, "p (Holm)"]
    row = result.iloc[0]
    assert row["difference"] == 0.5
    assert row["low"] < 0.5 < row["high"]
    assert row["p"] == row["p (Holm)"] == pytest.approx(2 * 0.5**4)
    assert row["effect"] == pytest.approx(2 * np.arcsin(np.sqrt(7 / 8)) - 2 * np.arcsin(np.sqrt(3 / 8)))
    assert (row["n"], row["seeds"], row["secrets"]) == (4, 2, 1)
    assert result["seeds"].dtype == int


def test_compare_takes_only_seeds_that_both_arms_have_in_any_order():
    arms = table({"bsa": ["1100", "1000", "0000"], "none": ["1111", "1110"]})
    result = statistics.compare(arms.iloc[::-1], "none", "bsa", ["metric"], ("asr",))
    expected = statistics.compare(arms[arms["seed"] < 2], "none", "bsa", ["metric"], ("asr",))
    pd.testing.assert_frame_equal(result, expected)


def test_compare_corrects_over_all_its_rows_and_adds_the_metric():
    asr = table({"bsa": ["0" * 8], "none": ["1" * 8]})
    scores = table({"bsa": ["11111111"], "none": ["55545555"]}, "harmfulness")
    result = statistics.compare(pd.concat([asr, scores]), "none", "bsa", [], ("asr", "harmfulness"))
    assert result["metric"].tolist() == ["asr", "harmfulness"]
    assert result["p"].tolist() == pytest.approx([2 / 2**8] * 2)
    assert result["p (Holm)"].tolist() == pytest.approx([4 / 2**8] * 2)
    assert result["difference"].tolist() == pytest.approx([1, 4 - 1 / 8])
    assert result["high"].max() <= 4


def test_compare_of_nothing_is_an_empty_table():
    columns = ["pressure", "metric", *FIELDS, "p (Holm)"]
    both = table({"bsa": ["01"], "none": ["11"]}).assign(pressure="light")
    alone = both[both["defense"] == "bsa"]
    apart = pd.concat([alone, both[both["defense"] == "none"].assign(seed=7)])
    for rows, metrics in ((alone, ("asr",)), (apart, ("asr",)), (both, ("rouge1",))):
        result = statistics.compare(rows, "none", "bsa", ["pressure", "metric"], metrics)
        assert list(result) == columns and len(result) == 0


def test_compare_refuses_several_runs_of_a_seed():
    both = table({"bsa": ["01"], "none": ["11"]})
    served = pd.concat([both.assign(condition="plain"), both.assign(condition="secret")])
    with pytest.raises(ValueError, match="several runs of a seed"):
        statistics.compare(served, "none", "bsa", ["metric"], ("asr",))


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
    assert (row["difference"], row["p"], row["seeds"]) == (0.25, 0.5, 2)
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
