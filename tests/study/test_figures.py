"""Every figure draws every arm with its interval, on a white ground; tables hold the same numbers."""

import warnings

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from cells import one_cell
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager

from bsa_study import labels, statistics
from bsa_study.report import figures, fonts, tables


@pytest.fixture
def summary():
    rows = [
        {"defense": arm, "condition": condition, "pressure": pressure, "metric": metric, "seed": seed, "outcomes": text}
        for arm, condition in (("initial", "plain"), ("none", "plain"), ("bsa", "secret"))
        for pressure in ("light", "heavy")
        for metric in ("asr", "over_refusal")
        for seed, text in enumerate(("0111", "0011"))
    ]
    return statistics.summarize(pd.DataFrame(rows), ["defense", "condition", "pressure"])


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def intervals(axis) -> int:
    """Error bars drawn on an axis."""
    return len(axis.containers)


def test_arms_draws_every_arm_and_pressure_with_its_interval(summary):
    figure = figures.arms(summary, metrics=("asr", "over_refusal"), hue="pressure")
    assert [intervals(axis) for axis in figure.axes] == [6, 6]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["initial", "no defense", "BSA"]
    assert figure.get_facecolor() == (1.0, 1.0, 1.0, 1.0)


def test_an_interval_is_as_long_as_the_summary_says(summary):
    figure = figures.arms(summary[summary["pressure"] == "light"], metrics=("asr",))
    row = one_cell(summary, defense="bsa", pressure="light", metric="asr")
    (segment,) = figure.axes[0].containers[-1].lines[2][0].get_segments()
    assert segment[:, 0] == pytest.approx([row["low"], row["high"]])


def test_curves_draws_a_line_per_arm_over_even_ticks(summary):
    points = pd.concat([summary.assign(n_attack=n) for n in (0, 10, 100)])
    figure = figures.curves(points[points["pressure"] == "light"], "n_attack", "attack examples")
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["0", "10", "100"]
    assert intervals(figure.axes[0]) == 3


def test_curves_show_content_with_keywords_dotted_beside_it(summary):
    """In one panel; a policy that cannot tell content has keywords in their own."""
    points = pd.concat([summary[summary["pressure"] == "light"].assign(n_attack=n) for n in (0, 10, 100)])
    content = points[points["metric"] == "asr"].assign(metric="asr_content", mean=0.1, low=0.0, high=0.2)
    told = figures.curves(pd.concat([points, content]), "n_attack", "attack examples")
    titles = ["content ASR\n(dotted: keyword ASR)", "over-refusal"]
    assert [axis.get_ylabel() for axis in told.axes] == titles
    drawn = {line.get_linestyle(): line.get_ydata() for line in told.axes[0].lines if len(line.get_xdata()) == 3}
    asr = one_cell(points[points["n_attack"] == 0], defense="bsa", metric="asr")["mean"]
    assert list(drawn["-"]) == [0.1] * 3 and list(drawn[":"]) == [asr] * 3
    alone = figures.curves(points, "n_attack", "attack examples")
    assert [axis.get_ylabel() for axis in alone.axes] == ["keyword ASR", "over-refusal"]
    assert ":" not in {line.get_linestyle() for line in alone.axes[0].lines}


def test_tradeoff_names_every_point_and_shows_every_interval(summary):
    figure = figures.tradeoff(summary[summary["defense"] == "bsa"], "pressure")
    (axis,) = figure.axes
    assert [text.get_text() for text in axis.texts] == ["light", "heavy"]
    assert axis.get_xlim()[1] >= min(summary[summary["metric"] == "over_refusal"]["high"].max(), 1.0)


def test_arms_of_users_get_a_neutral_style():
    assert labels.arm("mine").title == "mine"
    assert len({(arm.colour, arm.marker) for arm in map(labels.arm, [*labels.ARMS, "mine"])}) == len(labels.ARMS) + 1


def test_pretty_shows_mean_interval_and_n(summary):
    table = tables.pretty(summary, ["pressure", "defense"], metrics=("asr", "harmfulness"))
    assert list(table.columns) == ["keyword ASR (n = 4, 2 seeds)"]
    row = one_cell(summary, defense="none", pressure="heavy", metric="asr")
    assert table.loc[("heavy", "no defense")].iloc[0] == f"0.625 [{row['low']:.3f},\u00a0{row['high']:.3f}]"


def test_beside_paper_quotes_both_tables(summary):
    table = tables.beside_paper(summary[summary["pressure"] == "light"])
    assert table.loc["BSA"].iloc[1:].tolist() == ["0.036", "0.029"]


def test_content_takes_the_axis_and_keywords_stay_as_open_markers(summary):
    bsa = summary[summary["defense"] == "bsa"]
    content = bsa[bsa["metric"] == "asr"].assign(metric="asr_content", mean=0.1, low=0.0, high=0.2)
    told = figures.tradeoff(pd.concat([bsa, content]), "pressure").axes[0]
    assert told.get_ylabel() == "content ASR"
    drawn = [sorted(points.get_offsets()[:, 1]) for points in told.collections if len(points.get_offsets()) == 2]
    assert sorted(bsa[bsa["metric"] == "asr"]["mean"]) in drawn
    assert figures.tradeoff(bsa, "pressure").axes[0].get_ylabel() == "keyword ASR"


def test_figures_show_content_and_exact_match_where_they_were_measured(summary):
    more = [summary[summary["metric"] == "asr"].assign(metric=name) for name in ("asr_content", "benign_exact")]
    titles = [axis.get_xlabel() for axis in figures.arms(pd.concat([summary, *more]), hue="pressure").axes]
    assert titles == ["keyword ASR", "content ASR", "over-refusal", "benign exact match"]
    assert [axis.get_xlabel() for axis in figures.arms(summary).axes] == ["keyword ASR", "over-refusal"]


def of_categories(*names: str) -> pd.DataFrame:
    cells = [(name, n) for name in names for n in (0, 10)]
    return pd.DataFrame([{"category": name, "value": 0.5, "n_attack": n, "metric": "asr"} for name, n in cells])


def drawn_labels(figure) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a letter that no font has is a warning
        figure.canvas.draw()
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_a_dollar_in_a_label_begins_no_formula():
    names = ["$5 to $10", "cost $x^$ each", "fees_of \\guilds"]
    made = figures.categories(of_categories(*names), "n_attack", "attack examples")
    assert drawn_labels(made) == names
    assert not any(label.get_parse_math() for label in made.axes[0].get_yticklabels())


@pytest.fixture
def guild_font(tmp_path, monkeypatch):
    """A font of one's own with two runes of the guild, which no other font of the machine is asked for."""
    made, box = FontBuilder(1000, isTTF=True), TTGlyphPen(None)
    for step, at in ((box.moveTo, (0, 0)), (box.lineTo, (500, 0)), (box.lineTo, (500, 700))):
        step(at)
    box.closePath()
    names = [".notdef", "first", "second"]
    made.setupGlyphOrder(names)
    made.setupCharacterMap({0x16A0: "first", 0x16A1: "second"})
    made.setupGlyf(dict.fromkeys(names, box.glyph()))
    made.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": "Guild Runes", "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(tmp_path / "runes.ttf")
    known = [font for font in fontManager.ttflist if font.name.startswith(("DejaVu Sans", fonts.BOXES))]
    monkeypatch.setattr(fontManager, "ttflist", known)
    fontManager.addfont(tmp_path / "runes.ttf")
    fonts.having.cache_clear()
    yield
    fonts.having.cache_clear()


def test_a_label_in_another_script_gets_a_font_that_has_its_letters(guild_font, capsys):
    names = ["fees \u16a0\u16a1", "tolls"]
    made = figures.categories(of_categories(*names), "n_attack", "attack examples")
    assert drawn_labels(made) == names and capsys.readouterr().err == ""
    families = [label.get_fontfamily()[-1] for label in made.axes[0].get_yticklabels()]
    assert families[0] == "Guild Runes" != families[1]


def test_letters_that_no_font_has_are_said_once(guild_font, capsys):
    for _ in range(2):
        figures.categories(of_categories("fees \u16a0\u4e8c"), "n_attack", "attack examples")
    said = (
        "[bsa] no installed font has the letters \u4e8c of a figure; install one, such as Noto Sans CJK or Noto Emoji\n"
    )
    assert capsys.readouterr().err == said
