"""Questions of the form "is this cell's metric higher than that one's?", asked of tables and answered by intervals."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bsa_study import statistics

LEVEL = 0.05  # of the corrected p


@dataclass(frozen=True)
class Contrast:
    """A statement that the metric of the first cell lies above that of the second, in the table called `source`.

    first, second: column -> value. Cells are as deployed, unless they name a condition.
    """

    source: str
    statement: str
    metric: str
    first: dict
    second: dict


def measure(table: pd.DataFrame, metric: str, first: dict, second: dict) -> pd.Series | None:
    """`statistics.contrast` of two cells, or None where one of them was not measured."""
    if table.empty:
        return None
    cells = [where if "condition" in where else {**where, "deployed": True} for where in (first, second)]
    try:
        return statistics.contrast(table, *cells, metric)
    except statistics.Unpaired:
        return None


def side(contrast: pd.Series) -> str:
    """ "yes" where the whole interval lies above zero, "no" where it lies below, else "open"."""
    return "yes" if contrast["low"] > 0 else "no" if contrast["high"] < 0 else "open"


def with_holm(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column "p (Holm)", corrected over those that have a p."""
    rows = rows.assign(**{"p (Holm)": np.nan})
    if "p" in rows and (tested := rows["p"].notna()).any():
        rows.loc[tested, "p (Holm)"] = statistics.holm(rows.loc[tested, "p"].astype(float))
    return rows


def answered(questions: list[Contrast], tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """One row per question that can be answered. Columns: source, statement, metric, difference, low, high, n, seeds,
    secrets, effect, p, p (Holm) over all rows, and `holds`: "yes" or "no" where the whole interval lies on one side of
    zero and the corrected p is below 0.05, else "open".
    """
    rows = []
    for question in questions:
        contrast = measure(tables[question.source], question.metric, question.first, question.second)
        if contrast is not None:
            told = {"source": question.source, "statement": question.statement, "metric": question.metric}
            rows.append({**told, **contrast, "holds": side(contrast)})
    columns = ["source", "statement", "metric", "difference", "low", "high", "n", "seeds", "secrets", "effect", "p"]
    answers = with_holm(pd.DataFrame(rows, columns=[*columns, "holds"]))
    answers.loc[answers["p (Holm)"] >= LEVEL, "holds"] = "open"
    return answers
