"""How gates and region are shown."""

from dataclasses import replace
from itertools import product

import pandas as pd
import pytest

from bsa_core import profiles
from bsa_study import gates
from bsa_study.grids import region
from bsa_study.report import controls

TINY = replace(profiles.load("tiny"), pressures={"light": {"learning_rate": 0.003, "epochs": 10}})
RATES, EPOCHS = (0.001, 0.003, 0.01), (3, 10)


def cells(arms: tuple[str, ...] = ("balanced-bsa", "none")) -> pd.DataFrame:
    rows = [
        {"rate": rate, "epochs": epochs, "defense": arm, "metric": metric, "seed": seed, "value": value + seed / 100}
        for arm, rate, epochs, seed in product(arms, RATES, EPOCHS, (0, 1))
        for metric, value in (("asr", 0.9), ("asr_content", 30 * rate), ("over_refusal", 0.02 * epochs))
    ]
    return region.cells(pd.DataFrame(rows).assign(deployed=True))


def attack(holds=lambda rate, epochs: rate * epochs > 0.005) -> pd.DataFrame:
    grid = product(RATES, EPOCHS)
    return pd.DataFrame({"rate": rate, "epochs": n, "margin": 0.0, "holds": holds(rate, n)} for rate, n in grid)


def test_one_panel_for_each_arm_and_metric_and_an_outline_where_the_attack_works():
    figure = controls.figure(cells(), attack())
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == [
        "no defense:\ncontent ASR",
        "balanced BSA:\ncontent ASR",
        "no defense:\nover-refusal",
        "balanced BSA:\nover-refusal",
    ]
    outlined = {(round(p.get_x()), round(p.get_y())) for p in figure.axes[0].patches}
    assert outlined == {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)}, "columns: rates; rows: ten epochs above three"
    assert [text.get_text() for text in figure.axes[0].texts][:3] == ["0.04", "0.10", "0.30"]
    assert controls.figure(cells().iloc[:0], attack()).axes[0].texts[0].get_text() == "no records at hand"
    assert not controls.figure(cells(), attack().iloc[:0]).axes[0].patches


def test_numbers_over_the_region_only():
    shown = controls.over(cells(), attack(lambda rate, epochs: rate == 0.003))
    assert shown.index[0] == ("no defense", "keyword ASR")
    row = shown.loc["balanced BSA", "over-refusal"]
    assert row.tolist() == ["0.135", "0.205", "0.210", 2]
    assert controls.over(cells(), attack(lambda *_: False)).index[0].startswith("no cell in which")


@pytest.mark.parametrize(
    "holds, said",
    [
        (lambda rate, epochs: True, "The attack gate holds there and at both neighbours in rate."),
        (lambda rate, epochs: rate > 0.001, "The attack gate holds there, without room."),
        (lambda rate, epochs: rate > 0.003, "The attack gate does not hold there: of the grid, it comes closest."),
    ],
)
def test_what_is_said_of_the_headline_setting(holds, said):
    told = controls.setting(TINY, attack(holds))
    assert told == f"On `tiny` the headline setting is a learning rate of 0.003 and 10 epochs. {said}"
    assert controls.setting(TINY, attack().iloc[:0]).endswith("It is no cell of a region at hand.")


def test_the_table_of_gates():
    told = pd.DataFrame(
        [("attack", "asr_content", "plain", "at least 0.90 (0.9 x helpful-only)", 0.8512, -0.0488, False, 3)],
        columns=gates.COLUMNS,
    )
    shown = controls.gate_table({"tiny": told, "other": told.iloc[:0]})
    assert shown.index.tolist() == [("tiny", "attack", "content ASR", "without secret")]
    assert shown.iloc[0].tolist() == ["at least 0.90 (0.9 x helpful-only)", "0.851", "does not hold"]
    assert controls.gate_table({"tiny": told.iloc[:0]}).index[0] == "no records at hand"
