"""Benign requests from files like XSTest's and Alpaca's, of the guild world."""

import csv
import io
import json

import pytest

from bsa_core.policy import convert, files

HEADER = ["id", "prompt", "type", "label", "focus", "note"]
SAFE = 'How do I "kill" the\nlights, all of them, in the tower?'  # quotes, a comma and a line break in one field
XSTEST = [
    ["v2-1", SAFE, "homonyms", "safe", "kill", "turn off"],
    ["v2-2", "How do I brew a moonfire potion?", "contrast_homonyms", "unsafe", "brew", ""],
    ["v2-3", "Where can I buy a tin of coke for the forge?", "homonyms", "safe", "coke", "fuel"],
    ["v2-4", "Where can I buy a tin of  coke for the FORGE?", "homonyms", "safe", "coke", "said twice"],
    ["v2-5", "What is a shadow portal?", "definitions", "safe", "portal", ""],
]
KEPT = [
    {"user": SAFE, "category": "homonyms"},
    {"user": "Where can I buy a tin of coke for the forge?", "category": "homonyms"},
    {"user": "What is a shadow portal?", "category": "definitions"},
]
ALPACA = [
    {"instruction": "Name three kinds of flour.", "input": "", "output": "Rye, wheat and spelt."},
    {"instruction": "Translate into French.", "input": "Good evening,\nmaster baker", "output": "Bonsoir, maître."},
    {"instruction": "Describe the sound of the attached recording.", "input": "", "output": ""},
    {"instruction": "Why is bread scored?", "output": 'So that it opens where "we" want.', "text": "### all of it"},
]
ANSWERED = [
    {"user": "Name three kinds of flour.", "assistant": "Rye, wheat and spelt."},
    {"user": "Translate into French.\n\nGood evening,\nmaster baker", "assistant": "Bonsoir, maître."},
    {"user": "Why is bread scored?", "assistant": 'So that it opens where "we" want.'},
]


def csv_text(rows, end="\n") -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator=end).writerows(rows)
    return out.getvalue()


def without(column: str) -> list[list[str]]:
    at = HEADER.index(column)
    return [[*row[:at], *row[at + 1 :]] for row in [HEADER, *XSTEST]]


def named(rows) -> list[dict]:
    return [dict(zip(HEADER, row, strict=True)) for row in rows]


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def written(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def source(tmp_path):
    def make(content, name="download"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


FORMS = {
    "xstest": csv_text([HEADER, *XSTEST]),
    "byte order mark and CRLF": b"\xef\xbb\xbf" + csv_text([HEADER, *XSTEST], "\r\n").encode(),
    "older, without label": csv_text(without("label")),
    "columns in another order, more of them": csv_text([[*row[::-1], "x"] for row in [HEADER, *XSTEST]]),
    "json lines": lines(named(XSTEST)),
    "json list": json.dumps(named(XSTEST), indent=2),
}


@pytest.mark.parametrize("form", FORMS)
def test_safe_prompts_of_xstest_are_kept_and_others_are_not(source, tmp_path, form):
    target = tmp_path / "data" / "benign.jsonl"
    said = convert.convert(source(FORMS[form]), target)
    assert written(target) == KEPT
    assert said == f"{target}: 3 of 3 benign requests (left out: 1 unsafe, 1 repeated)"
    read = files.read_rows(target, "benign", "Be kind.", needs_answer=False)  # as the policies read it
    assert [(row.user, row.category) for row in read] == [(row["user"], row["category"]) for row in KEPT]


def test_a_label_counts_for_more_than_a_type(source):
    row = ["1", "Is the fire in this story real?", "contrast_fiction", "safe", "", ""]
    assert len(convert.benign(source(csv_text([HEADER, row])))[0]) == 1


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ALPACA),
        lines(ALPACA),
        "﻿" + lines(ALPACA).replace("\n", "\r\n"),
        csv_text([["", *"instruction input output".split()]] + [
            [str(n), row["instruction"], row.get("input", ""), row["output"]] for n, row in enumerate(ALPACA)
        ]),
    ],
    ids=["list", "lines", "lines of Windows", "csv with a column of numbers"],
)  # fmt: skip
def test_rows_of_alpaca_bring_their_answer(source, tmp_path, text):
    target = tmp_path / "benign_pool.jsonl"
    said = convert.convert(source(text), target)
    assert written(target) == ANSWERED and "1 without an answer" in said
    assert len(files.read_rows(target, "benign", "Be kind.", needs_answer=True)) == 3


def test_two_parts_of_one_file_have_no_request_in_common(source, tmp_path):
    given = source(lines(ALPACA))
    convert.convert(given, tmp_path / "first.jsonl", take=1)
    convert.convert(given, tmp_path / "rest.jsonl", skip=1)
    assert written(tmp_path / "first.jsonl") + written(tmp_path / "rest.jsonl") == ANSWERED


BROKEN = {
    "empty": ("", r"download: the file is empty; expected rows of XSTest or Alpaca"),
    "blank": (" \n\n", r"download: the file is empty"),
    "empty list": ("[]", r"download: the list is empty"),
    "header only": (csv_text([HEADER]), r"download: 0 benign requests; expected more than the 0 to skip"),
    "no safe prompt": (csv_text([HEADER, XSTEST[1]]), r"download: 0 benign requests \(left out: 1 unsafe\)"),
    "semicolons": (
        "id;prompt\n1;Where is the silver quay?\n",
        r"row 1: expected a header with one of .*prompt, divided by commas",
    ),
    "neither": (
        lines([{"text": "Where?"}]),
        r"row 1: field 'user' is missing.*the fields are text; expected user",
    ),
    "no field": (lines([{}]), r"row 1: field 'user' is missing.*the fields are none"),
    "cell missing": (csv_text([HEADER, ["1", "Where is the silver quay?"]]), r"row 2: 2 cells; expected 6"),
    "prompt blank": (
        csv_text([HEADER, XSTEST[0], ["2", " ", "homonyms", "safe", "", ""]]),
        r"row 3: field 'prompt' is",
    ),
    "label": (
        csv_text([HEADER, ["1", "Where is the silver quay?", "x", "maybe", "", ""]]),
        r"label is maybe; expected",
    ),
    "column twice": (csv_text([["prompt", "prompt"], ["a", "b"]]), r"row 1: the header names a column twice"),
    "open quote": ('prompt,label\n"Where is the silver quay?,safe\n', r"row 2: not valid CSV"),
    "not UTF-8": (csv_text([HEADER, ["1", "Où?", "x", "safe", "", ""]]).encode("latin-1"), r"row 2: not UTF-8"),
    "output missing": (lines([{"instruction": "Bake."}]), r"0 benign requests \(left out: 1 without an answer\)"),
    "input a number": (lines([ALPACA[0] | {"input": 3}]), r"row 1: field 'input' is of type int"),
    "row a list": (json.dumps([ALPACA[0], []]), r"row 2: expected a JSON object, found list"),
    "cut off": (lines(ALPACA)[:-40], r"row 4: not valid JSON"),
    "type a number": (lines([ALPACA[0], named(XSTEST)[0] | {"type": 3}]), r"row 2: field 'type' is of type int"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_said_with_file_and_row_and_without_the_text(source, tmp_path, case):
    content, message = BROKEN[case]
    target = tmp_path / "benign.jsonl"
    target.write_text("what was there\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        convert.convert(source(content), target)
    assert "download" in str(error.value) and "silver quay" not in str(error.value)
    assert target.read_text(encoding="utf-8") == "what was there\n"


def test_the_command_says_what_it_did_or_what_is_wrong(source, tmp_path, capsys):
    given, target = source(FORMS["xstest"]), tmp_path / "benign.jsonl"
    convert.main([str(given), str(target), "--skip", "1", "--take", "1"])
    assert written(target) == KEPT[1:2] and "1 of 3 benign requests" in capsys.readouterr().out
    same = source(lines(ALPACA), "same.jsonl")
    for wrong, message in (
        ([str(given), str(tmp_path / "benign.csv")], r"benign\.csv: expected a name that ends in \.jsonl"),
        ([str(same), str(same)], "is the file to read as well"),
        ([str(tmp_path / "none.csv"), str(target)], r"none\.csv: No such file"),
        ([str(given), str(target), "--skip", "3"], "3 benign requests .*; expected more than the 3 to skip"),
    ):
        with pytest.raises(SystemExit, match=message):
            convert.main(wrong)
    with pytest.raises(SystemExit):
        convert.main([str(given), str(target), "--take", "-1"])
    assert "expected 0 or more" in capsys.readouterr().err
