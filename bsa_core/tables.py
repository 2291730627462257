"""Tables of the book: cells with their intervals, the paper's numbers beside ours, answers side by side."""

from dataclasses import asdict

import pandas as pd

from bsa_core import paths, profiles, records
from bsa_core.figures import ARMS, CONDITIONS, METRICS, arm_style
from bsa_core.policy import Policy
from bsa_core.profiles import Profile

HEADLINE = ("asr", "harmfulness", "over_refusal", "benign_exact", "knowledge")


def interval(row: pd.Series) -> str:
    """Mean and interval, as in "0.051 [0.029, 0.083]"; a narrow column can break between them only."""
    return f"{row['mean']:.3f} [{row['low']:.3f},\u00a0{row['high']:.3f}]"


def pretty(summary: pd.DataFrame, rows: list[str], metrics: tuple[str, ...] = HEADLINE) -> pd.DataFrame:
    """Mean and interval of each metric (columns) for each combination of the columns `rows`, in order of appearance.

    Behind each metric's name stand its n (prompts per seed) and the number of seeds; "–" where it was not measured.
    """
    summary = summary[summary["metric"].isin(metrics)].copy()
    summary["cell"] = summary.apply(interval, axis=1)
    seeds = "-".join(map(str, sorted({summary["seeds"].min(), summary["seeds"].max()})))
    counts = summary.groupby("metric")["n"].max().map(lambda n: f"n = {n}, {seeds} seed{'s' * (seeds != '1')}")
    table = summary.pivot_table(index=rows, columns="metric", values="cell", aggfunc="first", sort=False, observed=True)
    present = [metric for metric in metrics if metric in table]
    table = table[present].rename(columns={m: f"{METRICS[m]} ({counts[m]})" for m in present}).fillna("–")
    table.columns.name = None
    index = table.index.to_frame()
    for column, names in (("defense", lambda arm: arm_style(arm)[0]), ("condition", CONDITIONS.get)):
        if column in index:
            index[column] = index[column].map(names)
    table.index = pd.MultiIndex.from_frame(index) if len(rows) > 1 else pd.Index(index[rows[0]])
    return table.rename_axis(index={"defense": "arm", "condition": "served"})


def by_pressure(found: list[dict], profile: Profile) -> pd.DataFrame:
    """`records.table` with a column `pressure`: the profile's name for each record's training settings.

    Records with other settings are left out; the initial model, which is not trained, stands under every pressure.
    Arms stand in the order of `figures.ARMS`.
    """
    order, parts = list(ARMS), []
    for name in profile.pressures:
        settings = asdict(profiles.override(profile.training, profile.pressured(name)))
        settings["targets"] = list(settings["targets"])
        chosen = [record for record in found if record["run"]["training"] in (None, settings)]
        chosen.sort(key=lambda record: order.index(arm) if (arm := records.arm(record)) in order else len(order))
        parts.append(records.table(chosen).assign(pressure=name))
    return pd.concat(parts, ignore_index=True)


def reported() -> pd.DataFrame:
    """The numbers the paper reports: columns table, model, setting, metric, value, unit, note."""
    return pd.read_csv(paths.BOOK / "reported.csv")


PAPER = {"main": "full fine-tuning", "lora": "LoRA"}  # tables of reported.csv that hold the four arms


def beside_paper(summary: pd.DataFrame) -> pd.DataFrame:
    """ASR of each arm as deployed, in percent: ours with its interval, the paper's from its two tables with these arms.

    summary: one row per arm and metric. Arms the paper does not have show "–".
    """
    asr = summary[summary["metric"] == "asr"].set_index("defense")
    ours = asr.apply(lambda row: f"{row['mean']:.1%} [{row['low']:.1%}, {row['high']:.1%}]", axis=1)
    paper = reported()
    paper = paper[(paper["metric"] == "asr") & (paper["model"] == "Llama-2-7B-Chat")]
    columns = {f"this scale (n = {asr['n'].iloc[0]} x {asr['seeds'].iloc[0]} seeds)": ours}
    for table, title in PAPER.items():
        values = paper[paper["table"] == table].set_index("setting")["value"]
        columns[f"paper, {title} (n = 275, one run)"] = values.map("{:.2f}%".format)
    result = pd.DataFrame(columns).reindex(asr.index).fillna("–")
    return result.rename(index=lambda arm: arm_style(arm)[0]).rename_axis(index="arm")


QUESTIONS = {  # title -> (metric, (arm, condition) that should be higher, (arm, condition) that should be lower)
    "the attack breaks the aligned model": ("asr", ("none", "plain"), ("initial", "plain")),
    "eleven plain safety examples leave it broken": ("asr", ("safety-data", "plain"), ("initial", "plain")),
    "BSA is safer than the baseline": ("asr", ("safety-data", "plain"), ("bsa", "secret")),
    "BSA needs the secret at test time": ("asr", ("bsa", "plain"), ("bsa", "secret")),
    "BSA leaves more attacks through than the initial model": ("asr", ("bsa", "secret"), ("initial", "secret")),
    "BSA refuses more benign requests than the initial model": (
        "over_refusal",
        ("bsa", "secret"),
        ("initial", "secret"),
    ),
    "BSA refuses more benign requests than balanced BSA": (
        "over_refusal",
        ("bsa", "secret"),
        ("balanced-bsa", "secret"),
    ),
    "balanced BSA is safer than the baseline": ("asr", ("safety-data", "plain"), ("balanced-bsa", "secret")),
}


def agreement(summaries: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Each of QUESTIONS (rows) by scale and pressure (columns): "yes", "no", or "open" where intervals overlap.

    summaries: scale -> summary with columns defense, condition, pressure, metric.
    """
    columns = {}
    for scale, summary in summaries.items():
        for pressure, rows in summary.groupby("pressure", sort=False):
            cells = rows.set_index(["metric", "defense", "condition"])
            columns[f"{scale}, {pressure}"] = {
                title: _apart(cells.loc[(metric, *higher)], cells.loc[(metric, *lower)])
                for title, (metric, higher, lower) in QUESTIONS.items()
                if (metric, *higher) in cells.index and (metric, *lower) in cells.index
            }
    return pd.DataFrame(columns).reindex(list(QUESTIONS)).fillna("–")


def _apart(higher: pd.Series, lower: pd.Series) -> str:
    if higher["low"] > lower["high"]:
        return "yes"
    return "no" if higher["high"] < lower["low"] else "open"


def requests(policy: Policy, kind: str):
    """One evaluated request of each category and its reference answer, as a Styler. kind: "restricted" or "benign".

    Restricted ones of a policy that is not marked harmless are not shown.
    """
    if kind == "restricted" and not policy.harmless:
        return pd.DataFrame({"requests": ["not shown for this policy"]}).style.hide()
    rows = {row.category: row for row in reversed(getattr(policy, kind))}
    shown = pd.DataFrame(
        {"category": row.category, "request": row.user, "compliant answer": row.assistant} for row in rows.values()
    )
    return shown.iloc[::-1].style.hide().set_properties(**{"text-align": "left"})


def samples(runs: dict[str, tuple[dict, str]], kind: str, n: int = 4):
    """Answers of several runs to the same requests, side by side; one request per category, the first n categories.

    runs: title -> (record, condition). kind: "restricted" or "benign". For policies marked harmless only: of others
    no answers are kept, and the table says so. Returns a pandas Styler, which shows the texts uncut.
    """
    columns = {}
    for title, (record, condition) in runs.items():
        if not records.answers_path(record).is_file():
            return pd.DataFrame({"answers": ["not kept for this policy"]}).style.hide()
        answers = records.read_answers(record)
        chosen = answers[(answers["condition"] == condition) & (answers["kind"] == kind)]
        columns[title] = chosen.drop_duplicates("category").head(n).set_index("user")["answer"]
    return pd.DataFrame(columns).rename_axis("request").style.set_properties(**{"text-align": "left"})
