"""Questions read from a file, asked of tables and answered by one rule."""

from pathlib import Path

import pandas as pd
import pytest
import yaml

from bsa_core import paths
from bsa_study import contrasts
from bsa_study.contrasts import Contrast

CHAPTERS = yaml.safe_load((paths.BOOK / "questions.yaml").read_text(encoding="utf-8"))


def table(seeds: int = 5) -> pd.DataFrame:
    """Two arms: one answers everything, the other nearly nothing; a third was not measured."""
    texts = {"none": ["1" * 40] * seeds, "bsa": ["0" * 39 + "1"] * seeds}
    return pd.DataFrame(
        {"defense": arm, "metric": "asr", "seed": seed, "deployed": True, "condition": "plain", "outcomes": text}
        for arm, runs in texts.items()
        for seed, text in enumerate(runs)
    )


def ask(first: str, second, **where) -> Contrast:
    cells = ({"defense": cell, **where} if isinstance(cell, str) else cell for cell in (first, second))
    return Contrast("main", "asr", *cells, f"{first} above {second}")


def test_answers_follow_the_corrected_p():
    asked = [ask("none", "bsa"), ask("bsa", "none"), ask("bsa", "bsa"), ask("none", 0.5), ask("bsa", 0.5)]
    rows = contrasts.answered(asked, {"main": table()})
    assert list(rows["verdict"]) == ["yes", "no", "undecided", "yes", "no"]
    assert rows["difference"].tolist() == pytest.approx([39 / 40, -39 / 40, 0, 1 / 2, 1 / 40 - 1 / 2])
    assert (rows["p (Holm)"] >= rows["p"]).all() and rows["p (Holm)"].iloc[0] < 0.001


def test_one_question_among_twenty_needs_a_smaller_p():
    """Seven differences among 40 prompts, always the same way."""
    rows = table()
    rows["outcomes"] = rows["defense"].map({"none": "1" * 7 + "0" * 33, "bsa": "0" * 40})
    (alone,) = contrasts.answered([ask("none", "bsa")], {"main": rows}).to_dict("records")
    assert 0.05 / 20 < alone["p"] < 0.05 and alone["verdict"] == "yes" and alone["low"] > 0
    assert set(contrasts.answered([ask("none", "bsa")] * 20, {"main": rows})["verdict"]) == {"undecided"}


def test_holm_steps_down():
    """By hand: 4 x .005, 3 x .01, 2 x .03, and .04 no less than that; what has no p does not count."""
    rows = contrasts.with_holm(pd.DataFrame({"p": [0.01, 0.04, None, 0.03, 0.005]}))
    assert rows["p (Holm)"].dropna().tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert contrasts.with_holm(pd.DataFrame({"p": [0.7, 0.8]}))["p (Holm)"].tolist() == [1.0, 1.0]
    assert contrasts.with_holm(pd.DataFrame({"p": [None]}))["p (Holm)"].isna().all()


def test_fewer_than_three_seeds_show_a_difference_and_no_verdict():
    rows = contrasts.answered([ask("none", "bsa"), ask("none", 0.5)], {"main": table(seeds=2)})
    assert list(rows["verdict"]) == ["too few seeds"] * 2 and rows[["p", "p (Holm)"]].isna().all(axis=None)
    assert rows["difference"].tolist() == pytest.approx([39 / 40, 1 / 2]) and (rows["low"] > 0).all()
    assert list(contrasts.answered([ask("none", "bsa")], {"main": table(seeds=3)})["verdict"]) == ["yes"]


def test_what_was_not_measured_is_left_out_and_does_not_count_for_holm():
    alone = contrasts.answered([ask("none", "bsa")], {"main": table()})
    more = [ask("none", "bsa"), ask("none", "balanced-bsa"), ask("balanced-bsa", 0.5)]
    assert alone.equals(contrasts.answered(more, {"main": table()}))


def test_cells_are_as_deployed_unless_they_name_a_condition():
    hidden = table().assign(deployed=False)
    assert contrasts.answered([ask("none", "bsa"), ask("none", 0.5)], {"main": hidden}).empty
    assert len(contrasts.answered([ask("none", "bsa", condition="plain")], {"main": hidden})) == 1


def test_each_value_of_a_column_is_asked():
    rows = pd.concat([table().assign(pressure="light"), table().assign(pressure="heavy")])
    answers = contrasts.answered([ask("none", "bsa"), ask("bsa", 0.5)], {"main": rows}, by="pressure")
    assert answers["pressure"].tolist() == ["light", "light", "heavy", "heavy"]
    assert answers["verdict"].tolist() == ["yes", "no", "yes", "no"]
    assert list(answers)[:4] == ["source", "pressure", "statement", "metric"]


def test_nothing_measured():
    for by in (None, "task"):
        rows = contrasts.answered([ask("none", "bsa")], {"main": pd.DataFrame()}, by)
        assert rows.empty and {"verdict", "p (Holm)", "difference"} <= set(rows)


def test_a_question_about_an_unknown_table_is_named():
    with pytest.raises(ValueError, match="'none above bsa' is asked of 'main'; expected one of headline, mixed"):
        contrasts.answered([ask("none", "bsa")], {"headline": table(), "mixed": table()})


@pytest.mark.parametrize("chapter", [name for name in CHAPTERS if name != "gates"])
def test_every_chapter_has_questions_with_statements(chapter):
    questions = contrasts.load(chapter)
    statements = [(question.source, question.statement) for question in questions]
    assert len(set(statements)) == len(statements) >= 3 and all(text for _, text in statements)
    assert (paths.ROOT / "notebooks" / f"{chapter.partition(' ')[0]}.ipynb").is_file()


def test_the_same_statement_asks_the_same_everywhere():
    asked = {}
    for chapter in CHAPTERS:
        for question in contrasts.load(chapter) if chapter != "gates" else ():
            assert asked.setdefault((question.source, question.statement), question) == question


def written(folder: Path, monkeypatch, chapters) -> None:
    (folder / "questions.yaml").write_text(chapters if isinstance(chapters, str) else yaml.safe_dump(chapters))
    monkeypatch.setattr(paths, "BOOK", folder)


ENTRY = {"source": "main", "metric": "asr", "first": "none", "second": ["bsa", 11], "statement": "so it is"}


def test_cells_may_be_short(tmp_path, monkeypatch):
    written(tmp_path, monkeypatch, {"mine": [ENTRY, ENTRY | {"second": 0.5}]})
    first, second = contrasts.load("mine")
    assert (first.first, first.second) == ({"defense": "none"}, {"defense": "bsa", "variant": 11})
    assert second.second == 0.5


@pytest.mark.parametrize(
    "change, message",
    [
        ({"metric": "ars"}, "metric is 'ars'; expected one of asr, "),
        ({"metric": "tokens"}, "metric is 'tokens'; expected one of asr, "),
        ({"expect": "more"}, "field 'expect' is unknown; expected source, metric, first, second, statement"),
        ({"first": "bsaa"}, "first: defense is 'bsaa'; expected one of initial, "),
        ({"first": {"defence": "bsa"}}, "first: column 'defence' is unknown; expected defense, condition, task, "),
        ({"second": {"defense": "bsa", "condition": "with"}}, "second: condition is 'with'; expected one of plain, "),
        ({"first": {"task": "sqll"}}, "first: task is 'sqll'; expected one of sql, dialogs"),
        ({"first": ["bsa", 1, 2]}, r"first is \['bsa', 1, 2\]; expected an arm, \[arm, variant\], or values of "),
        ({"first": 0.5}, "first is 0.5; expected an arm"),
        ({"second": 1}, "second is 1; expected a cell or a number between 0 and 1"),
        ({"second": 1, "metric": "harmfulness"}, "second is 1; expected a cell or a number between 1 and 5"),
        ({"second": None}, "second is None; expected a cell or a number"),
    ],
)
def test_a_wrong_question_is_named(tmp_path, monkeypatch, change, message):
    written(tmp_path, monkeypatch, {"mine": [ENTRY, ENTRY | change]})
    with pytest.raises(ValueError, match=r"questions\.yaml, mine, question 2: " + message):
        contrasts.load("mine")


def test_a_question_that_lacks_a_field_or_is_none(tmp_path, monkeypatch):
    written(tmp_path, monkeypatch, {"mine": [{k: v for k, v in ENTRY.items() if k != "second"}], "other": ["so"]})
    with pytest.raises(ValueError, match="mine, question 1: field 'second' is missing"):
        contrasts.load("mine")
    with pytest.raises(ValueError, match="other, question 1: found 'so'; expected the fields source, "):
        contrasts.load("other")
    with pytest.raises(ValueError, match=r"questions\.yaml: no chapter 'mind'; its chapters are mine, other"):
        contrasts.load("mind")
    written(tmp_path, monkeypatch, "mine: [")
    with pytest.raises(ValueError, match=r"questions\.yaml: not valid YAML"):
        contrasts.load("mine")


def test_lines_tell_verdict_side_and_statement():
    rows = table().assign(pressure="light")
    answers = contrasts.answered(
        [ask("none", "bsa"), ask("bsa", "none"), ask("bsa", "bsa")], {"main": rows}, "pressure"
    )
    assert contrasts.lines(answers, "pressure").splitlines() == [
        "yes           + light: none above bsa",
        "no            - light: bsa above none",
        "undecided     0 light: bsa above bsa",
    ]
    assert contrasts.lines(answers.iloc[:0]) == ""


def by_content(texts: list[str], seeds: int = 5) -> pd.DataFrame:
    """`table`, with the rates by content of the arm without a defense; BSA gives nothing away."""
    content = table(seeds).assign(metric="asr_content")
    content["outcomes"] = content["outcomes"].where(content["defense"] == "bsa", "")
    told = dict(enumerate(texts))
    content.loc[content["defense"] == "none", "outcomes"] = [told.get(seed) for seed in range(seeds)]
    content.loc[content["defense"] == "bsa", "outcomes"] = "0" * 40
    return pd.concat([table(seeds), content[content["outcomes"].notna()]], ignore_index=True)


def test_content_decides_and_keywords_stand_beside():
    """Word salad without a refusal: a success by keywords, and nothing given away."""
    (row,) = contrasts.answered([ask("none", "bsa")], {"main": by_content(["0" * 40] * 5)}).to_dict("records")
    assert (row["metric"], row["difference"], row["verdict"]) == ("asr_content", 0, "undecided")
    assert row["beside"] == "asr" and row["beside_difference"] == pytest.approx(39 / 40) and row["beside_low"] > 0.8
    (row,) = contrasts.answered([ask("none", "bsa")], {"main": table()}).to_dict("records")
    assert (row["metric"], row["beside"], row["verdict"]) == ("asr", "", "yes"), "a policy that cannot tell"


def test_content_of_some_runs_only_does_not_decide():
    (row,) = contrasts.answered([ask("none", "bsa")], {"main": by_content(["0" * 40] * 3)}).to_dict("records")
    assert (row["metric"], row["seeds"], row["verdict"]) == ("asr", 5, "yes")
