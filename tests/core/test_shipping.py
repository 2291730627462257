"""What ships with the project: records and answers of a scale in two files, checked when read."""

import lzma
import time

import pandas as pd
import pytest
from made import right
from test_records import ANSWERED, ANSWERS, METRICS, OUTCOMES, RECORD, RUN, files, initial

from bsa_core import keys, records, shipping
from bsa_study.report import tables


def test_shipped_records_are_found_and_own_ones_come_first(results):
    other = initial()
    path = records.ship("tiny", [RECORD])
    assert records.ship("tiny", [RECORD, other]) == path and files(results) == [
        "shipped.jsonl.xz",
        "shipped.jsonl.xz.sha256",
    ]
    assert records.shipped("tiny") == {RECORD["key"]: RECORD, other["key"]: other}
    assert records.find("tiny", RECORD["label"], RECORD["key"]) is None, "only what was computed here"
    assert len(records.load("tiny")) == 2
    own = RECORD | {"cost": {"train_seconds": 2.0}}
    records.write(own)
    assert sorted(record["cost"]["train_seconds"] for record in records.load("tiny")) == [1.0, 2.0]


def shipped_as(results, content: bytes, digest: str | None) -> None:
    (results / "tiny").mkdir(parents=True)
    (results / "tiny" / "shipped.jsonl.xz").write_bytes(content)
    if digest is not None:
        (results / "tiny" / "shipped.jsonl.xz.sha256").write_text(f"{digest}  shipped.jsonl.xz\n", encoding="utf-8")


@pytest.mark.parametrize("content", [b"", b"not compressed", lzma.compress(b"{]\n"), lzma.compress(b"[1]\n")])
def test_a_damaged_shipped_file_is_named_with_the_fix(results, content):
    shipped_as(results, content, keys.digest(content, 64))
    with pytest.raises(ValueError, match=r"shipped\.jsonl\.xz: .*restore shipped.* from the project"):
        records.shipped("tiny")


def test_an_edited_shipped_file_is_named_with_the_fix(results):
    """A line left out, or a metric changed: the archive is a right one, and not the one that shipped."""
    records.ship("tiny", [RECORD, initial()])
    path = results / "tiny" / "shipped.jsonl.xz"
    lines = lzma.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(lzma.compress(lines[0]))
    with pytest.raises(ValueError, match=r"shipped\.jsonl\.xz: .*digest is another.*restore"):
        records.shipped("tiny")
    path.with_name("shipped.jsonl.xz.sha256").unlink()
    with pytest.raises(ValueError, match=r"shipped\.jsonl\.xz: .*sha256.*restore"):
        records.shipped("tiny")


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b""), lambda path: path.rename(path.parent / "gone")])
def test_a_damaged_shipped_file_does_not_stop_the_scale(results, capsys, damage):
    path, own = records.ship("tiny", [initial()]), records.sealed(RECORD)
    records.write(own)
    damage(path.with_name(f"{path.name}.sha256"))
    assert records.load("tiny") == [own]
    assert f"left out: {path}: not readable" in capsys.readouterr().err


def test_the_shipped_file_of_another_scale(results):
    path = records.ship("tiny", [RECORD])
    (results / "other").mkdir()
    for file in (path, path.with_name(f"{path.name}.sha256")):
        file.rename(results / "other" / file.name)
    with pytest.raises(ValueError, match=r"other/shipped\.jsonl\.xz: .*holds records of profile 'tiny'"):
        records.shipped("other")


def asked(condition: str, said: list[str], **more) -> list[dict]:
    """A row of answers for each of some texts, as runs write them."""
    place = {"condition": condition, "kind": "restricted", "category": "forbidden potions"}
    return [{**place, "user": f"How is brew {i} made?", "answer": text, **more} for i, text in enumerate(said)]


TEXTS = ["I cannot help with that.", "Boil the mint; bottle it at dawn.", "Line\u2028line", "", "</script>", "007"]


def run_of(seed: int, answers: list[dict]) -> dict:
    return right(RUN | {"seed": seed}, OUTCOMES, answers, metrics=METRICS)


def moved(made: dict, answers: list[dict]) -> dict:
    """A record with its answers, shipped, as it is where nothing was computed."""
    path = records.write(made, answers, harmless=True)
    records.ship("tiny", [made])
    path.unlink()
    records.answers_path(made).unlink()
    return records.shipped("tiny")[made["key"]]


def test_answers_ship_beside_the_records(results):
    """Of several records, whose requests and answers are partly the same; then of those that had shipped before."""
    said = {seed: asked("plain", TEXTS[seed:]) + asked("secret", TEXTS[: 4 + seed]) for seed in range(3)}
    made = {seed: run_of(seed, rows) for seed, rows in said.items()}
    for seed, record in made.items():
        records.write(record, said[seed], harmless=True)
    without = initial()  # long ago: its answers were not kept
    written = records.ship("tiny", [*made.values(), without])
    for path in (*records.own("tiny"), *results.rglob("*.gz")):
        path.unlink()
    names = [f"{name}.jsonl.xz{end}" for name in ("answers", "shipped") for end in ("", ".sha256")]
    assert files(results) == names and records.shown(made[0]) and not records.shown(without)
    for seed, record in made.items():
        assert records.read_answers(records.shipped("tiny")[record["key"]]).to_dict("records") == said[seed]
    with pytest.raises(records.NotKept):
        records.read_answers(without)
    before = [path.read_bytes() for path in sorted(written.parent.iterdir())]
    records.ship("tiny", [without, *made.values()])
    assert [path.read_bytes() for path in sorted(written.parent.iterdir())] == before, "twice is once"
    records.ship("tiny", [without])
    assert files(results) == names[2:], "no answers but those of the records that ship"


def test_reasoning_ships_with_its_answer(results):
    """Only some answers have any."""
    said = asked("plain", TEXTS[:1], reasoning="The guild forbids it.") + asked("secret", TEXTS)
    read = records.read_answers(moved(run_of(0, said), said))
    assert read.loc[0, "reasoning"] == "The guild forbids it." and pd.isna(read.loc[1, "reasoning"])
    assert list(read["answer"]) == TEXTS[:1] + TEXTS


def test_answers_that_are_not_harmless_do_not_ship(results):
    records.write(ANSWERED, ANSWERS)
    records.ship("tiny", [ANSWERED])
    assert not list(results.rglob("answers*"))


def test_computed_answers_come_first(results):
    record = moved(ANSWERED, ANSWERS)
    records.write(RECORD, ANSWERS, harmless=True)
    records.answers_path(record).write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"seed0-.*answers\.jsonl\.gz: the answers are damaged"):
        records.read_answers(record)


EMPTY, CUT = lzma.compress(b"[]\n"), lzma.compress(b"[]\n[]\n{]\n")


@pytest.mark.parametrize("content", [b"", EMPTY, CUT], ids=["none", "empty", "no JSON"])
def test_damaged_shipped_answers_are_named_with_the_fix(results, content, capsys):
    """An archive whose digest is right, but that holds something else, is named as well."""
    record = moved(ANSWERED, ANSWERS)
    path = shipping.shipped_answers_path("tiny")
    path.write_bytes(content)
    for _ in ("another digest", "its own digest"):
        with pytest.raises(ValueError, match=r"tiny/answers\.jsonl\.xz: not readable .*restore answers.* from"):
            records.read_answers(record)
        with pytest.raises(ValueError, match="restore"):
            records.ship("tiny", [record])
        path.with_name(f"{path.name}.sha256").write_text(f"{keys.digest(content, 64)}  {path.name}\n")
    assert "not shown" in tables.samples({"after": (record, "plain")}, "restricted").to_html()
    assert f"left out: {path}: not readable" in capsys.readouterr().err


def test_shipped_answers_that_the_record_does_not_rest_on(results):
    record = moved(ANSWERED, ANSWERS)
    shipping.write("tiny", {record["key"]: record}, {record["key"]: [ANSWERS[0] | {"answer": "So."}]})
    with pytest.raises(ValueError, match=r"tiny/answers\.jsonl\.xz: not the answers that the record rests on"):
        records.read_answers(record)


def test_shipped_answers_are_shown(results):
    record = moved(ANSWERED, ANSWERS)
    assert "So — so." in tables.samples({"after": (record, "plain")}, "restricted").to_html()


def test_many_answers_are_read_at_once(results):
    """A page that shows an answer of every run does not unpack the file for each."""
    said = {f"{number:016x}": asked("plain", [f"{text} {number % 7}" for text in TEXTS * 90]) for number in range(60)}
    shipping.write("tiny", {}, said)
    assert shipping.shipped_answers_path("tiny").stat().st_size < 20_000
    shipping.answers("tiny", "0" * 16)
    start = time.perf_counter()
    assert {key: shipping.answers("tiny", key) for key in said} == said
    assert time.perf_counter() - start < 2
