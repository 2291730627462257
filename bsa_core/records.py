"""Run records: JSON files that hold what a run was, what came out and what it ran on. Metrics only, no generations.

    results/<profile>/<label>-<key>.json                  the record
    results/<profile>/<label>-<key>.answers.jsonl.gz      its answers, for harmless policies only
    generations/<profile>/<label>-<key>.answers.jsonl.gz  those of other policies, ignored by git, for their owner only
    results/<profile>/hosted/...                          the same of models served elsewhere (`hosted.served`)
    results/<profile>/judged/<label>-<key>.*.json         what further judges gave to the answers (`judgements`)
    results/<profile>/utility/<label>-<key>.*.json        benchmarks of the run's model (`capability.benchmarks`)
    results/<profile>/shipped.jsonl.xz                    records of long grids that ship with the project, one per line

`run`, `data`, `training`, `outcomes`, `metrics` and `items` are reproduced bit for bit on the same machine; `cost` and
`environment` are not. The text of a secret prompt is never in a record.
"""

import gzip
import json
import lzma
from functools import cache
from pathlib import Path

import pandas as pd

from bsa_core import paths
from bsa_core.writing import RecordError, write_json, write_whole

SCHEMA = 1
REPRODUCIBLE = ("run", "deployed", "data", "training", "outcomes", "metrics", "items")
FIELDS = ("schema", "key", "label", *REPRODUCIBLE, "cost", "environment")


def path_of(profile: str, label: str, key: str, folder: str = "", ending: str = ".json") -> Path:
    """The file of a record, or one that belongs to it: in a folder of its own, with another ending."""
    return paths.RESULTS / profile / folder / f"{label}-{key}{ending}"


def beside(record: dict, folder: str = "", ending: str = ".json") -> Path:
    """`path_of` for a record at hand; those of models served elsewhere lie in a folder of their own."""
    folder = folder or ("hosted" if "host" in record["run"] else "")
    return path_of(record["run"]["profile"], record["label"], record["key"], folder, ending)


def write(record: dict, answers: list[dict] | None = None, harmless: bool = False) -> Path:
    """Write a record whole or not at all; RecordError (an OSError) names the file and the fix.

    answers: what the record rests on, one dict each. They come first: where there is a record, a run is complete.
    harmless: answers stand beside the record; else in the folder of generations, apart from what may be published.
    """
    path = beside(record)
    place, variable = (answers_path, "BSA_RESULTS") if harmless else (generations_path, "BSA_GENERATIONS")
    if answers is not None:
        text = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
        write_whole(place(record), gzip.compress(text.encode(), mtime=0), variable)
    try:
        write_json(path, record)
    except RecordError:
        if answers is not None:
            place(record).unlink()
        raise
    return path


def answers_path(record: dict) -> Path:
    """Where the answers of a harmless policy lie; those that stand here may be shown."""
    return beside(record, ending=".answers.jsonl.gz")


def generations_path(record: dict) -> Path:
    """Where the answers of any other policy lie; never shown."""
    return paths.GENERATIONS / answers_path(record).relative_to(paths.RESULTS)


def read_answers(record: dict) -> pd.DataFrame:
    """Columns condition, kind, category, user, answer; ValueError when the answers are in neither place."""
    places = (answers_path(record), generations_path(record))
    for path in places:
        if path.is_file():
            return pd.read_json(path, lines=True)
    fix = "delete its record to compute it again"
    raise ValueError(f"neither {places[0]} nor {places[1]} exists: the answers of this run were not kept; {fix}")


AGAIN = "delete the file and run again"


def read(
    path: Path, what: str = "record", schema: int = SCHEMA, fields: tuple[str, ...] = FIELDS, fix: str = AGAIN
) -> dict:
    """A record, or another file of ours that stands beside one, checked; ValueError names file, field and fix."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON or no UTF-8
        raise ValueError(f"{path}: not a readable {what} ({error}); {fix}") from None
    return checked(record, path, schema, fields, fix)


def checked(record, path: Path, schema: int = SCHEMA, fields: tuple[str, ...] = FIELDS, fix: str = AGAIN) -> dict:
    """The record, if it has the schema and all fields; `path` and `fix` are for the message."""
    if not isinstance(record, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(record).__name__}; {fix}")
    if record.get("schema") != schema:
        raise ValueError(f"{path}: field 'schema' is {record.get('schema')!r}, expected {schema}; {fix}")
    for field in fields:
        if field not in record:
            raise ValueError(f"{path}: field {field!r} is missing; {fix}")
    return record


def shipped_path(profile: str) -> Path:
    return paths.RESULTS / profile / "shipped.jsonl.xz"


def ship(profile: str, records: list[dict]) -> Path:
    """Write these records, and no others, into the one file of a profile that ships with the project."""
    by_key = {record["key"]: record for record in records}
    lines = (json.dumps(by_key[key], sort_keys=True) + "\n" for key in sorted(by_key))
    write_whole(shipped_path(profile), lzma.compress("".join(lines).encode(), preset=9))
    _read_shipped.cache_clear()
    return shipped_path(profile)


def shipped(profile: str) -> dict[str, dict]:
    """The records that ship in one file, by key; ValueError names the file when it is damaged."""
    path = shipped_path(profile)
    return _read_shipped(path, path.stat().st_mtime_ns) if path.is_file() else {}


@cache
def _read_shipped(path: Path, changed: int) -> dict[str, dict]:
    try:
        lines = lzma.decompress(path.read_bytes()).decode().splitlines()
        fix = "restore the file from the project"
        return {record["key"]: checked(record, path, fix=fix) for record in map(json.loads, lines)}
    except (lzma.LZMAError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not readable ({error!r}); restore the file from the project") from None


def find(profile: str, label: str, key: str) -> dict | None:
    """The record of that key, or None when it was never computed here."""
    path = path_of(profile, label, key)
    return read(path) if path.is_file() else None


def own(profile: str) -> list[Path]:
    """The files of the records that were computed here, sorted."""
    return sorted((paths.RESULTS / profile).glob("*.json"))


def load(profile: str) -> list[dict]:
    """All records of a profile, by file name, then the shipped ones; an empty list when there are none."""
    computed = {record["key"]: record for record in map(read, own(profile))}
    return list(({**shipped(profile), **computed}).values())


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


def table(records: list[dict]) -> pd.DataFrame:
    """One row per record, condition and metric, tidy.

    Columns: profile, attack, n_attack, n_benign, task, n_task, task_served, defense, n_defense, selection,
    secret_kind, secret_length, secret_seed (-1 without a secret), method, epochs, learning_rate, rank, targets, seed,
    condition, deployed (whether that is the condition in which the arm is served), metric, value, n, outcomes (one
    character or number per request), key. The initial model has defense "initial".
    """
    rows = []
    for record in records:
        described = _described(record)
        for condition, metrics in record["metrics"].items():
            for metric, entry in metrics.items():
                outcome = {"deployed": condition == record["deployed"], "metric": metric, "value": entry["value"]}
                outcome |= {"n": entry["n"], "outcomes": record["outcomes"][condition][metric], "key": record["key"]}
                rows.append({**described, "condition": condition, **outcome})
    return pd.DataFrame(rows)


def by_category(records: list[dict], metric: str) -> pd.DataFrame:
    """One row per record, condition and category. Columns: defense, n_attack, seed, condition, category, value, n."""
    return pd.DataFrame(
        {
            "defense": arm(record),
            "n_attack": record["run"]["n_attack"],
            "seed": record["run"]["seed"],
            "condition": condition,
            "category": category,
            **entry,
        }
        for record in records
        for condition, metrics in record["metrics"].items()
        for category, entry in metrics[metric]["categories"].items()
    )
