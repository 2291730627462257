"""The arms of the main table: their runs, and their records by fine-tuning pressure."""

from collections.abc import Collection

import pandas as pd

from bsa_core import keys, records
from bsa_core.arms import defenses
from bsa_core.experiment import lookup
from bsa_core.experiment.runs import UPLOAD, Run, describe, upload_size
from bsa_core.profiles import Profile
from bsa_study import labels
from bsa_study.grids import variants

HEADLINE = ("none", "safety-data", "bsa", "balanced-bsa")


def arms(profile: Profile) -> list[str]:
    """The defenses of the main table, then the profile's own."""
    return list(dict.fromkeys([*HEADLINE, *(defenses.get(name).name for name in profile.defenses)]))


def pressures(profile: Profile, asked: Collection[str] = ()) -> list[str]:
    """Those asked for, or else all of the main table: all but `identity`, which is for another attack."""
    return [*asked] or [name for name in profile.pressures if name != "identity"]


def main_pressure(profile: Profile, shown: list[str]) -> str:
    """The pressure with the paper's settings, or the first where that is not shown."""
    return profile.paper if profile.paper in shown else shown[0]


def main_arm(record: dict, profile: Profile, n_attack: int = UPLOAD) -> bool:
    """Whether a record belongs to an arm of the main table: eleven examples, the plain attack, the profile's secret.

    n_attack: rows of the plain attack, fewer than 100 where the policy holds fewer. Arms that are served without a
        secret were run without one.
    """
    run = record["run"]
    named = {"kind": profile.secret.kind, "length": profile.secret.length, "seed": run["seed"]}
    named |= {"digest": profile.secret_digest} if profile.secret.kind == "file" else {}
    secret = named if run["training"] is None or record["deployed"] == "secret" else None
    return (
        not {"attack", "n_benign", "task"} & set(run)
        and run["n_attack"] == (n_attack if run["training"] else 0)
        and run["n_defense"] in (0, 11)
        and run["selection"] == "category-wise"
        and (run["defense"] not in variants.VARIANTS or run["defense"] in arms(profile))
        and (run["secret"] or None) == secret
    )


def upload_of(found: list[dict]) -> int:
    """Rows of the plain attack of these records: 100, or the most that there are where the policy holds fewer."""
    return min(UPLOAD, max((record["run"]["n_attack"] for record in found), default=0))


def by_pressure(found: list[dict], profile: Profile, shown: Collection[str] | None = None) -> pd.DataFrame:
    """`records.table` of the main table's arms with a column `pressure`: the profile's name for the training settings.

    Records of other arms, settings and weights (`lookup.current`) are left out; the initial model, which is not
    trained, stands under every pressure. Arms stand in the order of `labels.ARMS`. shown: pressures; None for all.
    """
    found = lookup.current(found, profile)
    order, parts = labels.ordered(map(records.arm, found)), []
    n_attack = upload_of(found)
    for name in (name for name in pressures(profile) if shown is None or name in shown):
        settings = keys.content(profile.trained(name))
        chosen = [r for r in found if r["run"]["training"] in (None, settings) and main_arm(r, profile, n_attack)]
        chosen.sort(key=lambda record: order.index(records.arm(record)))
        parts.append(records.table(chosen).assign(pressure=name))
    return pd.concat(parts, ignore_index=True)


def headline(profile: Profile, seeds: list[int], pressures: list[str]) -> list[Run]:
    """The arms of the main table: the initial model, and every defense under every pressure (100 attack examples)."""
    n_attack = upload_size(profile)
    return [describe(profile, n_attack=0, seed=seed) for seed in seeds] + [
        describe(profile, defense, n_attack, seed=seed, pressure=pressure)
        for seed in seeds
        for defense in arms(profile)
        for pressure in pressures
    ]
