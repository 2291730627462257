"""Intervals and tests, against published values and by simulation."""

import numpy as np
import pandas as pd
import pytest

from bsa_core import statistics


def table(outcomes: dict[str, list[str]]) -> pd.DataFrame:
    """A table as of `records.table`: arm -> one outcome string per seed."""
    return pd.DataFrame(
        {"defense": arm, "metric": "asr", "seed": seed, "outcomes": text}
        for arm, texts in outcomes.items()
        for seed, text in enumerate(texts)
    )


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


def test_bootstrap_of_one_run_agrees_with_the_binomial():
    outcomes = np.repeat([[1, 0]], [60, 215], axis=1)
    interval = statistics.bootstrap(outcomes)
    error = np.sqrt(interval.mean * (1 - interval.mean) / 275)
    assert interval.mean == 60 / 275
    assert (interval.high - interval.low) == pytest.approx(2 * 1.96 * error, rel=0.08)


def test_bootstrap_counts_seeds_and_not_only_prompts():
    """Two runs that disagree on everything: pooled prompts would give a narrow interval around one half."""
    outcomes = np.array([[1] * 275, [0] * 275])
    interval = statistics.bootstrap(outcomes)
    assert (interval.mean, interval.low, interval.high) == pytest.approx((0.5, 0.0, 1.0))
    assert (interval.n, interval.seeds) == (275, 2)


def test_equal_outcomes_get_the_interval_of_one_run():
    interval = statistics.bootstrap(np.zeros((5, 275)))
    assert (interval.mean, interval.low) == (0.0, 0.0)
    assert interval.high == pytest.approx(statistics.wilson(0, 275)[1])


def test_equal_scores_keep_to_their_scale():
    """A harmfulness score of 1 everywhere is the bottom of 1-5, not a share of one."""
    scores = table({"bsa": ["1111", "1111"]}).assign(metric="harmfulness")
    row = statistics.summarize(scores, ["defense"]).iloc[0]
    assert (row["mean"], row["low"]) == (1.0, 1.0)
    assert row["high"] == pytest.approx(1 + 4 * statistics.wilson(0, 4)[1])


def test_bootstrap_is_a_function_of_its_arguments():
    outcomes = np.random.default_rng(1).integers(0, 2, (3, 50))
    assert statistics.bootstrap(outcomes) == statistics.bootstrap(outcomes)


def test_bootstrap_covers_the_truth_about_as_often_as_it_says():
    """Five seeds that differ, 100 prompts that differ: the interval holds the true mean in most experiments."""
    rng = np.random.default_rng(0)
    held = 0
    for experiment in range(200):
        rate = np.clip(0.3 + rng.normal(0, 0.1, (5, 1)) + rng.normal(0, 0.1, (1, 100)), 0, 1)
        interval = statistics.bootstrap(rng.random((5, 100)) < rate, resamples=400, seed=experiment)
        held += interval.low <= 0.3 <= interval.high
    assert 0.82 <= held / 200 <= 0.99


def test_mcnemar_gives_the_exact_binomial_p():
    # 10 pairs turn one way, 2 the other: two-sided binomial p of 2 in 12 at one half
    first = np.array([[1] * 10 + [0] * 2 + [1] * 30])
    second = np.array([[0] * 10 + [1] * 2 + [1] * 30])
    assert statistics.paired_test(first, second) == pytest.approx(0.03857, abs=1e-5)
    assert statistics.paired_test(first, first) == 1.0


def test_pairs_need_the_same_prompts():
    with pytest.raises(ValueError, match="shape"):
        statistics.paired_test(np.zeros((1, 3)), np.zeros((1, 4)))


def test_summary_has_one_row_per_cell():
    summary = statistics.summarize(table({"bsa": ["0001", "0011"], "none": ["1111", "1110"]}), ["defense"])
    row = statistics.cell(summary, defense="bsa")
    assert (row["mean"], row["n"], row["seeds"]) == (0.375, 4, 2)
    assert len(summary) == 2


def test_summary_refuses_a_seed_twice_and_runs_of_different_length():
    twice = pd.concat([table({"bsa": ["01"]}), table({"bsa": ["10"]})])
    with pytest.raises(ValueError, match="several runs of a seed"):
        statistics.summarize(twice, ["defense"])
    with pytest.raises(ValueError, match="different numbers of prompts"):
        statistics.summarize(table({"bsa": ["01", "011"]}), ["defense"])


def test_cell_wants_exactly_one_row():
    summary = statistics.summarize(table({"bsa": ["01"]}), ["defense"])
    with pytest.raises(ValueError, match="0 rows"):
        statistics.cell(summary, defense="none")


def test_compare_pairs_by_seed_and_prompt():
    both = table({"bsa": ["1100", "1000"], "none": ["1111", "1110"]})
    row = statistics.compare(both, "none", "bsa", ["metric"], ("asr",)).iloc[0]
    assert row["difference"] == 0.5
    assert row["low"] <= 0.5 <= row["high"]
    assert row["McNemar p"] == pytest.approx(2 * 0.5**4)
