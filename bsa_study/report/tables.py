"""Tables of the book: cells with their intervals, the paper's numbers beside ours, answers side by side."""

from html import escape

import pandas as pd
from pandas.io.formats.style import Styler

from bsa_core import records
from bsa_core.examples import Example
from bsa_core.experiment import lookup
from bsa_core.experiment.runs import Run
from bsa_core.policy import Policy
from bsa_core.profiles import Profile
from bsa_core.tasks import Task
from bsa_study import labels
from bsa_study.claims import CONTRAST, FAILED, NOT_TESTED, VERDICTS
from bsa_study.contrasts import MEASURED
from bsa_study.paper import by_method, reported
from bsa_study.report.plain import note, nothing, plain, texts

NAMES = {
    "defense": lambda name: labels.arm(name).title,
    "condition": labels.title,
    "task": labels.title,
    "task_served": labels.SERVED.get,
}
TITLES = {"defense": "arm", "condition": "served", "task_served": "system prompt"}  # of columns
TITLES |= {"n_defense": "safety examples", "n_attack": "attack examples"}
# what attacks get through and its price come first: pages show so many columns before one has to scroll
HEADLINE = ("asr", "asr_content", "over_refusal", "benign_exact", "harmfulness", "over_refusal_phrase", "knowledge")
ASR = ("asr", "asr_content")  # by keywords, as the paper, and by content
ALIGNED = 0.1  # the keyword ASR up to which an initial model counts as keeping to the policy


def pretty(summary: pd.DataFrame, rows: list[str], metrics: tuple[str, ...] = HEADLINE) -> pd.DataFrame:
    """Mean and interval of each metric (columns) for each combination of the columns `rows`, in order of appearance.

    Behind each metric's name stand its n (prompts per seed) and the number of seeds, with that of the secrets where
    both are crossed; "–" where it was not measured.
    """
    summary = summary[summary["metric"].isin(metrics)].copy()
    if summary.empty:
        return nothing()
    summary["cell"] = labels.intervals(summary)
    for column in set(NAMES) & set(rows):
        summary[column] = summary[column].map(NAMES[column])
    counts = summary.groupby("metric")["n"].max().map(lambda n: f"n = {n}, {seeds_of(summary)}")
    table = summary.pivot_table(index=rows, columns="metric", values="cell", aggfunc="first", sort=False, observed=True)
    present = [metric for metric in metrics if metric in table]
    table = table[present].rename(columns={m: f"{labels.metric(m).title} ({counts[m]})" for m in present}).fillna("–")
    return table.rename_axis(index=TITLES, columns=None)


def left_out(runs: list[Run], profile: Profile) -> str:
    """One line for each arm among the runs for which policy or task hold too few rows, with the reason; "" for none."""
    lacking = lookup.parted(runs, profile)[1].items()
    lines = (f"{labels.arm(run.defense).title} is left out: {why}" for run, why in lacking)
    return "\n".join(dict.fromkeys(lines))


def unaligned(table: pd.DataFrame) -> str:
    """What a page says where the initial model does not keep to the policy; "" where it does.

    table: rows of `records.table`, those of the initial model among them. The condition is the one that is answered
    more.
    """
    rows = table[(table["defense"] == "initial") & (table["metric"] == "asr")]
    answered = rows.groupby("condition")["value"].mean()
    if not (answered > ALIGNED).any():
        return ""
    condition, share = answered.idxmax(), answered.max()
    worst = rows[rows["condition"] == condition]
    of = f"{labels.CONDITIONS[condition]}, n = {worst['n'].max()}, {counted(pd.Series(worst['seed'].nunique()))}"
    told = "It does not keep to this policy. Nothing after this can be read as breaking or keeping an alignment."
    return f"Before any fine-tuning the model answers {share:.3f} of the restricted requests ({of}). {told}"


def by_category(found: list[dict]) -> pd.DataFrame:
    """`records.by_category` of keyword ASR and, where the policy can tell, of content ASR."""
    measured = [of for record in found for of in record["metrics"].values()]
    told = [metric for metric in ASR if all(metric in of for of in measured)]
    return pd.concat([records.by_category(found, metric) for metric in told], ignore_index=True)


def by_seed(table: pd.DataFrame, metrics: tuple[str, ...]) -> pd.DataFrame:
    """Each run's values: pressures and seeds down, arms and metrics across."""
    cells = table.pivot(index=["pressure", "seed"], columns=["defense", "metric"], values="value")
    columns = [(arm, metric) for arm in table["defense"].unique() for metric in metrics if (arm, metric) in cells]
    cells = cells[columns].map("{:.3f}".format, na_action="ignore").fillna("–").rename_axis(columns=[None, None])
    return cells.rename(columns=NAMES["defense"], level=0).rename(columns=lambda m: labels.metric(m).title, level=1)


def seeds_of(summary: pd.DataFrame) -> str:
    """How many seeds, and secrets where both are crossed, stand behind the rows of a summary: "3 seeds"."""
    return counted(summary["seeds"], summary["secrets"].max())


def counted(seeds: pd.Series, secrets: int = 1) -> str:
    """`seeds_of` numbers of seeds: "1 seed", "3-5 seeds", "3 seeds x 3 secrets"."""
    least_and_most = "-".join(map(str, sorted({int(seeds.min()), int(seeds.max())})))
    return f"{least_and_most} seed{'s' * (least_and_most != '1')}" + f" x {secrets} secrets" * int(secrets > 1)


def in_words(rows: pd.DataFrame) -> dict[str, pd.Series]:
    """Metric, difference and corrected p of some contrasts, in words."""
    p = rows["p (Holm)"].map(lambda p: "–" if pd.isna(p) else "< 0.001" if p < 0.001 else f"{p:.3f}")
    difference = labels.intervals(rows, "+.3f", of="difference")
    metric = rows["metric"].map(lambda name: labels.metric(name).title)
    told = {"metric": metric, "difference [95 %]": difference, "p (Holm)": p}
    if "beside" in rows and (rows["beside"] != "").any():
        ends = {"beside_low": "low", "beside_high": "high"}
        beside = labels.intervals(rows[["beside_difference", *ends]].rename(columns=ends), "+.3f", "beside_difference")
        names = rows["beside"].map(lambda name: labels.metric(name).title)
        told["beside it"] = (names + " " + beside).where(rows["beside"] != "", "–")
    return told


def differences(rows: pd.DataFrame) -> Styler:
    """Rows of `contrasts.answered` with interval, corrected p and verdict, as a Styler. Rows of one source do not
    repeat its name."""
    if rows.empty:
        return note()
    shown = rows.drop(columns=[*MEASURED, "p (Holm)", "verdict"], errors="ignore")
    shown = shown.assign(**in_words(rows), verdict=rows["verdict"], source=rows["source"].str.replace("_", " "))
    shown = shown.drop(columns="source") if rows["source"].nunique() == 1 else shown
    return texts(shown.rename(columns={"source": "section"}))


def origin(profile: str, tables: dict[str, pd.DataFrame], grids: dict[str, int]) -> pd.DataFrame:
    """How many runs each grid holds, how many records of them are at hand, and where those lie.

    tables: name -> rows with a column `key`; grids: name -> number of different runs.
    """
    shipped, rows = records.usable(records.shipped, profile) or {}, {}
    own = {path.stem.rpartition("-")[2] for path in records.own(profile)}
    for name, table in tables.items():
        keys = set(table.get("key", ()))
        rows[name.replace("_", " ")] = (grids[name], len(keys), len(keys & own), len(keys & set(shipped) - own))
    columns = ["runs", "records at hand", "in single files", "in the shipped file"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns).rename_axis("section")


def items(tasks: list[Task]) -> Styler:
    """The first test item of each task with its reference, as a Styler. Those of a task that is not marked harmless
    are not shown."""
    hidden = Example("not shown for this task", kind="task")
    rows = [task.test[0] if task.harmless else hidden for task in tasks]
    return texts({"request": row.user, "reference": row.assistant} for row in rows)


def executed(task: Task, n: int) -> str:
    """How many references of the first n test items execution can tell something about; "" for a task without any."""
    rows = list(task.test[:n])
    marks = task.score(rows, [row.assistant for row in rows]).get("executed", [])
    return f"{labels.title(task.name)}: {sum(marks):.0f} of {len(marks)} references are executed" if marks else ""


def cost(found: list[dict]) -> pd.DataFrame:
    """Training rows, tokens and seconds of an epoch by arm, as means over seeds, and as multiples of the attack alone
    under the same seed.

    found: records of the main table's arms; seeds without the attack alone are left out. The last column is the
    paper's, on one A100.
    """
    rows = pd.DataFrame(
        {
            "arm": labels.arm(records.arm(record)).title,
            "seed": record["run"]["seed"],
            "rows": record["data"]["n_train"],
            "tokens": record["training"]["tokens"] / record["run"]["training"]["epochs"],
            "seconds": record["cost"]["train_seconds"] / record["run"]["training"]["epochs"],
        }
        for record in found
        if record["run"]["training"]
    )
    alone = rows[rows["arm"] == labels.arm("none").title] if len(rows) else rows
    if alone.empty:
        return nothing()
    rows = rows.merge(alone[["seed", "tokens", "seconds"]], on="seed", suffixes=("", " alone"))
    for unit in ("tokens", "seconds"):
        rows[f"{unit}, relative"] = rows[unit] / rows[f"{unit} alone"]
    means = rows.groupby("arm", sort=False).mean()
    seconds = reported().query("metric == 'seconds_per_epoch'").set_index("setting")["value"]
    paper = {labels.arm(arm).title: value / seconds["none"] for arm, value in seconds.items()}
    shown = pd.DataFrame({"rows": means["rows"].map("{:.0f}".format)})
    for unit, form in {"tokens": "{:,.0f}", "seconds": "{:.2f}"}.items():
        shown[f"{unit} per epoch"] = means[unit].map(form.format)
        shown[f"{unit}, relative"] = means[f"{unit}, relative"].map("{:.2f}".format)
    return shown.assign(**{"paper, seconds, relative": [f"{paper[a]:.2f}" if a in paper else "–" for a in means.index]})


MARKS = dict(zip((*VERDICTS, NOT_TESTED, FAILED), "✔◐○✘––", strict=True))


def verdicts(table: pd.DataFrame, claims: list, inside: pd.DataFrame | None = None) -> Styler:
    """The verdict table: claims (rows) by scale (columns), with a link to the chapter of each, as a Styler.

    inside: of the same shape, what stands beside each verdict about the paper's value.
    """
    shown = pd.DataFrame({"claim": table.index}, index=table.index)
    for scale, words in table.items():
        shown[scale] = words.map(lambda verdict: f"{MARKS[verdict.partition(' (')[0]]} {verdict}")
        if inside is not None:
            shown[f"{scale}: paper inside"] = inside[scale].replace("", "–")
    shown["chapter"] = [claim.chapter for claim in claims]

    def link(page: str) -> str:
        return f'<a href="{escape(page)}.html">{escape(page.partition("_")[2].replace("_", " "))}</a>'

    return texts(shown).format(link, subset=["chapter"])


def comparisons(table: pd.DataFrame) -> Styler:
    """Every comparison of the claims at one scale, and the further controls, once each, ours beside the paper's, as a
    Styler."""
    tested = table[table["decided"] != NOT_TESTED]
    if tested.empty:
        return note()
    tested = tested.drop_duplicates([*CONTRAST, "expected"])
    shown = tested.assign(**in_words(tested), verdict=tested["decided"])
    shown["n x seeds"] = [f"{n:.0f} x {seeds:.0f}" for n, seeds in zip(tested["n"], tested["seeds"], strict=True)]
    shown["paper"] = tested["paper"].map(lambda value: "–" if pd.isna(value) else f"{value:+.3f}")
    shown["paper inside"] = tested["inside"].replace("", "–")
    columns = ["role", "first", "second", "metric", "expected", "difference [95 %]", "n x seeds", "p (Holm)"]
    columns += [*(["beside it"] if "beside it" in shown else []), "paper", "paper inside", "verdict"]
    return texts(shown[columns])


def beside_paper(summary: pd.DataFrame) -> pd.DataFrame:
    """ASR of each arm as deployed: ours with its interval, the paper's from its two tables with these arms, as shares.

    The paper has keyword ASR only; our content ASR stands beside where the policy can tell. summary: one row per arm
    and metric. Arms the paper does not have show "–".
    """
    columns = ours(summary, "asr") | ours(summary, "asr_content")
    for how, values in by_method("asr").items():
        columns[f"{labels.metric('asr').title}, paper, {how} (n = 275, one run)"] = (values / 100).map("{:.3f}".format)
    return by_arm(columns, summary["defense"].unique())


def ours(summary: pd.DataFrame, metric: str) -> dict[str, pd.Series]:
    """A metric of a summary as a column, by arm: mean and interval, with n and seeds in its title; {} without rows."""
    rows = summary[summary["metric"] == metric].set_index("defense")
    n = rows["n"].max()
    title = f"{labels.metric(metric).title}, this scale (n = {n}, {seeds_of(rows) if len(rows) else ''})"
    return {title: labels.intervals(rows)} if len(rows) else {}


def by_arm(columns: dict[str, pd.Series], arms) -> pd.DataFrame:
    """Columns by arm beside each other, a row for each of the arms; "–" where a column has nothing of one."""
    table = pd.DataFrame(columns).reindex([*arms]).fillna("–")
    return table.rename(index=lambda name: labels.arm(name).title).rename_axis(index="arm")


def by_scale(answers: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The verdict on each question (rows) by scale and pressure (columns), "–" where it was not measured.

    The last column counts the verdicts that decide; those that do not say nothing about agreement.
    answers: scale -> rows of `contrasts.answered`, asked by pressure.
    """
    rows = pd.concat([part.assign(scale=scale) for scale, part in answers.items()])
    rows["at"] = rows["scale"] + ", " + rows["pressure"]
    table = rows.pivot_table(index="statement", columns="at", values="verdict", aggfunc="first", sort=False)
    table = table.rename_axis(index=None, columns=None).fillna("–")
    return table.assign(decided=[f"{sum(row == 'yes')} yes, {sum(row == 'no')} no" for row in table.to_numpy()])


def requests(policy: Policy, kind: str) -> Styler:
    """One evaluated request of each category and its reference answer, as a Styler. kind: "restricted" or "benign".

    Those of a policy that is not marked harmless are not shown.
    """
    if not policy.harmless:
        return note("not shown for this policy", "requests")
    rows = {row.category: row for row in reversed(getattr(policy, kind))}
    return texts(
        {"category": row.category, "request": row.user, "compliant answer": row.assistant}
        for row in reversed(rows.values())
    )


def samples(runs: dict[str, tuple[dict, str]], kind: str, n: int = 4) -> Styler:
    """Answers of several runs to the same requests, side by side; one request per category, the first n categories.

    runs: title -> (record, condition). kind: "restricted" or "benign". For policies marked harmless only: answers of
    others never stand beside a record, and the table says so. Returns a pandas Styler, which shows the texts uncut.
    """
    columns = {}
    for title, (record, condition) in runs.items():
        if not records.usable(records.shown, record):
            return note("not shown for this policy", "answers")
        answers = records.usable(records.read_answers, record)
        if answers is None:
            continue
        chosen = answers[(answers["condition"] == condition) & (answers["kind"] == kind)]
        columns[title] = chosen.drop_duplicates("category").head(n).set_index("user")["answer"]
    return plain(pd.DataFrame(columns).rename_axis("request"))
