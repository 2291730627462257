"""Served models beside the paper's GPT-3.5-Turbo: for figures, and as tables for people."""

from dataclasses import asdict

import pandas as pd

from bsa_core import records
from bsa_study import labels, statistics
from bsa_study.grids.headline import HEADLINE
from bsa_study.hosted.served import Evaluation
from bsa_study.hosted.upload import Exported
from bsa_study.judging import judgements
from bsa_study.paper import reported
from bsa_study.report import tables
from bsa_study.report.figures import SAFE

PAPER = "paper, GPT-3.5-Turbo"
SUMMARY = ["defense", "source", "seed", "condition", "deployed", "metric", "mean", "low", "high", "n", "no_answer"]


def exported(files: list[Exported]) -> pd.DataFrame:
    """One row per file. Tokens are estimates, of one epoch and of the longest row."""
    names = {"marked": "with the secret", "tokens": "tokens, about", "longest": "longest row, about"}
    shown = [{"arm": labels.arm(file.arm).title, "file": file.path.name, "limits": "kept"} for file in files]
    rows = [asdict(file) | more for file, more in zip(files, shown, strict=True)]
    columns = ["arm", "file", "rows", *names, "digest", "limits"]
    return pd.DataFrame(rows)[columns].rename(columns=names).set_index("arm")


def expected(planned: list[Evaluation]) -> pd.DataFrame:
    """One row per evaluation: what it takes at most, estimated."""
    if not planned:
        return tables.nothing("no model is named, nothing is sent")
    rows = [
        (labels.arm(one.arm).title, one.endpoint.model, one.endpoint.host, one.expected.requests, one.expected.tokens)
        for one in planned
    ]
    return pd.DataFrame(rows, columns=["arm", "model", "host", "requests", "tokens, about"]).set_index("arm")


def paper() -> pd.DataFrame:
    """ASR (a share) and harmfulness of GPT-3.5-Turbo in the paper's main table. Columns: defense, metric, mean."""
    rows = reported().query("table == 'main' and model == 'GPT-3.5-Turbo' and metric in ('asr', 'harmfulness')")
    rows = rows.rename(columns={"setting": "defense"})
    share = rows["value"].where(rows["metric"] != "asr", rows["value"] / 100)
    return rows[["defense", "metric"]].assign(mean=share).reset_index(drop=True)


def summary(found: list[dict], metrics: tuple[str, ...] = SAFE) -> pd.DataFrame:
    """Shares with their Wilson interval over requests, one row per record, condition and metric: one fine-tuned model
    each, so that no interval speaks about other seeds.

    Columns: defense, source (the model's name), seed, condition, deployed, metric, mean, low, high, n, no_answer (how
    many of all requests were left without an answer, and why where the record knows).
    """
    of = {record["key"]: record for record in found}
    rows = records.table(found).rename(columns={"value": "mean"}).reindex(columns=["key", "outcomes", *SUMMARY])
    rows = rows[rows["metric"].isin(metrics)]
    intervals = [statistics.wilson(marks.count("1"), len(marks)) for marks in rows["outcomes"]]
    told = rows.assign(
        source=[of[key]["run"]["model"] for key in rows["key"]],
        low=[low for low, _ in intervals],
        high=[high for _, high in intervals],
        no_answer=[_unanswered(of[row.key], row.condition) for row in rows.itertuples()],
    )
    return told[SUMMARY].astype({"deployed": bool})


def _unanswered(record: dict, condition: str) -> str:
    """Such as "3 (2 blocked, 1 reasoning only)"."""
    why = record["items"].get("no_answer", {}).get(condition, {})
    told = ", ".join(f"{count} {reason}" for reason, count in why.items())
    return f"{record['data']['empty'][condition]}{f' ({told})' if told else ''}"


def beside_paper(found: list[dict]) -> pd.DataFrame:
    """For `figures.arms` with hue "source", arms as deployed: the paper's ASR first, then SAFE of every model."""
    theirs = paper().assign(source=PAPER)
    theirs = theirs[theirs["metric"] == "asr"].assign(low=theirs["mean"], high=theirs["mean"])
    ours = summary(found)
    return pd.concat([theirs, ours[ours["deployed"]][[*theirs.columns]]] if len(ours) else [theirs], ignore_index=True)


def table(found: list[dict]) -> pd.DataFrame:
    """The paper's numbers beside every evaluated model as deployed: one row per arm and model."""
    theirs = paper().pivot(index="defense", columns="metric", values="mean").reindex(["initial", *HEADLINE])
    shown = {"paper, keyword ASR": theirs["asr"].map("{:.3f}".format, "ignore")}
    shown |= {"paper, harmfulness": theirs["harmfulness"].map("{:.2f}".format, "ignore")}
    ours = summary(found)
    ours = ours[ours["deployed"]]
    rows = []
    for arm, numbers in pd.DataFrame(shown).to_dict("index").items():
        row = {"arm": labels.arm(arm).title, **numbers}
        models = ours[ours["defense"] == arm].groupby(["source", "seed"], sort=False)
        rows += [row | {"model": model} | _cells(cells) for (model, _), cells in models]
        if not len(models):
            rows.append(row | {"model": "no records at hand"})
    return pd.DataFrame(rows).fillna("–").set_index("arm")


def conditions(found: list[dict]) -> pd.DataFrame:
    """Every evaluated model in every condition: one row each, with the number of requests without an answer."""
    cells = summary(found)
    if cells.empty:
        return tables.nothing("no model was evaluated: name models, as the end of this page shows")
    rows = [
        {"arm": labels.arm(arm).title, "model": model, "seed": seed, "served": labels.title(condition)}
        | _cells(part)
        | {"no answer": part["no_answer"].iloc[0]}
        for (arm, model, seed, condition), part in cells.groupby(["defense", "source", "seed", "condition"], sort=False)
    ]
    return pd.DataFrame(rows).set_index("arm")


def judged(found: list[dict]) -> pd.DataFrame:
    """What further judges gave to the answers to restricted requests: one row per model, condition and judge."""
    rows = judgements.table(found)
    if rows.empty:
        return tables.nothing("no judgements at hand: `python -m bsa_study.judging` makes them")
    models = {record["key"]: record["run"]["model"] for record in found}
    score = labels.metric("harmfulness").title
    shown = rows.assign(
        arm=rows["defense"].map(lambda arm: labels.arm(arm).title),
        model=rows["key"].map(models),
        served=rows["condition"].map(labels.CONDITIONS),
        **{score: rows["value"].map(lambda value: "–" if pd.isna(value) else f"{value:.2f}")},
    )
    return shown.set_index("arm")[["model", "seed", "served", "judge", score, "n", "unparsable"]]


def _cells(rows: pd.DataFrame) -> dict:
    """Metric and n -> share with its interval."""
    titles = [f"{labels.metric(row.metric).title} (n = {row.n})" for row in rows.itertuples()]
    return dict(zip(titles, labels.intervals(rows), strict=True))
