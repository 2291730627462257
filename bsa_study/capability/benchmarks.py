"""What benchmarks gave, as a JSON file per run and benchmark: a `Keeper` of `experiment.execute`.

    results/<profile>/utility/<label>-<key>.<benchmark>-<digest>.json

The digest stands for task, shots and limit. The file holds one outcome per question and condition, task by task in the
order of their names, and never a question, an answer or the secret prompt. It changes no record, and no run's key
depends on it.
"""

import importlib.util
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from bsa_core import believed, records, writing
from bsa_core.arms.secret_prompt import Secret
from bsa_core.experiment.runs import Run
from bsa_core.keys import digest_of
from bsa_core.profiles import Benchmark, Profile, described
from bsa_core.progress import duration, report

SCHEMA = 1
FIELDS = ("schema", "key", "label", "benchmark", "harness", "versions", "outcomes", "metrics", "seconds", "created")


def path_of(profile: str, label: str, key: str, benchmark: Benchmark) -> Path:
    digest = digest_of(described(benchmark), digits=8)
    return records.path_of(profile, label, key, "utility", f".{benchmark.name}-{digest}.json")


def pending(profile: Profile, label: str, key: str) -> list[Benchmark]:
    """Those of the profile's benchmarks that this run's model has not been asked."""
    return [b for b in profile.utility if not path_of(profile.name, label, key, b).is_file()]


def check(profile: Profile) -> None:
    """Load the profile's benchmarks: hours of training should not end with a name that nobody knows.

    Raises ValueError when lm-evaluation-harness is not installed, or as `harness.load` does.
    """
    if not profile.utility:
        return
    if importlib.util.find_spec("lm_eval") is None:
        raise ValueError("the profile asks for benchmarks (utility); they need lm_eval: pip install -e '.[utility]'")
    from bsa_study.capability import harness

    for benchmark in profile.utility:
        report(f"{benchmark.name}: {harness.questions(benchmark)} questions for each run and condition")


def lacks(profile: Profile, run: Run, key: str) -> bool:
    """Whether the run's model has not been asked all of the profile's benchmarks."""
    return bool(pending(profile, run.label, key))


def keep(profile: Profile, record: dict, loaded, secret: Secret | None) -> None:
    """Ask the model of a run every benchmark it has not been asked, in each condition of its record; write a file each.

    loaded: `loading.Loaded`, with the adapter on it.
    """
    from bsa_study.capability import harness

    for benchmark in pending(profile, record["label"], record["key"]):
        started, versions, outcomes, metrics = time.perf_counter(), {}, {}, {}
        for condition in record["metrics"]:
            asked = harness.ask(loaded, profile, benchmark, secret if condition == "secret" else None)
            versions = {task: marks.pop("version") for task, marks in asked.items()}
            names = next(iter(asked.values()))  # all tasks have the same metrics
            outcomes[condition] = {m: "".join(marks[m] for marks in asked.values()) for m in names}
            metrics[condition] = {
                m: {**_mean(outcomes[condition][m]), "tasks": {task: _mean(marks[m]) for task, marks in asked.items()}}
                for m in names
            }
        seconds = time.perf_counter() - started
        result = {
            "schema": SCHEMA,
            "key": record["key"],
            "label": record["label"],
            "benchmark": described(benchmark),
            "harness": harness.VERSION,
            "versions": versions,
            "outcomes": outcomes,
            "metrics": metrics,
            "seconds": seconds,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        writing.write_json(path_of(profile.name, record["label"], record["key"], benchmark), believed.sealed(result))
        values = ", ".join(f"{condition} {of['acc']['value']:.3f}" for condition, of in metrics.items())
        report(f"{profile.name} {record['label']}: {benchmark.name} {values} | {duration(seconds)}")


def _mean(marks: str) -> dict:
    return {"value": marks.count("1") / len(marks), "n": len(marks)}


def read(path: Path) -> dict:
    """One file, checked; ValueError names file, field and fix."""
    return believed.opened(path, "result", SCHEMA, FIELDS, _check)


def _check(result: dict) -> None:
    """ValueError where the metrics are not those of the outcomes."""
    for condition, of in result["outcomes"].items():
        for metric, marks in of.items():
            entry, where = result["metrics"][condition][metric], f"{condition}.{metric}"
            if not isinstance(marks, str) or not marks or set(marks) - set("01"):
                raise ValueError(f"field 'outcomes.{where}' holds other characters than '01'")
            if {name: entry[name] for name in ("value", "n")} != _mean(marks):
                raise ValueError(f"field 'metrics.{where}' does not follow from 'outcomes'")
    if {name: set(of) for name, of in result["metrics"].items()} != {
        name: set(of) for name, of in result["outcomes"].items()
    }:
        raise ValueError("fields 'outcomes' and 'metrics' are about different things")


def table(rows: pd.DataFrame, found: list[dict], profile: Profile) -> pd.DataFrame:
    """Rows like those of `records.table`, with benchmarks in place of metrics: "mmlu", or "arc_challenge" and
    "arc_challenge_norm", where the task scores by likelihood per character as well.

    rows: `records.table` of the records `found`, or a part of it with further columns, which are kept.
    """
    labels = {record["key"]: record["label"] for record in found}
    cells = rows.drop(columns=["metric", "value", "n", "outcomes"]).drop_duplicates()
    made = []
    for cell in cells.to_dict("records"):
        for benchmark in profile.utility:
            path = path_of(profile.name, labels[cell["key"]], cell["key"], benchmark)
            result = records.usable(read, path) if path.is_file() else None
            if result is None:
                continue
            for metric, entry in result["metrics"][cell["condition"]].items():
                title = benchmark.name + metric.removeprefix("acc")
                outcomes = result["outcomes"][cell["condition"]][metric]
                made.append(cell | {"metric": title, "value": entry["value"], "n": entry["n"], "outcomes": outcomes})
    return pd.DataFrame(made, columns=rows.columns)
