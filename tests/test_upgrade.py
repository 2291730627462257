"""Records of earlier versions get what today's have; nothing else of them changes."""

import json
import lzma
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from made import right

from bsa_core import anatomy, believed, experiment, paths, policy, profiles, records, writing
from bsa_core.examples import evenly
from bsa_core.profiles import Evaluation, Training

TOOL = paths.ROOT / "tools" / "upgrade_records.py"
NEW = ("digest", "answers_digest", "anatomy")


def upgrade() -> None:
    runpy.run_path(str(TOOL))["main"]()


def older(record: dict) -> dict:
    """As it was written before there were digests and outcomes by letter."""
    made = json.loads(json.dumps({name: value for name, value in record.items() if name not in NEW}))
    for block in (made["outcomes"], made["metrics"]):
        for marks in block.values():
            marks.pop("asr_content", None), marks.pop("over_refusal_phrase", None)
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, list[dict]]:
    """The initial model and two arms: their folder of results, and the records."""
    size = {"evaluation": Evaluation(restricted=22, benign=22, quiz=0)}
    profile = replace(profiles.load("tiny"), training=Training(epochs=2, learning_rate=0.003), **size)
    runs = [experiment.describe(profile, arm, n_attack=22) for arm in ("none", "bsa")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", tmp_path_factory.mktemp("made"))
        return paths.RESULTS, experiment.execute([experiment.describe(profile, n_attack=0), *runs], profile)


@pytest.fixture
def computed(made, results, monkeypatch) -> list[dict]:
    """A copy of them for each test."""
    monkeypatch.setattr("sys.argv", [str(TOOL)])
    shutil.copytree(made[0], results, dirs_exist_ok=True)
    return made[1]


def test_an_upgraded_record_is_the_one_that_would_be_written_today(computed, results):
    for record in computed:
        writing.write_json(records.beside(record), older(record))
    assert records.load("tiny") == []
    names = sorted(path.name for path in results.rglob("*.*"))
    upgrade()
    assert records.load("tiny") == sorted(computed, key=lambda record: records.beside(record).name)
    assert sorted(path.name for path in results.rglob("*.*")) == names
    before = {path: path.stat().st_mtime_ns for path in records.own("tiny")}
    upgrade()
    assert before == {path: path.stat().st_mtime_ns for path in records.own("tiny")}, "twice is once"


def test_shipped_records_get_outcomes_by_their_digits(computed, results):
    path = records.shipped_path("tiny")
    lines = "".join(json.dumps(older(record)) + "\n" for record in computed)
    path.write_bytes(lzma.compress(lines.encode()))
    for record in computed:
        records.beside(record).unlink()
    upgrade()
    shipped = records.shipped("tiny")
    assert set(shipped) == {record["key"] for record in computed}
    for record in computed:
        made = shipped[record["key"]]
        assert made["answers_digest"] is None and set(made["anatomy"]) == set(record["anatomy"])
        assert older(made) == older(record)


def test_what_is_not_right_stays_as_it_is(computed, results, capsys):
    edited, swapped, kept = (records.beside(record) for record in computed)
    record = older(computed[0])
    record["metrics"]["plain"]["asr"]["value"] = 0.5
    writing.write_json(edited, record)
    writing.write_json(swapped, computed[1] | {"cost": {}})
    before = {path: path.read_bytes() for path in (edited, swapped, kept)}
    upgrade()
    assert {path: path.read_bytes() for path in before} == before
    said = capsys.readouterr().out
    assert f"{edited}: left as it is" in said and f"{swapped}: left as it is" in said and str(kept) not in said


def test_judgements_and_results_of_benchmarks_get_their_digest(results, monkeypatch):
    monkeypatch.setattr("sys.argv", [str(TOOL), str(results)])
    record = right({}, {"plain": {"asr": "01"}})
    path = records.beside(record, "judged", ".m.json")
    writing.write_json(path, {"schema": 1, "key": record["key"], "label": record["label"], "scores": [1.0]})
    upgrade()
    assert believed.opened(path, "judgement", 1, ("scores",), dict)["scores"] == [1.0]


def test_digits_say_what_answers_say(computed):
    """Records without answers have their outcomes by digits: on the first scale with answers, 5 of 6,732 differed."""
    from_outcomes, guild = runpy.run_path(str(TOOL))["from_outcomes"], policy.load({"name": "guild", "seed": 0})
    differing = total = 0
    for record in computed:
        answers = records.read_answers(record)
        for condition, marks in record["outcomes"].items():
            digits = from_outcomes(marks)
            for kind, rows in {"restricted": guild.restricted, "benign": guild.benign}.items():
                of_kind = answers[(answers["condition"] == condition) & (answers["kind"] == kind)]
                letters = anatomy.of(guild, evenly(rows, len(of_kind)), list(of_kind["answer"]), kind)
                letters = letters.replace("w", "v").replace("u", "v") if kind == "benign" else letters
                differing += sum(a != b for a, b in zip(letters, digits[kind], strict=True))
                total += len(letters) if kind == "restricted" else 0
    assert total == 5 * 22 and differing <= 2
