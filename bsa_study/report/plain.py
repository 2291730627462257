"""How a table is shown: whole, and with its texts as they are, whatever a row or an answer holds."""

import pandas as pd
from pandas.io.formats.style import Styler

# tables are shown whole: no cell is cut, no row and no column left out; and as they are: a "$" begins no formula
pd.set_option("display.max_colwidth", None, "display.max_rows", None, "display.max_columns", None)
pd.set_option("display.html.use_mathjax", False, "styler.html.mathjax", False)


def nothing(told: str = "no records at hand") -> pd.DataFrame:
    """In place of a table that would be empty."""
    return pd.DataFrame({"": [told]}).set_index("")


def note(told: str = "no records at hand", title: str = "") -> Styler:
    """`nothing` in place of a Styler."""
    return pd.DataFrame({title: [told]}).style.hide()


def plain(frame: pd.DataFrame) -> Styler:
    """A table whose texts are shown as they are, uncut and aligned left: no tag in them is one of the page."""
    shown = frame.style.format(escape="html").set_properties(**{"text-align": "left"})
    return shown.format_index(escape="html").format_index(escape="html", axis="columns")


def texts(rows) -> Styler:
    """Rows of text, `plain` and without their numbers."""
    return plain(pd.DataFrame(rows)).hide()
