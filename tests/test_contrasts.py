"""Questions asked of tables, and what intervals answer."""

import pandas as pd
import pytest

from bsa_study import contrasts
from bsa_study.contrasts import Contrast


def table() -> pd.DataFrame:
    """Two arms of five seeds: one answers everything, the other nearly nothing; a third was not measured."""
    texts = {"none": ["1" * 40] * 5, "bsa": ["0" * 39 + "1"] * 5}
    return pd.DataFrame(
        {"defense": arm, "metric": "asr", "seed": seed, "deployed": True, "condition": "plain", "outcomes": text}
        for arm, runs in texts.items()
        for seed, text in enumerate(runs)
    )


def ask(first: str, second: str, **where) -> Contrast:
    return Contrast("main", f"{first} above {second}", "asr", {"defense": first, **where}, {"defense": second, **where})


def test_answers_follow_the_intervals():
    rows = contrasts.answered([ask("none", "bsa"), ask("bsa", "none"), ask("bsa", "bsa")], {"main": table()})
    assert list(rows["holds"]) == ["yes", "no", "open"]
    assert rows["difference"].tolist() == pytest.approx([39 / 40, -39 / 40, 0])
    assert (rows["p (Holm)"] >= rows["p"]).all() and rows["p (Holm)"].iloc[0] < 0.001


def test_an_answer_needs_the_corrected_p_as_well():
    """Nine differences among 40 prompts, always the same way: p = 0.004, but not after correction for 20 questions."""
    texts = {"none": "1" * 9 + "0" * 31, "bsa": "0" * 40}
    rows = pd.DataFrame(
        {"defense": arm, "metric": "asr", "seed": 0, "deployed": True, "outcomes": text} for arm, text in texts.items()
    )
    assert contrasts.answered([ask("none", "bsa")], {"main": rows})["holds"].tolist() == ["yes"]
    assert set(contrasts.answered([ask("none", "bsa")] * 20, {"main": rows})["holds"]) == {"open"}


def test_what_was_not_measured_is_left_out_and_does_not_count_for_holm():
    alone = contrasts.answered([ask("none", "bsa")], {"main": table()})
    more = contrasts.answered([ask("none", "bsa"), ask("none", "balanced-bsa")], {"main": table()})
    assert alone.equals(more)


def test_cells_are_as_deployed_unless_they_name_a_condition():
    hidden = table().assign(deployed=False)
    assert contrasts.answered([ask("none", "bsa")], {"main": hidden}).empty
    assert len(contrasts.answered([ask("none", "bsa", condition="plain")], {"main": hidden})) == 1


def test_nothing_measured():
    rows = contrasts.answered([ask("none", "bsa")], {"main": pd.DataFrame()})
    assert rows.empty and {"holds", "p (Holm)", "difference"} <= set(rows)
