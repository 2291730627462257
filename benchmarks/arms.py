"""The arms of the main table on this machine's device, beside the shipped records of the same runs."""

import time
from collections.abc import Callable
from pathlib import Path

from bsa_core import experiment, paths
from bsa_core.profiles import Profile
from bsa_study import contrasts, statistics
from bsa_study.grids import headline

BY = ["pressure", "defense", "condition", "deployed"]


def compared(committed: list[dict], here: list[dict], profile: Profile, pressures: list[str]) -> dict:
    """Every metric of every arm, here minus committed, and whether it lies in the committed interval; and the answers
    to the questions of chapter 04 on either side. The two lists hold records of the same runs."""
    rows = [headline.by_pressure(found, profile) for found in (committed, here)]
    rows = [table[table["pressure"].isin(pressures)] for table in rows]
    old, new = (statistics.summarize(table, BY) for table in rows)
    both = old.merge(new, on=[*BY, "metric"], suffixes=("_committed", "_here"), validate="one_to_one")
    metrics = [
        {
            **{column: row[column] for column in (*BY[:3], "metric")},
            "committed": row["mean_committed"],
            "here": row["mean_here"],
            "difference": row["mean_here"] - row["mean_committed"],
            "interval_committed": [row["low_committed"], row["high_committed"]],
            "inside": bool(row["low_committed"] <= row["mean_here"] <= row["high_committed"]),
        }
        for row in both.to_dict("records")
    ]
    questions = contrasts.load("04_comparison")
    answers = [
        contrasts.answered(questions, {"headline": table}, by="pressure")[["pressure", "statement", "verdict"]]
        for table in rows
    ]
    verdicts = answers[0].merge(answers[1], on=["pressure", "statement"], validate="one_to_one")
    verdicts.columns = ["pressure", "question", "committed", "here"]
    verdicts = verdicts.to_dict("records")
    return {
        "metrics": metrics,
        "inside": sum(row["inside"] for row in metrics),
        "of": len(metrics),
        "largest_difference": max((abs(row["difference"]) for row in metrics), default=0.0),
        "verdicts": verdicts,
        "verdicts_differ": sum(row["committed"] != row["here"] for row in verdicts),
    }


def measure(
    profile: Profile,
    pressures: list[str],
    seeds: list[int],
    folder: Path,
    beside: Path,
    seconds: float,
    keep: Callable[[dict], None],
) -> dict:
    """Seed by seed, as long as the time for another one is left; `keep` gets what is there after each.

    folder: for the records made here; beside: with the records they are compared with.
    Raises ValueError when one of those is missing: there is nothing to compare with.
    """
    started, done, here, committed, result = time.perf_counter(), [], [], [], {}
    for seed in seeds:
        spent = time.perf_counter() - started
        if done and spent + spent / len(done) > seconds:
            break
        runs = headline.headline(profile, [seed], pressures)
        paths.RESULTS = folder
        here += experiment.execute(runs, profile)
        paths.RESULTS = beside
        there = experiment.found(runs, profile)
        if missing := [run.label for run, record in zip(runs, there, strict=True) if record is None]:
            raise ValueError(
                f"{beside / profile.name} holds no record of {missing[0]}, which this is to be compared with"
            )
        committed += there
        done.append(seed)
        result = {"profile": profile.name, "pressures": pressures, "seeds": list(done)}
        result |= {"seconds": time.perf_counter() - started, "device": here[-1]["environment"]["device"]}
        result |= compared(committed, here, profile, pressures)
        keep(result)
    return result
