"""The rule that chooses settings, on grids made by hand."""

from dataclasses import replace

import pandas as pd
import pytest

from bsa_core import profiles
from bsa_core.sections import Grid
from bsa_study import settings

TINY = profiles.load("tiny")


def cells(holding: dict[tuple[float, int], bool], margin: float = 0.1) -> pd.DataFrame:
    """`gates.cells`: (rate, epochs) -> whether the gate holds; the margin grows with the rate."""
    rows = [
        {"rate": rate, "epochs": epochs, "holds": held, "margin": (margin if held else -margin) + rate}
        for (rate, epochs), held in holding.items()
    ]
    return pd.DataFrame(rows)


def at_ten(*holding: bool) -> pd.DataFrame:
    return cells({(rate, 10): held for rate, held in zip((0.0003, 0.001, 0.003, 0.01), holding, strict=True)})


@pytest.mark.parametrize(
    "holding, rate, said",
    [
        ((True, True, True, True), 0.001, ""),
        ((False, True, True, True), 0.003, ""),
        ((True, True, False, True), 0.0003, "headline: at rate 0.0003 and 10 epochs the gate holds, without room"),
        ((False, False, True, True), 0.003, "headline: at rate 0.003 and 10 epochs the gate holds, without room"),
        ((False,) * 4, 0.01, "headline: at rate 0.01 and 10 epochs the gate holds nowhere; this comes closest"),
    ],
)
def test_the_smallest_rate_with_room_on_both_sides(holding, rate, said):
    setting, told = settings.lightest(at_ten(*holding), "headline")
    assert setting == {"learning_rate": rate, "epochs": 10} and told.startswith(said) and bool(told) == bool(said)


def test_of_several_epochs_the_lightest_setting():
    holding = {(rate, epochs): rate * epochs > 0.002 for rate in (0.0003, 0.001, 0.003) for epochs in (3, 5, 10)}
    setting, _ = settings.lightest(cells({**holding, (0.0003, 10): True, (0.0003, 5): True}), "task sql")
    assert setting == {"learning_rate": 0.001, "epochs": 5}
    assert type(setting["epochs"]) is int and type(setting["learning_rate"]) is float


def test_what_is_chosen_of_each_grid():
    grids = {
        "headline": pd.concat([at_ten(True, True, True, True), cells({(0.0003, 3): True, (0.001, 3): True})]),
        "identity": at_ten(False, True, True, True),
        "task sql": cells({(0.0005, 2): False, (0.0005, 5): True}),
    }
    chosen = settings.chosen(grids)
    assert chosen.training == {"learning_rate": 0.001, "epochs": 10}
    assert chosen.tasks == {"sql": {"learning_rate": 0.0005, "epochs": 5}}
    assert len(chosen.notes) == 1 and chosen.notes[0].startswith("task sql: ")
    assert chosen.identity == {"learning_rate": 0.003, "epochs": 10}


def test_a_cell_that_was_not_measured_is_no_room():
    holding = {(0.0003, 10): True, (0.001, 10): True, (0.0003, 5): True, (0.001, 5): True, (0.003, 5): True}
    assert settings.lightest(cells(holding), "task sql")[0] == {"learning_rate": 0.001, "epochs": 5}
    assert settings.roomy(cells(holding)).tolist() == [False, False, False, True, False]


def test_a_region_without_the_paper_s_epochs():
    with pytest.raises(ValueError, match=r"region.epochs of profile 'tiny' is \[3, 5\]; expected the paper's 10 in it"):
        settings.grids(replace(TINY, region=Grid((0.001,), (3, 5))), [0])


def test_the_command_without_a_region():
    with pytest.raises(SystemExit, match=r"region.epochs of profile 'llama2-7b-chat' is \[\]"):
        settings.main(["llama2-7b-chat"])


def test_the_command_prints_grids_and_what_to_write_into_the_profile(monkeypatch, capsys):
    monkeypatch.setattr(profiles, "load", lambda name: replace(TINY, region=Grid((0.001,), (10,))))
    grids = {"headline": at_ten(False, True, True, True), "task sql": cells({(0.0005, 5): True})}
    monkeypatch.setattr(settings, "grids", lambda profile, seeds: grids)
    settings.main(["tiny", "--seeds", "0", "1"])
    said = capsys.readouterr().out
    assert "training:\n  learning_rate: 0.003\n  epochs: 10\n" in said
    assert "note: task sql: at rate 0.0005 and 5 epochs the gate holds, without room on both sides" in said
    assert "rate" in said and "0.0003" in said and "pressures" not in said
