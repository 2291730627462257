"""Questions of the form "does this cell's metric lie above that one's?", read from book/questions.yaml and answered.

One rule decides everywhere, in the chapters and in the claims. Two cells are compared by their paired difference, with
the interval and the p-value of `statistics.difference`. The p-values are corrected (Holm) over all questions of a
chapter. A question about the attack success rate is decided by what the answers hold, where the policy can tell
(`asr_content`). The rate by keywords, which the paper reports, stands beside it and decides nothing.

    yes             the corrected p is below 0.05, and the difference lies above zero
    no              the corrected p is below 0.05, and the difference lies below zero: the opposite is established
    undecided       neither
    too few seeds   fewer than three: their spread says nothing about other seeds

Where a control fails, `gates.judged` puts "not tested: the control fails" in the verdict's place.
"""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from bsa_core import paths, reading, tasks
from bsa_core.arms import defenses
from bsa_core.progress import brief, cut
from bsa_study import labels, statistics

LEVEL = 0.05  # of the corrected p
SEEDS = 3  # the fewest that a verdict rests on
FAILED = "not tested: the control fails"
DECIDES = {"asr": "asr_content"}  # asked -> decides, where it was measured
BESIDE = {"asr_content": "asr", "seconds": "tokens"}  # decides -> stands beside
COSTS = ("tokens", "seconds")
MEASURED = ["metric", "difference", "low", "high", "n", "seeds", "secrets", "p"]  # columns of `measure`
MEASURED += ["beside", "beside_difference", "beside_low", "beside_high"]
COLUMNS = ("defense", "condition", "task", "variant", "n_attack", "n_defense")  # that select a cell


@dataclass(frozen=True)
class Contrast:
    """The difference first - second of a metric between two cells of the table called `source`.

    first, second: column -> value. Cells are as deployed, unless they name a condition. `second` may be a number: what
    the mean of the first is held against. statement: what a positive difference says.
    """

    source: str
    metric: str
    first: dict
    second: dict | float
    statement: str = ""

    def __post_init__(self):
        if not isinstance(self.source, str) or not isinstance(self.statement, str):
            raise ValueError(f"source or statement is {brief((self.source, self.statement))}; expected two texts")
        metrics = [name for name in labels.METRICS if (name in COSTS) == (self.source == "cost")]
        if self.metric not in metrics:
            raise ValueError(f"metric is {brief(self.metric)}; expected one of {', '.join(metrics)}")
        _check_cell("first", self.first)
        if isinstance(self.second, dict):
            _check_cell("second", self.second)
            return
        low, high = labels.metric(self.metric).scale
        if not (type(self.second) in (float, int) and low < self.second < high):
            raise ValueError(
                f"second is {brief(self.second)}; expected a cell or a number between {low:g} and {high:g}"
            )


def _check_cell(name: str, cell) -> None:
    if not isinstance(cell, dict) or not cell:
        raise ValueError(f"{name} is {brief(cell)}; expected an arm, [arm, variant], or values of {', '.join(COLUMNS)}")
    if unknown := [column for column in cell if column not in COLUMNS]:
        raise ValueError(f"{name}: column {brief(unknown[0])} is unknown; expected {', '.join(COLUMNS)}")
    known = {"defense": {**labels.ARMS, **defenses.DEFENSES}, "condition": labels.CONDITIONS, "task": tasks.BUILDERS}
    for column, values in known.items():
        if column in cell and cell[column] not in [*values]:
            raise ValueError(f"{name}: {column} is {brief(cell[column])}; expected one of {', '.join(values)}")


def build(kind: type[Contrast], entry, where: str):
    """A contrast from an entry of a YAML file, in which a cell may be short: `bsa`, or [bsa, variant].

    ValueError says `where`, and which field is wrong.
    """
    known = [field.name for field in fields(kind)]
    try:
        if not isinstance(entry, dict):
            raise ValueError(f"found {brief(entry)}; expected the fields {', '.join(known)}")
        if unknown := [name for name in entry if name not in known]:
            raise ValueError(f"field {brief(unknown[0])} is unknown; expected {', '.join(known)}")
        if missing := [name for name in ("source", "metric", "first", "second") if name not in entry]:
            raise ValueError(f"field {missing[0]!r} is missing")
        return kind(**{**entry, "first": _cell(entry["first"]), "second": _cell(entry["second"])})
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _cell(given):
    if isinstance(given, str):
        return {"defense": given}
    if isinstance(given, list) and len(given) == 2:
        return dict(zip(("defense", "variant"), given, strict=True))
    return given


def read(name: str):
    """What a YAML file of the book holds; ValueError: see `reading.from_yaml`."""
    return reading.from_yaml(paths.BOOK / name, "YAML")


def listed(entries, where: str) -> list:
    """The entries of a list in a file; ValueError that says `where` when there is no list."""
    if not isinstance(entries, list):
        raise ValueError(f"{where}: found {brief(entries)}; expected a list")
    return entries


def load(chapter: str) -> list[Contrast]:
    """The questions of a chapter in book/questions.yaml; ValueError names file, chapter, number and field."""
    chapters, path = read("questions.yaml"), paths.BOOK / "questions.yaml"
    if not isinstance(chapters, dict) or chapter not in chapters:
        known = ", ".join(map(str, chapters)) if isinstance(chapters, dict) else "none"
        raise ValueError(f"{path}: no chapter {chapter!r}; its chapters are {cut(known)}")
    entries = enumerate(listed(chapters[chapter], f"{path}, {chapter}"), start=1)
    return [build(Contrast, entry, f"{path}, {chapter}, question {number}") for number, entry in entries]


def _measured(table: pd.DataFrame, contrast: Contrast, metric: str) -> pd.Series | None:
    """`statistics.contrast` of two cells, or None where one of them was not measured."""
    cells = [
        where if not isinstance(where, dict) or "condition" in where else {**where, "deployed": True}
        for where in (contrast.first, contrast.second)
    ]
    try:
        return statistics.contrast(table, *cells, metric)
    except statistics.Unpaired:
        return None


def measure(table: pd.DataFrame, contrast: Contrast) -> pd.Series | None:
    """The contrast of two cells, or None where one of them was not measured.

    Fields: metric (that decides), those of `statistics.difference`, of which p is missing below 3 seeds, and beside,
    beside_difference, beside_low, beside_high of the metric that stands beside ("" and missing without one). Where some
    of the runs lack the metric that should decide, the one that was asked about does.
    """
    if table.empty:
        return None
    asked = _measured(table, contrast, contrast.metric)
    name = DECIDES.get(contrast.metric, contrast.metric)
    told = asked if name == contrast.metric else _measured(table, contrast, name)
    if told is None or (asked is not None and told["seeds"] * told["secrets"] < asked["seeds"] * asked["secrets"]):
        name, told = contrast.metric, asked
    if told is None:
        return None
    beside = _measured(table, contrast, BESIDE[name]) if name in BESIDE else None
    told = pd.concat([pd.Series({"metric": name}), told, pd.Series({"beside": "" if beside is None else BESIDE[name]})])
    for field in ("difference", "low", "high"):
        told[f"beside_{field}"] = np.nan if beside is None else beside[field]
    if told["seeds"] < SEEDS:
        told["p"] = np.nan
    return told


def with_holm(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column "p (Holm)": corrected for the number of those that have a p, so that any false finding is
    as rare as the level says (Holm 1979)."""
    p = rows["p"].dropna().astype(float)
    corrected = multipletests(p, method="holm")[1] if len(p) else []
    return rows.assign(**{"p (Holm)": pd.Series(corrected, p.index, dtype=float)})


def verdict(row: pd.Series) -> str:
    """What a row with difference, seeds and "p (Holm)" says, see above."""
    if row["seeds"] < SEEDS:
        return "too few seeds"
    return "undecided" if row["p (Holm)"] >= LEVEL else "yes" if row["difference"] > 0 else "no"


def answered(questions: list[Contrast], tables: dict[str, pd.DataFrame], by: str | None = None) -> pd.DataFrame:
    """One row per question that can be answered, asked of its table, or of the rows of each value of the column `by`.

    Columns: source, `by`, statement, then those of `measure`, p (Holm) over all rows, and `verdict`. ValueError where a
    question's table is not among those given.
    """
    for question in questions:
        if question.source not in tables:
            asked = f"{question.statement!r} is asked of {question.source!r}"
            raise ValueError(f"{asked}; expected one of {', '.join(tables)}")
    values = [None] if by is None else dict.fromkeys(value for table in tables.values() for value in table.get(by, ()))
    rows = []
    for value in values:
        parts = tables if by is None else {name: table[table[by] == value] for name, table in tables.items()}
        for question in questions:
            measured = measure(parts[question.source], question)
            if measured is not None:
                told = {"source": question.source, by: value, "statement": question.statement}
                rows.append({**told, **measured})
    columns = ["source", *([by] if by else []), "statement", *MEASURED]
    answers = with_holm(pd.DataFrame(rows, columns=columns))
    return answers.assign(verdict=[verdict(row) for _, row in answers.iterrows()])


def lines(answers: pd.DataFrame, *columns: str) -> str:
    """One line per answer: its verdict, + or - for the side of the mean difference (0 within 0.1), and its statement
    behind the values of the `columns`."""
    marks = answers["difference"].map(lambda mean: "0" if abs(mean) < 0.1 else "+" if mean > 0 else "-")
    texts = answers[[*columns, "statement"]].agg(": ".join, axis=1) if len(answers) else ()
    return "\n".join(
        f"{verdict:13} {mark} {text}" for verdict, mark, text in zip(answers["verdict"], marks, texts, strict=True)
    )
