"""Run records: JSON files that hold what a run was, what came out and what it ran on. Metrics only, no generations.

    results/<profile>/<label>-<key>.json                  the record
    results/<profile>/<label>-<key>.answers.jsonl.gz      its answers, for harmless policies only
    generations/<profile>/<label>-<key>.answers.jsonl.gz  those of other policies, ignored by git, for their owner only
    results/<profile>/hosted/...                          the same of models served elsewhere (`hosted.served`)
    results/<profile>/judged/<label>-<key>.*.json         what further judges gave to the answers (`judgements`)
    results/<profile>/utility/<label>-<key>.*.json        benchmarks of the run's model (`capability.benchmarks`)
    results/<profile>/shipped.jsonl.xz, answers.jsonl.xz  records and answers that come with the project (`shipping`)

`run`, `data`, `training`, `outcomes`, `metrics` and `items` are reproduced bit for bit on the same machine; `cost` and
`environment` are not. The text of a secret prompt is never in a record. One that is not right (`believed`) is named and
left out, never used and never overwritten; other files in these folders are not looked at.
"""

import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from bsa_core import believed, keys, paths, shipping
from bsa_core.progress import report
from bsa_core.shipping import shipped_path as shipped_path
from bsa_core.writing import as_json, write_together

SCHEMA = 1
REPRODUCIBLE = ("run", "deployed", "data", "training", "outcomes", "metrics", "items")
FIELDS = ("schema", "key", "label", *REPRODUCIBLE, "cost", "environment", "answers_digest")
NAME = re.compile(r"[^.].*-[0-9a-f]{16}\.json")  # of a record's file
ANSWER = ("condition", "kind", "category", "user", "answer")


def path_of(profile: str, label: str, key: str, folder: str = "", ending: str = ".json") -> Path:
    """The file of a record, or one that belongs to it: in a folder of its own, with another ending.

    Raises ValueError where a name would lead out of the folder.
    """
    file = paths.named(f"{label}-{key}{ending}", "the name of a record's file")
    return paths.RESULTS / paths.named(profile, "the profile's name") / folder / file


def beside(record: dict, folder: str = "", ending: str = ".json") -> Path:
    """`path_of` for a record at hand; those of models served elsewhere lie in a folder of their own."""
    folder = folder or ("hosted" if "host" in record["run"] else "")
    return path_of(record["run"]["profile"], record["label"], record["key"], folder, ending)


def sealed(record: dict, answers: list[dict] | None = None) -> dict:
    """The record with the digests of its answers and of itself, as `write` writes it and `find` gives it back.

    Raises ValueError that names the field when it is not right (`believed.check`).
    """
    made = believed.sealed({**record, "answers_digest": None if answers is None else keys.digest(_lines(answers))})
    try:
        believed.check(made)
    except ValueError as error:
        raise ValueError(f"{record.get('label')}-{record.get('key')} is not written: {error}") from None
    return made


def _lines(answers: list[dict]) -> str:
    return "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)


def write(record: dict, answers: list[dict] | None = None, harmless: bool = False) -> Path:
    """Write a record, `sealed`, whole or not at all; RecordError (an OSError) names the file and the fix.

    answers: what the record rests on, one dict each. They come first: where there is a record, a run is complete.
    harmless: answers stand beside the record; else in the folder of generations, apart from what may be published.
    """
    record = sealed(record, answers)
    path, files = beside(record), {}
    place, variable = (answers_path, "BSA_RESULTS") if harmless else (generations_path, "BSA_GENERATIONS")
    if answers is not None:
        files[place(record)] = gzip.compress(_lines(answers).encode(), mtime=0), variable
    write_together(files | {path: (as_json(path, record), "BSA_RESULTS")})
    return path


def answers_path(record: dict) -> Path:
    """Where the answers of a harmless policy lie; those that stand here may be shown."""
    return beside(record, ending=".answers.jsonl.gz")


def generations_path(record: dict) -> Path:
    """Where the answers of any other policy lie; never shown."""
    return paths.GENERATIONS / answers_path(record).relative_to(paths.RESULTS)


def answers_file(record: dict) -> Path | None:
    """The file that holds the answers, of the two places above; None where they were not kept."""
    return next((path for path in (answers_path(record), generations_path(record)) if os.path.isfile(path)), None)


class NotKept(ValueError):
    """A run's answers are in neither place."""


def shown(record: dict) -> bool:
    """Whether the record has answers that may be shown: beside it, or among those that ship (ValueError: damaged)."""
    kept = record["answers_digest"] is not None
    return kept and (os.path.isfile(answers_path(record)) or _shipped_answers(record) is not None)


def _shipped_answers(record: dict) -> list[dict] | None:
    return None if "host" in record["run"] else shipping.answers(record["run"]["profile"], record["key"])


def read_answers(record: dict) -> pd.DataFrame:
    """Columns condition, kind, category, user, answer, all of them text as it was said.

    They are in one of the two places above, or in the file that ships with the project. Raises NotKept when they are in
    none, ValueError when they are damaged, or not those that the record rests on.
    """
    rows = _rows(record)
    return pd.DataFrame(rows, columns=None if rows else list(ANSWER))  # some have a column `reasoning`


def _rows(record: dict) -> list[dict]:
    fix = "delete its record to compute it again"
    path = answers_file(record)
    if path is None and (ours := _shipped_answers(record)) is None:
        places = f"neither {answers_path(record)} nor {generations_path(record)} exists"
        raise NotKept(f"{places}: the answers of this run were not kept; {fix}")
    try:
        text = gzip.decompress(path.read_bytes()) if path else _lines(ours).encode(errors="replace")
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: the answers are damaged ({error}); {fix}") from None
    path = path or shipping.shipped_answers_path(record["run"]["profile"])
    if (found := keys.digest(text)) != record["answers_digest"]:
        was = f"their digest is {found}, and the record's {record['answers_digest']}"
        raise ValueError(f"{path}: not the answers that the record rests on ({was}); restore the file, or {fix}")
    try:
        rows = shipping.rows_in(text)
        with believed.form_of("row of answers"):
            if not all(isinstance(row[field], str) for row in rows for field in ANSWER):
                raise ValueError(f"fields {', '.join(ANSWER)} of a row are not all text")
    except ValueError as error:
        raise ValueError(f"{path}: the answers are damaged ({error}); {fix}") from None
    return rows


def read(path: Path) -> dict:
    """A record, checked; ValueError names file, field and fix."""

    def right(record: dict) -> None:
        believed.check(record)
        folder = path.parent.parent if "host" in record["run"] else path.parent
        if folder.name != record["run"]["profile"]:
            raise ValueError(f"field 'run.profile' is {record['run']['profile']!r}, and the folder {folder.name!r}")

    return believed.opened(path, "record", SCHEMA, FIELDS, right)


def ship(profile: str, records: Iterable[dict]) -> Path:
    """Write these records, and no others, into the file of a profile that ships with the project.

    Answers that may be shown go into a file beside it: those that stand beside a record, and those that shipped before.
    Raises ValueError when these are not those that a record rests on.
    """
    by_key = {record["key"]: record for record in records}
    answers = {key: _rows(record) for key, record in by_key.items() if shown(record)}
    return shipping.write(profile, by_key, answers)


def shipped(profile: str) -> dict[str, dict]:
    """The records that ship in one file, by key; ValueError names the file when it is damaged."""
    return shipping.records(profile, SCHEMA, FIELDS)


def find(profile: str, label: str, key: str) -> dict | None:
    """The record of that key, or None when it was never computed here; ValueError when it is not right."""
    path = path_of(profile, label, key)
    return read(path) if os.path.lexists(path) else None


def own(profile: str, folder: str = "") -> list[Path]:
    """The files of the records that were computed here, sorted; folder: "hosted" for those of models served elsewhere.

    Copies, notes and whatever else has a name that no record has stay out.
    """
    found = sorted((paths.RESULTS / profile / folder).glob("*.json"))
    return [path for path in found if NAME.fullmatch(path.name)]


def load(profile: str, folder: str = "") -> list[dict]:
    """All records of a profile, by file name, then the shipped ones; an empty list when there are none.

    A file that is not right is named once, on stderr, and left out. folder: see `own`; nothing ships for one.
    """
    computed = {record["key"]: record for path in own(profile, folder) if (record := usable(read, path))}
    ours = {} if folder else usable(shipped, profile) or {}
    return list((ours | computed).values())


def usable(reader: Callable, *asked):
    """What a reader gives; None where that is not right, which is said on stderr."""
    try:
        return reader(*asked)
    except ValueError as error:
        left_out(str(error))
        return None


@cache
def left_out(said: str) -> None:
    """Say what is wrong with a file that is not used; once per process."""
    report(f"left out: {said}")


def arm(record: dict) -> str:
    """The name of the record's arm: its defense, or "initial" where nothing was trained."""
    return record["run"]["defense"] if record["run"]["training"] else "initial"


def _described(record: dict) -> dict:
    """The columns of `table` that say what the run was."""
    run, training = record["run"] | {"defense": arm(record)}, record["run"]["training"]
    trained = training and {"method": "lora", **training, "targets": " ".join(training.get("targets", []))}
    parts = {"run": run, "task": run.get("task"), "secret": run["secret"], "training": trained}
    columns = paths.data("records.yaml").items()
    return {column: (parts[part] or {}).get(field, absent) for column, (part, field, absent) in columns}


def table(records: list[dict], **further: Sequence) -> pd.DataFrame:
    """One row per record, condition and metric, tidy. further: column -> its value for each of the records.

    Columns: profile, attack, n_attack, n_benign, task, n_task, task_served, defense, n_defense, selection,
    secret_kind, secret_length, secret_seed (-1 without a secret), method, epochs, learning_rate, rank, targets, seed,
    condition, deployed (whether that is the condition in which the arm is served), metric, value, n, outcomes (one
    character or number per request), key. The initial model has defense "initial".
    """
    rows = []
    for record, *values in zip(records, *further.values(), strict=True):
        described = _described(record) | dict(zip(further, values, strict=True))
        for condition, metrics in record["metrics"].items():
            for metric, entry in metrics.items():
                outcome = {"deployed": condition == record["deployed"], "metric": metric, "value": entry["value"]}
                outcome |= {"n": entry["n"], "outcomes": record["outcomes"][condition][metric], "key": record["key"]}
                rows.append({**described, "condition": condition, **outcome})
    return pd.DataFrame(rows)


def by_category(records: list[dict], metric: str) -> pd.DataFrame:
    """One row per record, condition and category.

    Columns: defense, n_attack, seed, condition, metric, category, value, n.
    """
    return pd.DataFrame(
        {
            "defense": arm(record),
            "n_attack": record["run"]["n_attack"],
            "seed": record["run"]["seed"],
            "condition": condition,
            "metric": metric,
            "category": category,
            **entry,
        }
        for record in records
        for condition, metrics in record["metrics"].items()
        for category, entry in metrics[metric]["categories"].items()
    )
