"""Sentences of the book: their numbers come from records, and what records do not bear out fails the page."""

import re
import shutil

import nbformat
import pandas as pd
import pytest

from bsa_core import paths, profiles
from bsa_study import contrasts, gates
from bsa_study.grids import region
from bsa_study.report import disagreements, first, numbers, sentences

RATES = {  # of 20 requests: content and keyword ASR, over-refusal
    "initial": ("0" * 20, "0" * 20, "0" * 20),
    "none": ("1" * 19 + "0", "1" * 20, "0" * 20),
    "safety-data": ("1" * 18 + "00", "1" * 19 + "0", "0" * 20),
    "bsa": ("1" + "0" * 19, "1" + "0" * 19, "1" * 12 + "0" * 8),
    "balanced-bsa": ("11" + "0" * 18, "11" + "0" * 18, "0" * 20),
}
METRICS = ("asr_content", "asr", "over_refusal")


def table(seeds: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"defense": arm, "condition": "plain", "deployed": True, "metric": metric, "seed": seed, "outcomes": marks}
        for arm, of in RATES.items()
        for metric, marks in zip(METRICS, of, strict=True)
        for seed in range(seeds)
    )


def scale(seeds: int = 5, ships: bool = True) -> numbers.Scale:
    return numbers.Scale(profiles.load("tiny"), list(range(seeds)), ships, {"headline": table(seeds)})


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A function that writes the sentences of chapter "03_bsa" into a book of the test's own."""
    shutil.copy(paths.BOOK / "reported.csv", tmp_path)
    monkeypatch.setattr(paths, "BOOK", tmp_path)

    def write(*entries: str, paper: str = "{}") -> None:
        listed = "".join(f"    - {entry}\n" for entry in entries)
        text = f"scales: {{tiny: 5}}\n03_bsa:\n  sentences:\n{listed}  paper: {paper}\n"
        (tmp_path / "sentences.yaml").write_text(text, encoding="utf-8")

    return write


def test_a_sentence_about_the_paper_alone_may_name_bounds():
    of_paper = sentences.build({"say": "Nothing.", "if": "paper/lora, safety-data, asr at least 40 %"}, "a book")
    assert of_paper.general and not sentences.build("{bsa asr}", "a book").general


def test_numbers_are_printed_in_one_way():
    at = scale()
    assert str(at.number("bsa over_refusal")).replace("\u00a0", " ").startswith("60.0 % [")
    assert str(at.number("none - bsa asr_content")).replace("\u00a0", " ").startswith("90.0 points [")
    assert str(at.number("paper/lora, safety-data, asr")) == "40.4\u00a0%"
    assert str(at.number("paper/mixed task: SQL generation, fine-tuned, no attack, rouge1")) == "0.95"
    assert str(at.number("paper GPT-3.5-Turbo/main, bsa, asr")) == "14.9\u00a0%"
    assert str(at.number("profile/learning_rate")) == f"{at.profile.training.learning_rate:g}"
    assert at.number("bsa asr_content, condition secret") is None
    assert {number.seeds for number in at.used} == {5}


def test_gates_and_region_have_numbers(monkeypatch):
    held = {"initial": True, "attack": False, "task sql": gates.NOT_MEASURED}
    monkeypatch.setattr(gates, "holds", lambda profile, seeds: held)
    cells = {"defense": "bsa", "metric": "asr_content", "epochs": 10, "seeds": 3}
    cells = pd.DataFrame(
        {**cells, "rate": rate, "mean": mean, "worst": 1.0} for rate, mean in ((1, 0.1), (3, 0.3), (9, 1))
    )
    monkeypatch.setattr(region, "cells", lambda table: cells)
    inside = cells[["rate", "epochs"]].assign(holds=[True, True, False])
    monkeypatch.setattr(gates, "attack_cells", lambda profile, seeds: inside)
    at = scale()
    assert [at.number(f"gate/{name}") and at.number(f"gate/{name}").mean for name in ("hold", "all")] == [1, 2]
    assert at.number("gate/attack").mean == 0 and at.number("gate/task sql") is None
    assert str(at.number("region mean/bsa asr_content")) == "20.0\u00a0%"
    assert str(at.number("region worst/bsa asr_content")) == "30.0\u00a0%"
    assert at.number("region worst/none asr_content") is None


def test_the_first_alternative_that_holds_is_told(book):
    book(
        "either: [{if: bsa over_refusal below 5 %, say: few},"
        " {if: bsa asr_content below balanced-bsa asr_content, say: their intervals overlap},"
        " {if: [bsa asr_content below none asr_content, bsa over_refusal at least 0.5],"
        " say: 'safe, and refuses {bsa over_refusal}'}, {say: neither}]"
    )
    told = sentences.shown("03_bsa", [scale()]).data
    assert told.startswith("**`tiny`** (5 seeds)\n\n* safe, and refuses 60.0\u00a0% [")


def test_what_records_do_not_bear_out_fails_the_page(book):
    book("BSA is at {bsa asr_content}.", "{say: The secret stops every attack., if: bsa asr_content below 1 %}")
    with pytest.raises(sentences.NotBorneOut) as failed:
        sentences.shown("03_bsa", [scale()])
    told = str(failed.value).replace("\u00a0", " ")
    assert (
        "book/sentences.yaml, 03_bsa, sentence 2 (The secret stops every attack. ...), tiny: bsa asr_content is" in told
    )
    assert "5.0 % [" in told and told.endswith("not below 1.0 %")
    own = sentences.shown("03_bsa", [scale(ships=False)]).data
    assert "BSA is at" in own and "The secret stops" not in own


def test_a_sentence_needs_three_seeds_and_its_numbers(book):
    book(
        "{say: '{bsa asr_content}', if: bsa asr_content above 90 %}",
        "'{bsa knowledge}'",
        "{say: '{none asr}', scales: [smollm2-135m]}",
    )
    told = sentences.shown("03_bsa", [scale(seeds=2)]).data
    assert told == "**`tiny`** (2 seeds)\n\n* Not enough seeds: a sentence needs three."


def test_a_sentence_about_the_paper_alone_is_told_once(book):
    book("The paper has {paper/main, bsa, asr}.")
    assert sentences.shown("03_bsa", [scale(), scale()]).data == "The paper has 3.6\u00a0%."


def test_seeds_are_those_of_the_sentences_told(book):
    at = scale()
    assert at.number("none asr").seeds == 5, "asked of the same scale before, by a figure"
    book("'{profile/epochs} epochs.'")
    assert sentences.shown("03_bsa", [at]).data == f"**`tiny`**\n\n* {at.number('profile/epochs')} epochs."


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("'{bsaa asr}'", "arm 'bsaa' is unknown; expected one of initial"),
        ("'{bsa asrr}'", "metric 'asrr' is unknown"),
        ("'{somewhere/bsa asr}'", "source 'somewhere' is unknown; expected one of headline"),
        ("'{bsa asr, colour red}'", "column 'colour' is unknown; expected one of condition"),
        ("'{paper/main, bsa, rouge1}'", "reported.csv has no such row"),
        ("'{claims/right}'", "claims has no 'right'; expected one of reproduced"),
        ("'{profile/rate}'", "profile has no 'rate'; expected one of "),
        ("'{gate/open}'", "gate has no 'open'; expected one of hold, all, initial"),
        ("'{().__class__}'", "is unknown"),
        ("{say: x, if: bsa asr < none asr}", "expected two numbers with one of above, below, at least, at most"),
        ("{say: x, when: bsa asr below 1 %}", "field 'when' is unknown or missing"),
        ("{if: bsa asr below 1 %}", "field 'say' is unknown or missing"),
    ],
)
def test_a_wrong_entry_is_named(book, entry, message):
    book("fine", entry)
    with pytest.raises(ValueError, match=r"book/sentences\.yaml, 03_bsa, sentence 2: .*" + message.replace("(", r"\(")):
        sentences.load("03_bsa")


def test_the_largest_disagreements_are_named(book):
    pairs = {"eleven plain examples": "safety-data", "BSA": "bsa", "no defense": "none"}
    compared = ", ".join(f"{name}: [{arm} asr, 'paper/lora, {arm}, asr']" for name, arm in pairs.items())
    book("fine", paper=f"{{{compared}}}")
    at = [scale()]
    told = disagreements.largest("03_bsa", at).replace("\u00a0", " ")
    assert "* eleven plain examples: 95.0 % [" in told and "(`tiny`). The paper has 40.4 %." in told
    assert "BSA" not in told and "no defense" not in told
    shown = disagreements.table("03_bsa", at)
    assert list(shown.index) == list(pairs) and shown["tiny, minus the paper"].iloc[0] == "+54.6 points"
    assert "three seeds" in disagreements.table("03_bsa", [scale(seeds=1)]).index[0]


def test_the_first_figure_has_every_arm_of_every_scale_and_the_paper():
    left, right = first.figure([scale(), scale(seeds=3)]).axes
    assert [len(axis.containers) for axis in (left, right)] == [10, 10]
    names = [text.get_text() for text in left.figure.legends[0].get_texts()]
    assert names == ["tiny", "tiny", "paper, full fine-tuning, keyword ASR", "paper, LoRA, keyword ASR"]
    marks = {line.get_label(): list(line.get_xdata()) for line in left.lines}
    assert marks["paper, LoRA, keyword ASR"] == pytest.approx([0.0327, 0.9527, 0.4036, 0.0291])


def test_a_scale_ships_with_the_seeds_of_the_book(book):
    book("fine")
    asked = {seeds: numbers.scales("tiny", list(range(seeds))) for seeds in (1, 5, 20)}
    assert {seeds: [at.ships for at in found] for seeds, found in asked.items()} == {1: [False], 5: [True], 20: [True]}


def test_every_entry_of_the_book_is_readable():
    given = contrasts.read("sentences.yaml")
    assert set(given["scales"]) <= {path.stem for path in paths.PROFILES.glob("*.yaml")}
    for chapter in given.keys() - {"scales"}:
        assert sentences.load(chapter), chapter
        for name, (ours, paper) in given[chapter].get("paper", {}).items():
            assert numbers.cell(ours) and numbers.of_paper(paper), name


@pytest.mark.parametrize("name", ["07_claims", "08_hosted_models", "home"])
def test_prose_holds_no_measured_number(name):
    """Shares with three decimals and percentages with one are results; "±" stands before a bound."""
    cells = nbformat.read(paths.ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    assert not [found for text in prose for found in re.findall(r"(?<!±)\b\d\.\d{3}|\d\.\d+ ?%", text)]


def test_the_first_page_begins_with_the_finding_the_figure_and_how_to_rerun():
    cells = nbformat.read(paths.ROOT / "notebooks" / "home.ipynb", as_version=4).cells
    texts = "\n".join(cell.source for cell in cells)
    order = ['sentences.shown("home"', "first.figure(", "## Rerun it", "## The numbers", "## The paper's claims"]
    assert order == sorted(order, key=texts.index)
