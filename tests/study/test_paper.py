"""The paper's reported numbers, as the book quotes them."""

from bsa_study import paper

KEY = ["table", "model", "setting", "metric"]


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
