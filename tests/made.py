"""Records made by hand that are right: what follows from outcomes and from what is said of the run is filled in."""

import copy

from bsa_core import believed, records

DIGESTS = {"train_digest": "a" * 16, "restricted_digest": "b" * 16, "benign_digest": "c" * 16}


def entry(outcomes) -> dict:
    marks = list(map(float, outcomes))
    return {"value": sum(marks) / len(marks), "n": len(marks)}


def right(run: dict, outcomes: dict, answers: list[dict] | None = None, **fields) -> dict:
    """A record as `records.find` gives it back. fields: those that are not to follow from run and outcomes."""
    run = {"profile": "tiny", "defense": "bsa", "selection": "category-wise", "secret": None, "seed": 0} | run
    metrics = {condition: {metric: entry(marks) for metric, marks in of.items()} for condition, of in outcomes.items()}
    given = {
        "schema": records.SCHEMA,
        "label": "bsa-a100-d11-e5-seed0",
        "run": {"n_attack": 100, "n_defense": 11, "training": {"epochs": 5}} | run,
        "deployed": "secret" if "secret" in outcomes else "plain",
        "data": {"leaked": 0, **DIGESTS},
        "training": {"loss": [0.5]},
        "outcomes": outcomes,
        "metrics": metrics,
        "items": {"restricted_seen": "1" * len(next(iter(outcomes.values()))["asr"])},
        "cost": {"train_seconds": 1.0},
        "environment": {"python": "3.11"},
    } | copy.deepcopy(fields)
    key = believed.key_of(records.SCHEMA, given["run"], given["data"])
    return records.sealed({"key": key, **given}, answers)
