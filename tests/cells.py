"""One cell of a summary, looked up by its values."""

import pandas as pd


def one_cell(summary: pd.DataFrame, **where) -> pd.Series:
    """The one row of a summary with these values; fails when there is none or more than one."""
    chosen = summary
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    assert len(chosen) == 1, f"{len(chosen)} rows of the summary match {where}; expected one"
    return chosen.iloc[0]
