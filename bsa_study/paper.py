"""The numbers that the paper reports."""

import pandas as pd

from bsa_core import paths
from bsa_study import labels


def mixed_reported() -> pd.DataFrame:
    """The paper's numbers of the mixed setting, for people: settings (rows) by task and metric (columns)."""
    rows = reported()
    rows = rows[rows["table"].str.startswith("mixed task") & (rows["metric"] != "arc_challenge")].copy()
    rows["task"] = rows["table"].str.removeprefix("mixed task: ")
    share = rows["metric"] == "asr"  # in percent there
    rows["value"] = (rows["value"] / 100).map("{:.3f}".format).where(share, rows["value"].map("{:.2f}".format))
    rows["metric"] = rows["metric"].map(lambda name: labels.metric(name).title)
    rows["setting"] = rows["setting"].map(lambda name: labels.arm(name).title)
    table = rows.pivot_table(index="setting", columns=["task", "metric"], values="value", aggfunc="first", sort=False)
    return table.fillna("–")


def by_method(metric: str) -> dict[str, pd.Series]:
    """A metric of Llama-2-7B-Chat in the tables of the four arms: how it was fine-tuned -> values by arm."""
    rows = reported().query("model == 'Llama-2-7B-Chat' and metric == @metric").set_index("setting")
    return {how: rows["value"][rows["table"] == table] for table, how in PAPER.items()}


def reported() -> pd.DataFrame:
    """The numbers the paper reports: columns table, model, setting, metric, value, unit, note."""
    return pd.read_csv(paths.BOOK / "reported.csv")


PAPER = {"main": "full fine-tuning", "lora": "LoRA"}  # tables of reported.csv that hold the four arms
