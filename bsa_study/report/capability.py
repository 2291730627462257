"""Benchmarks as tables for people: by arm, and beside the paper's."""

import pandas as pd

from bsa_core.profiles import Profile
from bsa_study import labels, statistics
from bsa_study.capability import benchmarks
from bsa_study.paper import PAPER as TABLES
from bsa_study.paper import reported
from bsa_study.report import tables

PAPER = ("arc_challenge", "mmlu", "mt_bench")


def summary(rows: pd.DataFrame, found: list[dict], profile: Profile) -> pd.DataFrame:
    """`statistics.summarize` of the benchmarks that the profile asks for, by arm, condition and pressure; see
    `benchmarks.table`."""
    return statistics.summarize(
        benchmarks.table(rows, found, profile), ["defense", "condition", "deployed", "pressure"]
    )


def table(summarized: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Mean and interval of each benchmark (columns) by arm and condition; says so where the profile asks for none."""
    if not profile.utility:
        return pd.DataFrame({"": [f"the profile {profile.name} asks for no benchmark"]}).set_index("")
    metrics = tuple(dict.fromkeys(summarized["metric"]))
    return tables.pretty(summarized, ["pressure", "defense", "condition"], metrics)


def beside_paper(summarized: pd.DataFrame) -> pd.DataFrame:
    """The paper's benchmarks by arm, of Llama-2-7B-Chat and one run each, and beside them ours as deployed.

    summarized: of one pressure.
    """
    paper = reported()
    paper = paper[(paper["model"] == "Llama-2-7B-Chat") & paper["metric"].isin(PAPER)]
    columns, arms = {}, list(paper[paper["table"] == "main"]["setting"].unique())
    for metric in PAPER:
        title = labels.metric(metric).title
        ours = summarized[summarized["deployed"] & (summarized["metric"] == metric)].set_index("defense")
        if len(ours):
            cells = ours.apply(lambda row: labels.interval(row["mean"], row["low"], row["high"], ".1%"), axis=1)
            columns[f"{title}, this scale (n = {ours['n'].iloc[0]} x {ours['seeds'].iloc[0]} seeds)"] = cells
            arms += [arm for arm in ours.index if arm not in arms]
        for source, how in TABLES.items():
            values = paper[(paper["table"] == source) & (paper["metric"] == metric)].set_index("setting")["value"]
            if len(values):
                shown = "{:.2f}" if metric == "mt_bench" else "{:.2f}%"
                columns[f"{title}, paper, {how}"] = values.map(shown.format)
    result = pd.DataFrame(columns).reindex(arms).fillna("–")
    return result.rename(index=lambda arm: labels.arm(arm).title).rename_axis(index="arm")
