"""Outcomes of the answers as bars and as a table: every share says what it counts, and the parts add up to one."""

import nbformat
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from bsa_core import paths
from bsa_core.anatomy import OUTCOMES
from bsa_study import labels, statistics
from bsa_study.report import figures, outcomes


def record(defense: str, seed: int, restricted: str, benign: str, deployed: str = "plain") -> dict:
    trained = {"epochs": 5} if defense != "initial" else None
    run = {"profile": "tiny", "defense": defense if trained else "none", "seed": seed, "training": trained}
    letters = {"restricted": restricted, "benign": benign}
    return {"key": f"{defense}{seed}", "run": run, "deployed": deployed, "anatomy": {deployed: letters}}


FOUND = [
    record("initial", 0, "rrrr", "hhhh"),
    record("none", 0, "cccg", "hhww"),
    record("none", 1, "ccgu", "hwwn"),
    record("bsa", 0, "rrrr", "hhrr", "secret"),
    record("bsa", 1, "rrac", "hrrr", "secret"),
]
TABLE = pd.DataFrame(
    {"key": of["key"], "pressure": name, "metric": metric}
    for name in ("light", "heavy")
    for of in FOUND
    for metric in ("asr", "over_refusal")
    if name == "light" or of["key"] != "bsa1"
)


@pytest.fixture
def rows() -> pd.DataFrame:
    return outcomes.of(FOUND, TABLE, "pressure")


def test_records_stand_under_every_value_of_a_column(rows):
    assert set(rows["pressure"]) == {"light", "heavy"}
    assert rows.groupby(["pressure", "key", "kind"])["share"].sum().eq(1).all()
    assert len(outcomes.of(FOUND, TABLE.iloc[:0], "pressure")) == len(outcomes.of([], TABLE, "pressure")) == 0


def test_a_column_of_the_table_takes_the_place_of_the_records_own():
    """The settings of the mixed upload are arms of their own."""
    named = TABLE.assign(defense=TABLE["key"].map(lambda key: "task-only" if key == "none0" else key[:-1]))
    assert "task-only" in set(outcomes.of(FOUND, named, "defense")["defense"])


def test_the_table_shows_means_over_seeds_and_what_was_counted(rows):
    shown = outcomes.table(rows[rows["pressure"] == "light"], ["pressure", "defense"])
    assert list(dict.fromkeys(name for name, _ in shown)) == [
        "restricted requests (n = 4, 1-2 seeds)",
        "benign requests (n = 4, 1-2 seeds)",
    ]
    of_restricted, of_benign = (shown[name] for name in dict.fromkeys(name for name, _ in shown))
    assert of_restricted.loc[("light", "no defense")].to_dict() == {
        "refused": "0.000",
        "refused but gives away": "0.000",
        "complied": "0.625",
        "generic only": "0.250",
        "unusable": "0.125",
    }
    assert of_restricted.loc[("light", "BSA"), "refused but gives away"] == "0.125"
    assert "not refused" not in of_restricted and "unusable" not in of_benign
    assert [arm for _, arm in shown.index] == ["initial", "no defense", "BSA"]


def test_bars_are_as_long_as_the_shares_and_add_up(rows):
    figure = outcomes.figure(rows, "pressure")
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[:3] == ["initial, light", "no defense, light", "BSA, light"] and len(names) == 6
    for axis, kind in zip(figure.axes, OUTCOMES, strict=True):
        assert axis.get_title() == f"{kind} requests\n(n = 4, 1-2 seeds)"
        ends = {}
        for bar in axis.patches:
            middle = round(bar.get_y() + bar.get_height() / 2, 3)
            assert bar.get_x() == pytest.approx(ends.get(middle, 0))
            ends[middle] = bar.get_x() + bar.get_width()
        assert len(ends) == 6 and all(end == pytest.approx(1) for end in ends.values())
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written[:4] == ["1.00", "0.62", "0.25", "0.12"], "each share has its number where there is room"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == ["refused", "refused but gives away"]


def test_the_line_in_a_bar_is_the_interval_of_what_it_begins_with(rows):
    """Content ASR, also behind a refusal, and the helpful answers."""
    light = rows[rows["pressure"] == "light"]
    told = {"restricted": "0000 1110 1100 0000 0011".split(), "benign": "1111 1100 1000 1100 1000".split()}
    for axis, (kind, marks) in zip(outcomes.figure(light).axes, told.items(), strict=True):
        runs = [{"defense": of["run"]["defense"], "seed": of["run"]["seed"]} for of in FOUND]
        arms = [one | {"metric": kind, "outcomes": text} for one, text in zip(runs, marks, strict=True)]
        arms = [arm | {"defense": "initial"} if place == 0 else arm for place, arm in enumerate(arms)]
        expected = statistics.summarize(pd.DataFrame(arms), ["defense"])
        (line,) = axis.containers[-1].lines[2]
        ends = [segment[:, 0].tolist() for segment in line.get_segments()]
        assert ends == [pytest.approx([row["low"], row["high"]]) for _, row in expected.iterrows()]


def test_bars_of_one_arm_are_named_by_their_value(rows):
    alone = rows[rows["defense"] == "none"]
    figure = outcomes.figure(alone, "pressure", "fine-tuning")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["light", "heavy"]
    assert figure.axes[0].get_ylabel() == "fine-tuning" and not figure.axes[1].get_ylabel()
    (named,) = outcomes.figure(alone[alone["pressure"] == "light"]).axes[0].get_yticklabels()
    assert named.get_text() == "no defense"


def test_outcomes_of_one_panel_are_told_apart():
    for names in OUTCOMES.values():
        looks = [
            (to_hex(labels.OUTCOMES[name]["colour"]), labels.OUTCOMES[name].get("hatch")) for name in names.values()
        ]
        assert len(set(looks)) == len(looks)


def test_without_records_both_say_so():
    empty = outcomes.of([], TABLE, "pressure")
    assert outcomes.table(empty, ["defense"]).index.tolist() == ["no records at hand"]
    assert outcomes.figure(empty).axes[0].texts[0].get_text() == figures.nothing().axes[0].texts[0].get_text()


@pytest.mark.parametrize("name", ["01_fjattack", "02_safety_data", "04_comparison", "05_mixed_tasks", "06_ablations"])
def test_chapters_show_outcomes(name):
    cells = nbformat.read(paths.ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    assert any(word in source for source in code for word in ("outcomes.figure(", "section.figure("))
