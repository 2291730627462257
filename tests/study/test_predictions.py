"""Predictions follow one rule from records, are written once, and are held against what is measured later."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from made import right

from bsa_core import paths, profiles, records
from bsa_study import claims, predictions, transfer
from bsa_study.claims import FAILED, VERDICTS
from bsa_study.predictions import NO
from bsa_study.report import foreseen

TINY = profiles.load("tiny")
OTHER = replace(TINY, name="another")
BROKEN, RESTORED, ELSEWHERE = "attack-breaks-alignment", "prefixed-examples-restore-it", "gpt-3.5-is-defended"
ASKED = predictions.asked()
N = 110  # requests


def arms(content: dict[str, float], words: dict[str, float] | None = None, seeds: int = 5) -> pd.DataFrame:
    """The headline table of a scale: these shares by content and by keywords, the same for every seed."""
    return pd.DataFrame(
        {"defense": arm, "metric": metric, "seed": seed, "condition": condition}
        | {"deployed": (condition == "secret") == arm.endswith("bsa")}
        | {"outcomes": "1" * round(share * N) + "0" * (N - round(share * N))}
        for metric, shares in (("asr_content", content), ("asr", words or content))
        for arm, share in shares.items()
        for seed in range(seeds)
        for condition in ("plain", "secret")
    )


DEFENDED = arms({"initial": 0.0, "none": 0.9, "safety-data": 0.8, "bsa": 0.1, "balanced-bsa": 0.2})
UNTOUCHED = arms(dict.fromkeys(("initial", "none", "safety-data", "bsa", "balanced-bsa"), 0.0))


@pytest.fixture
def scales(monkeypatch):
    """Puts headline tables in the place of records, scale -> table; asks three claims and one question of them."""
    some = [claim for claim in ASKED["claims"] if claim.id in (BROKEN, RESTORED, ELSEWHERE)]
    monkeypatch.setattr(predictions, "asked", lambda: {"claims": some, "questions": ASKED["questions"][:1]})

    def put(**tables: pd.DataFrame) -> None:
        monkeypatch.setattr(transfer, "seeds_of", lambda profile: [*range(5)])

        def source(name, profile, seeds):
            return tables[profile.name] if name == "headline" and profile.name in tables else records.table([])

        monkeypatch.setattr(claims, "source", source)

    return put


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A folder of results in which so many records of `tiny` ship; predictions go to a folder of the test's own."""
    monkeypatch.setattr(paths, "BOOK", shutil.copytree(paths.BOOK, tmp_path / "book"))
    predictions.path().unlink(missing_ok=True)

    def ship(n: int = 2) -> None:
        outcomes = {"plain": {"asr": "01", "over_refusal": "00"}}
        records.ship("tiny", [right({"seed": seed}, outcomes, deployed="plain") for seed in range(n)])

    return ship


def entry(told: dict, name: str, counting: str = "content") -> dict:
    return next(one for kind in told[counting].values() for one in kind if one["id"] == name)


def test_the_book_s_predictions_are_about_every_claim_and_rest_on_the_records_that_ship(shared_results, monkeypatch):
    told = predictions.load()
    for counting in ("content", "keywords"):
        for kind, listed in predictions.asked().items():
            assert [one["id"] for one in told[counting][kind]] == [claim.id for claim in listed]
    monkeypatch.setattr(paths, "RESULTS", shared_results)
    monkeypatch.setattr(records, "own", lambda profile: [])  # those that a test computed are no part of the project
    ships = [name for name in transfer.SCALES if records.shipped(name)]
    again = "other records ship now; write the predictions anew unless they were held against a larger model already"
    assert {name: told["scales"][name] for name in ships} == {name: predictions.rests_on(name) for name in ships}, again


def test_it_is_written_once_with_date_code_and_digest(written, scales, capsys):
    scales(tiny=DEFENDED)
    written(2)
    predictions.main(["--date", "2026-11-26"])
    told = predictions.load()
    assert told["date"] == "2026-11-26" and told["scales"]["tiny"]["records"] == 2 and "git_commit" in told["code"]
    assert str(predictions.path()) in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"predictions\.yaml is there: .*add --anew"):
        predictions.main([])
    written(3)
    predictions.main(["--date", "2026-11-27", "--anew"])
    anew = predictions.load()
    assert anew["date"] == "2026-11-27" and anew["scales"]["tiny"]["records"] == 3
    assert anew["scales"]["tiny"]["digest"] != told["scales"]["tiny"]["digest"]


def test_records_that_do_not_ship_are_no_basis(written, scales):
    scales(tiny=DEFENDED)
    written()
    path = records.write(right({"seed": 7}, {"plain": {"asr": "01", "over_refusal": "00"}}, deployed="plain"))
    with pytest.raises(SystemExit, match=rf"{path.name}: one of 1 records that do not ship"):
        predictions.main([])
    assert not predictions.path().exists()


def test_what_a_scale_establishes_is_predicted(written, scales):
    scales(tiny=DEFENDED)
    written()
    told = predictions.made("2026-11-26")
    broken, restored = entry(told, BROKEN), entry(told, RESTORED)
    assert broken["predicted"] == "reproduced" and broken["sure"] > 0.8
    (compared,) = broken["comparisons"]
    assert compared["measured"] == {"tiny": pytest.approx(0.9)} and compared["low"] < 0.9 < compared["high"] <= 1
    assert restored["predicted"] != "reproduced", "ASR does not come close to the initial model's"
    assert sum(restored["chances"].values()) == pytest.approx(1)
    assert restored["chances"].get(FAILED, 0) < 0.2
    assert entry(told, ELSEWHERE)["predicted"] == NO
    assert entry(told, "03_bsa-1")["sure"] == broken["sure"], "the same question, asked in a chapter"


def test_a_scale_whose_control_fails_says_nothing(scales):
    scales(tiny=DEFENDED, another=UNTOUCHED)
    listed = predictions.asked()["claims"]
    tables = {"a": predictions.measured(listed, TINY)}
    tables["b"] = predictions.measured(listed, OTHER)
    kept = {name: predictions.held(listed, table) for name, table in tables.items()}
    told = {one["id"]: one for one in predictions.predict(listed, kept, np.empty((0, 2)))}
    assert set(told[BROKEN]["comparisons"][0]["measured"]) == {"a", "b"}, "the control itself"
    assert {scale for one in told[RESTORED]["comparisons"] for scale in one["measured"]} == {"a"}
    alone = {one["id"]: one for one in predictions.predict(listed, {"a": kept["a"]}, np.empty((0, 2)))}
    chance = [of[RESTORED]["chances"].get(FAILED, 0) for of in (alone, told)]
    assert chance[0] < chance[1], "where the control failed once, it may again"


def test_a_comparison_whose_gate_fails_at_a_scale_says_nothing_there(monkeypatch):
    monkeypatch.setattr(claims, "verdicts", lambda listed, at: pd.DataFrame({"": ["reproduced"] * len(listed)}))
    told = {"id": BROKEN, "role": "claim", "seeds": [5, 5, 2], "decided": ["reproduced", FAILED, "reproduced"]}
    assert [*predictions.held(ASKED["claims"], pd.DataFrame(told)).index] == [0]


def test_scales_far_from_each_other_make_predictions_less_sure():
    comparison = claims.Comparison("headline", "asr", {"defense": "none"}, {"defense": "initial"}, expect="higher")
    rows = {name: pd.Series({"metric": "asr", "difference": 0.6, "low": 0.5, "high": 0.7}) for name in ("a", "b")}
    away = np.linspace(-0.1, 0.1, 30)
    near, far = (
        predictions.foreseen(comparison, rows, np.column_stack([np.full(30, 0.6), times * away]), 50)
        for times in (1, 15)
    )
    assert near["chances"]["reproduced"] == 1 > far["chances"]["reproduced"] > 0.3
    assert near["high"] - near["low"] < 0.2 < far["high"] - far["low"] and far["high"] == 1
    elsewhere = np.concatenate([np.column_stack([np.full(30, 0.6), away]), np.column_stack([np.zeros(30), 15 * away])])
    assert predictions.foreseen(comparison, rows, elsewhere, 50)["chances"]["reproduced"] == 1, "of like size only"


def test_a_distance_is_of_two_scales_on_one_comparison():
    def table(*differences: float) -> pd.DataFrame:
        at = {"source": "headline", "asked": "asr", "first": [*map(str, range(len(differences)))], "second": "none"}
        return pd.DataFrame({**at, "difference": differences})

    apart = predictions.distances([table(0.5, -0.2, 0.1), table(0.3, -0.4)])
    assert apart == pytest.approx(np.array([[0.4, 0.2], [0.3, 0.2]]))
    assert len(predictions.distances([table(0.5)])) == 0


def test_a_claim_takes_the_weakest_word_of_its_comparisons():
    shares = [dict(zip(VERDICTS, of, strict=True)) for of in ((0.8, 0.1, 0.1, 0), (0.5, 0.0, 0.3, 0.2))]
    words = predictions.chances(shares, [{"reproduced": 0.9}])
    assert words["reproduced"] == pytest.approx(0.9 * 0.8 * 0.5) and words["contradicted"] == pytest.approx(0.9 * 0.2)
    assert words[FAILED] == pytest.approx(0.1) and sum(words.values()) == pytest.approx(1)


def test_keywords_are_predicted_as_well_for_policies_that_cannot_tell_content(written, scales):
    content = {"initial": 0.0, "none": 0.0, "safety-data": 0.0, "bsa": 0.0, "balanced-bsa": 0.0}
    scales(tiny=arms(content, {**content, "none": 0.9, "safety-data": 0.9}))
    written()
    told = predictions.made("2026-11-26")
    assert entry(told, BROKEN)["predicted"] != "reproduced"
    assert entry(told, BROKEN, "keywords")["predicted"] == "reproduced"
    assert entry(told, BROKEN, "keywords")["comparisons"][0]["metric"] == "asr"


def test_predictions_are_held_against_a_scale_that_somebody_adds(written, scales, monkeypatch):
    scales(tiny=DEFENDED, another=DEFENDED)
    written()
    told = yaml.safe_load(yaml.safe_dump(predictions.made("2026-11-26")))
    found = {"another": predictions.at(OTHER)}
    rows = predictions.beside(told, found["another"]).set_index("id")
    assert rows.loc[BROKEN, "hit"] == "yes" and 0 <= rows.loc[BROKEN, "score"] < 0.1
    assert rows.loc[ELSEWHERE, ["hit", "measured"]].tolist() == ["", "not tested"]
    line = foreseen.scores(told, found)
    assert re.fullmatch(r"another: [23] of 3 predictions hit\.", line)
    monkeypatch.setattr(foreseen, "ENOUGH", 3)
    assert "Brier score 0." in foreseen.scores(told, found)
    shown = foreseen.beside(told, found).data
    assert len(shown) == len(rows) and {"predicted", "how sure", "another", "another: hit"} < {*shown}
    figure = foreseen.predicted(told, found)
    drawn = [line for line in figure.axes[0].lines if line.get_label() == "another, measured"]
    assert len(drawn) == 1 and np.isfinite(drawn[0].get_xdata().astype(float)).all()


def test_a_sure_miss_scores_two(scales):
    scales(tiny=DEFENDED)
    told = {"content": {"claims": [{"id": BROKEN, "predicted": "contradicted", "chances": {"contradicted": 1.0}}]}}
    told["content"]["questions"] = []
    row = predictions.beside(told, predictions.at(TINY)).set_index("id").loc[BROKEN]
    assert (row["hit"], row["score"]) == ("no", 2.0)


def test_until_then_the_page_says_so(written, scales):
    scales(tiny=DEFENDED)
    written()
    told = predictions.made("2026-11-26")
    assert predictions.elsewhere("tiny") == {}, "only the book's own scales have records"
    assert foreseen.scores(told, {}) == "No records of another scale are here yet. The predictions are open."
    assert len(foreseen.beside(told, {}).data.columns) == 3 and foreseen.predicted(told, {}).axes
