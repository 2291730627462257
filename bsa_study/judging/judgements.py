"""Judgements: what one judge gave to the answers of one run, as a JSON file apart from the run's record.

    results/<profile>/judged/<label>-<key>.<judge name>.json

It holds one score per restricted request (null where the judge's reply could not be read; 1, the lowest, where there is
no answer to judge), their mean, who judged and what that took. It never holds a prompt, an answer, a judge's
reasons or a key.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from typing import Protocol

import pandas as pd

from bsa_core import believed, records, writing
from bsa_core.keys import digest_of
from bsa_study.hosted.budget import Usage

SCHEMA = 1
LOWEST = 1  # the score of no answer, which gives nothing away
FIELDS = ("schema", "key", "label", "judge", "answers_digest", "scores", "metrics", "requests", "tokens", "created")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Judge(Protocol):
    """description: kind, model, host (None for a local model) and digest of all that the judge is told.
    used: requests and tokens so far."""

    description: dict
    used: Usage

    def score(self, requests: list[str], answers: list[str]) -> list[int | None]:
        """1-5 for each answer, None where there is no telling."""

    def expected(self, requests: list[str], answers: list[str]) -> Usage:
        """What `score` takes at most, estimated."""


def name_of(model: str) -> str:
    """A judge's name made from its model's: the last part of a path or hub id."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(model).name).strip(".-_") or "judge"


def path_of(record: dict, name: str) -> Path:
    if not NAME.fullmatch(name):
        raise ValueError(f"the judge's name is {name!r}; expected letters, digits, '.', '-' and '_'")
    return records.beside(record, "judged", f".{name}.json")


def of(record: dict) -> dict[str, dict]:
    """The judgements of a record, by the judge's name, sorted."""
    of_all = records.beside(record, "judged", ".")
    found = sorted(of_all.parent.glob(f"{escape(of_all.name)}*.json"))
    return {judgement["judge"]["name"]: judgement for judgement in map(read, found)}


def read(path: Path) -> dict:
    """A judgement, checked; ValueError names file, field and fix."""
    return believed.opened(path, "judgement", SCHEMA, FIELDS, _check, "delete the file and judge again")


def _check(judgement: dict) -> None:
    """ValueError where the metrics are not those of the scores."""
    if not isinstance(judgement["judge"]["name"], str) or not isinstance(judgement["judge"]["model"], str):
        raise ValueError("field 'judge' names no judge and model")
    for condition, scores in judgement["scores"].items():
        if wrong := [score for score in scores if score is not None and type(score) is not int]:
            raise ValueError(f"field 'scores.{condition}' holds {wrong[0]!r}, expected whole numbers or null")
    if judgement["metrics"] != {condition: _summary(marks) for condition, marks in judgement["scores"].items()}:
        raise ValueError("field 'metrics' does not follow from 'scores'")


def restricted_answers(record: dict) -> pd.DataFrame | None:
    """The answers to restricted requests: columns condition, user, answer; None where the run's were not kept.

    Raises ValueError when they are damaged or not those that the record counts.
    """
    where = f"the answers of {record['label']}-{record['key']}"
    fix = "delete its record and compute the run again"
    try:
        rows = records.read_answers(record)
    except records.NotKept:
        return None
    rows = rows[rows["kind"] == "restricted"][["condition", "user", "answer"]]
    expected = {condition: len(marks["asr"]) for condition, marks in record["outcomes"].items()}
    if (found := rows.groupby("condition").size().to_dict()) != expected:
        raise ValueError(f"{where} number {found} by condition; expected {expected} as in the record; {fix}")
    return rows


def digest(answers: pd.DataFrame) -> str:
    """16 hex digits over the judged rows."""
    return digest_of(answers.values.tolist())


def pending(found: list[dict], judge: Judge, name: str) -> list[tuple[dict, pd.DataFrame]]:
    """The records that have answers and no judgement of these answers by that name, each with its answers.

    Raises ValueError when a judgement of that name was made by another judge: another model, rubric or policy.
    """
    wanted = []
    for record in found:
        answers = restricted_answers(record)
        if answers is None:
            continue
        path = path_of(record, name)
        judgement = read(path) if path.is_file() else None
        if judgement and judgement["judge"] != {"name": name, **judge.description}:
            other = f"judged by {judgement['judge']}, not by {judge.description}"
            raise ValueError(f"{path}: {other}; give this judge another --name, or delete the old judgements")
        if judgement is None or judgement["answers_digest"] != digest(answers):
            wanted.append((record, answers))
    return wanted


def expected(wanted: list[tuple[dict, pd.DataFrame]], judge: Judge) -> Usage:
    """What judging all of `pending` takes at most, estimated; answers that occur in several runs are asked once."""
    rows = pd.concat([answers for _, answers in wanted]) if wanted else pd.DataFrame(columns=["user", "answer"])
    rows = _answered(rows)
    return judge.expected(rows["user"].tolist(), rows["answer"].tolist())


def _answered(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with an answer: where there is none, no judge is asked."""
    return rows[rows["answer"].str.strip() != ""]


def judge_all(wanted: list[tuple[dict, pd.DataFrame]], judge: Judge, name: str) -> Iterator[dict]:
    """Judge record by record and write each judgement, whole or not at all, before it is yielded."""
    for record, answers in wanted:
        before = judge.used
        some = _answered(answers)
        given = iter(judge.score(some["user"].tolist(), some["answer"].tolist()))
        scored = answers.assign(score=[next(given) if text.strip() else LOWEST for text in answers["answer"]])
        took = judge.used - before
        scores = {
            condition: [None if pd.isna(score) else int(score) for score in rows["score"]]
            for condition, rows in scored.groupby("condition", sort=False)
        }
        made = {
            "schema": SCHEMA,
            "key": record["key"],
            "label": record["label"],
            "judge": {"name": name, **judge.description},
            "answers_digest": digest(answers),
            "scores": scores,
            "metrics": {condition: _summary(marks) for condition, marks in scores.items()},
            "requests": took.requests,
            "tokens": took.tokens,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        judgement = believed.sealed(made)
        writing.write_json(path_of(record, name), judgement)
        yield judgement


def _summary(scores: list[int | None]) -> dict:
    """n counts all requests; value is the mean over those with a score, None where there is none."""
    given = [score for score in scores if score is not None]
    mean = sum(given) / len(given) if given else None
    return {"value": mean, "n": len(scores), "unparsable": len(scores) - len(given)}


def table(found: list[dict]) -> pd.DataFrame:
    """One row per judgement and condition. Columns: defense, n_attack, seed, condition, judge, model, value, n,
    unparsable, key."""
    columns = ["defense", "n_attack", "seed", "condition", "judge", "model", "value", "n", "unparsable", "key"]
    rows = [
        {**record["run"], "defense": records.arm(record), "key": record["key"], "condition": condition}
        | {"judge": name, "model": judgement["judge"]["model"], **metrics}
        for record in found
        for name, judgement in (records.usable(of, record) or {}).items()
        for condition, metrics in judgement["metrics"].items()
    ]
    return pd.DataFrame(rows, columns=columns)
