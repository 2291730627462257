"""Benchmarks as tables for people: by arm, and beside the paper's."""

import pandas as pd

from bsa_core.profiles import Profile
from bsa_study import labels, statistics
from bsa_study.capability import benchmarks
from bsa_study.paper import by_method
from bsa_study.report import tables

PAPER = ("arc_challenge", "mmlu", "mt_bench")


def summary(rows: pd.DataFrame, found: list[dict], profile: Profile) -> pd.DataFrame:
    """`statistics.summarize` of the benchmarks that the profile asks for, by arm, condition and pressure; see
    `benchmarks.table`."""
    by = ["defense", "condition", "deployed", "pressure"]
    return statistics.summarize(benchmarks.table(rows, found, profile), by)


def table(summarized: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Mean and interval of each benchmark (columns) by arm and condition; says so where the profile asks for none."""
    if not profile.utility:
        return tables.nothing(f"No benchmark was run for {profile.name}.")
    metrics = tuple(dict.fromkeys(summarized["metric"]))
    return tables.pretty(summarized, ["pressure", "defense", "condition"], metrics)


def beside_paper(summarized: pd.DataFrame) -> pd.DataFrame:
    """The paper's benchmarks by arm, of Llama-2-7B-Chat and one run each, and beside them ours as deployed. Shares,
    but for MT-Bench.

    summarized: of one pressure.
    """
    columns, deployed = {}, summarized[summarized["deployed"]]
    for metric in PAPER:
        title = labels.metric(metric).title
        columns |= tables.ours(deployed, metric)
        for how, values in by_method(metric).items():
            if len(values):
                shown = values.map("{:.2f}".format) if metric == "mt_bench" else (values / 100).map("{:.3f}".format)
                columns[f"{title}, paper, {how}"] = shown
    arms = [*by_method("mmlu")["full fine-tuning"].index, *deployed[deployed["metric"].isin(PAPER)]["defense"]]
    return tables.by_arm(columns, dict.fromkeys(arms))
