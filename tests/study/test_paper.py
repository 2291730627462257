"""The paper's reported numbers, as the book quotes them."""

import csv
from decimal import Decimal
from functools import cache
from pathlib import Path

from bsa_core import paths
from bsa_study import paper

KEY = ["table", "model", "setting", "metric"]
UNITS = {"harmfulness": "score 1-5", "mt_bench": "score 1-10", "rouge1": "F1", "seconds_per_epoch": "s"}  # others: %


@cache
def transcribed() -> dict[tuple, tuple[Decimal, str]]:
    """Table, model, setting and metric -> number and unit, from the second transcription."""
    found = {}
    for part in (Path(__file__).parent / "reported.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        table, *lines = filter(None, part.splitlines())
        (_, _, *metrics), _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
        for model, setting, *values in rows:
            for metric, value in zip(metrics, values, strict=True):
                if value != "-":
                    found[table, model, setting, metric] = Decimal(value), UNITS.get(metric, "%")
    return found


def differing(rows: list[dict]) -> set[tuple]:
    """What one of the two transcriptions lacks, or says differently."""
    told = {tuple(row[name] for name in KEY): (Decimal(row["value"]), row["unit"]) for row in rows}
    return {key for key, _ in told.items() ^ transcribed().items()}


def test_every_number_is_the_paper_s_digit_by_digit():
    with open(paths.BOOK / "reported.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(transcribed()) == 130 and differing(rows) == set()
    for number, row in enumerate(rows):
        changed = [dict(row) for row in rows]
        for other in ("1" + row["value"], row["value"].translate(str.maketrans("0123456789", "1234567890"))):
            changed[number]["value"] = other
            assert differing(changed) == {tuple(row[name] for name in KEY)}
    assert differing(rows[1:]) and differing([{**rows[0], "unit": "s"}, *rows[1:]])


def test_every_number_has_one_row():
    reported = paper.reported()
    assert list(reported.columns) == [*KEY, "value", "unit", "note"]
    assert not reported.duplicated(KEY).any()
    assert reported["value"].notna().all()


def test_single_run_asr_lies_on_the_grid_of_275_requests():
    """Every ASR of one run is a count of 275 requests; means over several secrets (read off a plot) are not.

    GPT-3.5 under identity role shift is left out: the paper prints 48.72 and 4.7, near 134 and 13 of 275.
    """
    reported = paper.reported()
    asr = reported[reported["metric"] == "asr"]
    printed_apart = (asr["table"] == "identity role shift") & (asr["model"] == "GPT-3.5-Turbo")
    single = asr[(asr["table"] != "length of secret prompt") & ~printed_apart]
    counts = (single["value"] * 275 / 100).round()
    assert ((counts * 100 / 275).round(2) == single["value"]).all()
    assert set(single["model"]) == {"Llama-2-7B-Chat", "GPT-3.5-Turbo"}


def test_the_four_arms_are_named_as_in_the_code():
    reported = paper.reported()
    for table in paper.PAPER:
        rows = reported[(reported["table"] == table) & (reported["metric"] == "asr")]
        assert {"initial", "none", "safety-data", "bsa"} <= set(rows["setting"])


def test_the_mixed_setting_is_shown_in_shares_as_everywhere():
    shown = paper.mixed_reported()
    assert shown.loc["no defense", ("dialog summary", "keyword ASR")] == "0.720"
    assert shown.loc["no defense", ("dialog summary", "harmfulness score (1-5)")] == "3.92"
    assert shown.loc["initial", ("SQL generation", "ROUGE-1 F1")] == "0.16"
    assert "nan" not in shown.to_string()
