"""A record is believed only when it is whole, its own and right; any other is named, never used, never overwritten."""

import json
import math
import os

import pytest
from made import right

from bsa_core import anatomy, believed, progress, records

RUN = {
    "n_attack": 100,
    "n_defense": 11,
    "secret": {"kind": "random", "length": 32, "seed": 0},
    "training": {"epochs": 5, "learning_rate": 0.001},
}
OUTCOMES = {
    "plain": {
        "asr": "1101",
        "asr_content": "0101",
        "harmfulness": "5213",
        "over_refusal": "010",
        "rouge1": [0.25, 1.0],
    },
    "secret": {"asr": "0001", "harmfulness": "1114", "over_refusal": "110", "rouge1": [0.5, 0.75]},
}
CATEGORIES = {"meals": {"value": 0.5, "n": 2}, "noise": {"value": 1.0, "n": 2}}


def made(**run) -> dict:
    letters = {condition: {"restricted": "rcrc", "benign": "hrh"} for condition in OUTCOMES}
    record = right(RUN | run, OUTCOMES, anatomy=letters)
    record["metrics"]["plain"]["asr"] |= {
        "categories": CATEGORIES,
        "seen": {"value": 1.0, "n": 1},
        "unseen": {"value": 2 / 3, "n": 3},
    }
    return records.sealed(record)


RECORD, OTHER = made(), made(seed=1)


def put(*place, to) -> object:
    """An edit that sets one value, at a path of names."""

    def edit(record: dict) -> None:
        *above, last = place
        for name in above:
            record = record[name]
        record[last] = to

    return edit


# What another version of the code, or a hand that knows of digests, could write: name -> edit, field that is named.
RIGHT_DIGEST = {
    "a metric": (put("metrics", "plain", "asr", "value", to=0.25), "metrics.plain.asr"),
    "a metric slightly": (put("metrics", "secret", "asr", "value", to=0.2501), "metrics.secret.asr"),
    "a metric null": (put("metrics", "plain", "asr", "value", to=None), "metrics.plain.asr"),
    "a metric text": (put("metrics", "plain", "asr", "value", to="0.75"), "metrics.plain.asr"),
    "a metric beyond floats": (put("metrics", "plain", "asr", "value", to=10**400), "form of a record"),
    "a metric true": (put("metrics", "plain", "asr", "value", to=True), "metrics.plain.asr"),
    "a number of requests": (put("metrics", "plain", "asr", "n", to=5), "metrics.plain.asr"),
    "a category": (put("metrics", "plain", "asr", "categories", "meals", "value", to=1.0), "metrics.plain.asr"),
    "a category's size": (put("metrics", "plain", "asr", "categories", "noise", "n", to=3), "metrics.plain.asr"),
    "a category less": (put("metrics", "plain", "asr", "categories", to={"meals": CATEGORIES["meals"]}), "plain.asr"),
    "seen subjects": (put("metrics", "plain", "asr", "seen", "n", to=2), "seen and unseen"),
    "a metric too many": (put("metrics", "plain", "made_up", to={"value": 1.0, "n": 1}), "metrics.plain"),
    "a condition less": (lambda record: record["metrics"].pop("secret"), "metrics"),
    "metrics a list": (put("metrics", "plain", to=[1]), "metrics.plain"),
    "an outcome": (put("outcomes", "plain", "asr", to="0101"), "metrics.plain.asr"),
    "outcomes cut": (put("outcomes", "plain", "asr", to="110"), "metrics.plain.asr"),
    "outcomes of letters": (put("outcomes", "plain", "asr", to="yyny"), "outcomes.plain.asr"),
    "outcomes out of range": (put("outcomes", "plain", "asr", to="2100"), "outcomes.plain.asr"),
    "a score of 0": (
        put("outcomes", "plain", "harmfulness", to="5213".replace("1", "0")),
        "outcomes.plain.harmfulness",
    ),
    "outcomes in other digits": (put("outcomes", "plain", "asr", to="١١٠١"), "outcomes.plain.asr"),
    "no outcomes": (put("outcomes", "plain", "asr", to=""), "metrics.plain.asr"),
    "an outcome text in a list": (put("outcomes", "plain", "rouge1", to=["0.25", 1.0]), "outcomes.plain.rouge1"),
    "outcomes of one condition": (put("outcomes", to={"plain": OUTCOMES["plain"]}), "outcomes"),
    "outcomes a number": (put("outcomes", "plain", "asr", to=3), "form of a record"),
    "deployed": (put("deployed", to="elsewhere"), "deployed"),
    "deployed a list": (put("deployed", to=["plain"]), "form of a record"),
    "deployed, not trained": (lambda record: record["run"].update(training=None), "key"),
    "a loss null": (put("training", "loss", 0, to=None), "training.loss"),
    "a loss text": (put("training", "loss", 0, to="0.5"), "training.loss"),
    "an argument of the run": (put("run", "n_attack", to=10), "key"),
    "a seed": (put("run", "seed", to=1), "key"),
    "another profile": (put("run", "profile", to="smollm2-135m"), "key"),
    "weights": (put("run", "weights", to="0" * 16), "key"),
    "a task": (put("run", "task", to={"name": "sql"}), "key"),
    "the run a text": (put("run", to="bsa"), "form of a record"),
    "rows trained on": (put("data", "train_digest", to="d" * 16), "key"),
    "rows evaluated": (put("data", "restricted_digest", to="d" * 16), "key"),
    "no data": (put("data", to=None), "form of a record"),
    "a key": (put("key", to=OTHER["key"]), "key"),
    "a key of capitals": (put("key", to=RECORD["key"].upper() + "A"), "key"),
    "letters cut": (put("anatomy", "plain", "restricted", to="rc"), "anatomy.plain.restricted"),
    "letters of no outcome": (put("anatomy", "secret", "restricted", to="rcqc"), "anatomy.secret.restricted"),
    "letters of the other kind": (put("anatomy", "plain", "benign", to="hrc"), "anatomy.plain.benign"),
    "letters that give content elsewhere": (
        put("anatomy", "plain", "restricted", to="crrc"),
        "anatomy.plain.restricted",
    ),
    "items cut": (put("items", "restricted_seen", to="1"), "outcomes.plain.asr"),
}
# What only the digest tells.
EDITS = RIGHT_DIGEST | {
    "a loss": (put("training", "loss", 0, to=0.4), "digest"),
    "tokens": (put("training", "tokens", to=1), "digest"),
    "a cost": (put("cost", "train_seconds", to=0.5), "digest"),
    "the machine": (put("environment", "python", to="3.12"), "digest"),
    "a label": (put("label", to="safety-data-a100-d11-e5-seed0"), "digest"),
    "a field more": (put("note", to="mine"), "digest"),
    "outcomes that give the same metric": (put("outcomes", "plain", "asr", to="1110"), "digest"),
    "digest": (put("digest", to="0" * 16), "digest"),
    "digest null": (put("digest", to=None), "digest"),
    "leaked": (put("data", "leaked", to=1), "digest"),
    "a number as another": (put("data", "leaked", to=0.0), "digest"),
}


def test_the_letters_are_those_of_the_outcomes():
    assert {kind: set(letters) for kind, letters in believed.LETTERS.items()} == {
        kind: set(names) for kind, names in anatomy.OUTCOMES.items()
    }


@pytest.fixture
def written(results):
    return records.write(RECORD)


def refused(path, said: str, capsys) -> None:
    """Named with its path and the way out; not used; left as it is."""
    content = path.read_bytes() if path.is_file() else None
    with pytest.raises(ValueError) as error:
        records.find("tiny", RECORD["label"], RECORD["key"])
    message = str(error.value)
    assert message.startswith(f"{path}: ") and said in message and "delete the file and run again" in message
    assert "\n" not in message
    capsys.readouterr()
    assert RECORD not in records.load("tiny")
    assert f"left out: {path}: " in capsys.readouterr().err
    assert content is None or path.read_bytes() == content


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_record_is_named_and_never_used(written, name, capsys):
    edited = json.loads(written.read_text(encoding="utf-8"))
    EDITS[name][0](edited)
    written.write_text(json.dumps(edited), encoding="utf-8")
    refused(written, "field 'digest'", capsys)


@pytest.mark.parametrize("name", RIGHT_DIGEST)
def test_a_record_that_cannot_be_right_is_refused_whatever_its_digest(written, name, capsys):
    edited = json.loads(written.read_text(encoding="utf-8"))
    edit, field = RIGHT_DIGEST[name]
    edit(edited)
    written.write_text(json.dumps(believed.sealed(edited)), encoding="utf-8")
    refused(written, field, capsys)
    with pytest.raises(ValueError, match="is not written: "):
        records.write(edited)


def text(change):
    """An edit of the file's text."""
    return lambda path: path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


def instead(make):
    """Something else in the file's place."""

    def edit(path):
        path.unlink()
        make(path)

    return edit


FILES = {
    "emptied": (text(lambda said: ""), "not a readable record"),
    "cut": (text(lambda said: said[: len(said) // 2]), "not a readable record"),
    "two in one": (text(lambda said: said * 2), "not a readable record"),
    "no UTF-8": (lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()), "not a readable record"),
    "a list": (text(lambda said: f"[{said}]"), "expected a JSON object"),
    "NaN": (text(lambda said: said.replace("0.75", "NaN", 1)), "NaN is no number"),
    "infinity": (text(lambda said: said.replace("0.75", "-Infinity", 1)), "-Infinity is no number"),
    "more than a float holds": (text(lambda said: said.replace("0.75", "1e999", 1)), "not JSON compliant"),
    "5,000 digits": (text(lambda said: said.replace("0.75", "7" * 5000, 1)), "not a readable record"),
    "nested deeply": (text(lambda said: said.replace("0.75", "[" * 10**5 + "]" * 10**5, 1)), "nested too deeply"),
    "a field twice": (text(lambda said: said.replace('"deployed"', '"deployed": "plain", "deployed"', 1)), "twice"),
    "a metric twice": (text(lambda said: said.replace('"value"', '"value": 0.0, "value"', 1)), "twice"),
    "schema true": (text(lambda said: said.replace('"schema": 1', '"schema": true')), "'schema' is True"),
    "another schema": (text(lambda said: said.replace('"schema": 1', '"schema": 0')), "'schema' is 0"),
    "no digest": (text(lambda said: said.replace('"digest": ', '"digested": ')), "upgrade_records.py"),
    "another run's": (text(lambda said: json.dumps(OTHER)), "belongs to"),
    "a folder": (instead(lambda path: path.mkdir()), "not a readable record"),
    "a dangling link": (instead(lambda path: path.symlink_to(path.parent / "gone")), "not a readable record"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_and_never_used(written, name, capsys):
    edit, said = FILES[name]
    edit(written)
    refused(written, said, capsys)


def test_the_record_of_another_scale(written, results, capsys):
    """Copied into the folder of a scale, with a name that a record can have."""
    (results / "other").mkdir()
    copy = results / "other" / written.name
    copy.write_bytes(written.read_bytes())
    assert records.load("other") == [] and f"{copy}: field 'run.profile'" in capsys.readouterr().err


def test_two_swapped_files_do_not_stop_the_scale(written, results, capsys):
    second, third = records.write(OTHER), records.write(made(seed=2))
    one, two = written.read_bytes(), second.read_bytes()
    written.write_bytes(two), second.write_bytes(one)
    assert records.load("tiny") == [records.read(third)]
    assert capsys.readouterr().err.count("left out") == 2
    assert records.load("tiny") and capsys.readouterr().err == "", "said once"


@pytest.mark.parametrize(
    "name",
    [
        "notes.json",
        "X.bak.json",
        "{}.bak.json",
        "{} copy.json",
        "{} (1).json",
        "{}.json~",
        "{}.json.orig",
        "._{}.json",
        ".{}.json",
        "{}.utility.json",
    ],
)
def test_files_whose_name_no_record_has_are_not_read(written, results, name, capsys):
    beside = results / "tiny" / name.format(written.stem)
    for make in (
        lambda: beside.write_bytes(written.read_bytes().replace(b"0.75", b"0.25")),
        lambda: beside.symlink_to(results / "gone"),
        lambda: beside.mkdir(),
    ):
        make()
        assert records.load("tiny") == [RECORD] and records.own("tiny") == [written]
        beside.rmdir() if beside.is_dir() else beside.unlink()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_written(results, number):
    for edit in (put("metrics", "plain", "asr", "value", to=number), put("training", "loss", 0, to=number)):
        record = json.loads(json.dumps(RECORD))
        edit(record)
        with pytest.raises(ValueError, match=r"not JSON compliant|not finite"):
            records.write(record)
    assert list(results.rglob("*.json")) == []


def test_a_served_models_record_is_checked_as_well(results, capsys):
    path = records.write(made(host="somewhere.example", model="m"))
    assert path.parent.name == "hosted" and len(records.load("tiny", "hosted")) == 1
    path.write_text(path.read_text(encoding="utf-8").replace("0.75", "0.25", 1), encoding="utf-8")
    assert records.load("tiny", "hosted") == [] and f"left out: {path}" in capsys.readouterr().err
    os.unlink(path)
    assert records.load("tiny", "hosted") == []


def test_half_of_a_character_in_a_message_can_be_printed():
    """JSON may hold one, as in the label of a damaged result."""
    assert (
        progress.cut("it belongs to '\ud83d'") == r"it belongs to '\ud83d'" == progress.cut(r"it belongs to '\ud83d'")
    )
    assert progress.cut("a wave 👋") == "a wave 👋"


@pytest.mark.parametrize("seconds, said", [(89, "89 s"), (91, "2 min"), (5300, "88 min"), (19000, "5.3 h")])
def test_a_duration_for_people(seconds, said):
    assert progress.duration(seconds) == said
