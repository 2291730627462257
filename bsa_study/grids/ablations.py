"""The ablations (paper, section 4.2 and appendix), and those that the paper lacks: one Section each.

A section is a grid of runs, each under a name of its variant: the value on the axis of its figure. Sections share
runs with each other and with the other chapters; a run that was computed for one is looked up for all.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product

import pandas as pd

from bsa_core import experiment, records
from bsa_core.arms import defenses
from bsa_core.experiment.runs import Run, describe
from bsa_core.profiles import Profile
from bsa_study import statistics
from bsa_study.grids import variants

SECRET = ("bsa", "balanced-bsa")
ARMS = ("none", "safety-data", *SECRET)
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
METRICS = ("asr", "over_refusal", "benign_exact", "knowledge")


LENGTHS = (10, 50, 100, 150, 200, 250)  # tokens, as in the paper's figure
PLAIN = (11, 25, 50, 100, 200, 300)  # safety examples
PREFIXED = (1, 2, 5, 11, 25, 50)  # safety examples with the secret
FULL = {"method": "full", "learning_rate": 3e-4}  # the paper's 5e-5 is for seven thousand times as many weights
CAPACITIES = {  # rank on query and value projections, then the modules at the usual rank
    "r 2": {"rank": 2},
    "r 8": {},
    "r 32": {"rank": 32},
    "r 8, attention": {"targets": LINEAR[:4]},
    "r 8, all linear": {"targets": LINEAR},
}
RATES = {"third": 1 / 3, "usual": 1.0, "triple": 3.0}  # of the profile's learning rate
UPLOADS = ((100, 0), (50, 50), (10, 90), (1, 99), (0, 100), (100, 100), (100, 275))  # harmful and benign rows
PROMPTS = {"policy": "the policy's prompt", "upload": "the upload's prompt"}


@dataclass(frozen=True)
class Section:
    """One ablation. cells(profile, seeds) yields a variant, the value on the figure's axis, an arm, and what its run
    changes of the light pressure's; every cell is run with every seed."""

    title: str
    axis: str
    cells: Callable[[Profile, list[int]], Iterable[tuple[str | int, str, dict]]]


def strain(profile: Profile) -> dict:
    """The pressure at which BSA's over-refusal shows: "steeper" where a profile has it, else "heavy"."""
    return {"pressure": "steeper" if "steeper" in profile.pressures else "heavy"}


def each(variants: dict, arms: tuple[str, ...] = SECRET):
    """Cells of every variant (name -> changes) with every arm."""
    return lambda profile, seeds: [(name, arm, changes) for name, changes in variants.items() for arm in arms]


def secret_at_test(profile: Profile, seeds: list[int]):
    """Every arm is evaluated with and without a secret, also those that were trained without one."""
    return [("light", arm, {"secret_length": profile.secret.length}) for arm in ARMS]


def safety_examples(profile: Profile, seeds: list[int]):
    arms = {"safety-data": PLAIN, **dict.fromkeys(SECRET, PREFIXED)}
    return [(n, arm, {"n_defense": n}) for arm, numbers in arms.items() for n in numbers]


def pressure(profile: Profile, seeds: list[int]):
    for name, factor in RATES.items():
        rate = round(profile.training.learning_rate * factor, 6)
        for epochs, arm in product((2, 5, 10), SECRET):
            yield f"{name} x {epochs}", arm, {"learning_rate": rate, "epochs": epochs}


def identity(profile: Profile, seeds: list[int]):
    """The defense's examples stand under one system prompt or the other; models without them appear under both."""
    for system, name in PROMPTS.items():
        changes = {"attack": "identity-shift", "defense_system": system}
        yield name, "none", {**changes, "n_attack": 0, "pressure": ""}
        yield from ((name, arm, changes) for arm in ARMS)


def balance(profile: Profile, seeds: list[int]):
    arms = {0: "bsa", 11: "balanced-bsa", **variants.COUNTED}
    return [(n, arms[n], strain(profile)) for n in sorted(arms)]


def resemblance(profile: Profile, seeds: list[int]):
    arms = {"none (BSA)": "bsa", "every category": "balanced-bsa", **variants.SOURCES}
    return [(name, arm, strain(profile)) for name, arm in arms.items()]


def crossed(profile: Profile, seeds: list[int]):
    """Every seed with the secret of every other."""
    at = strain(profile)
    return [(at["pressure"], arm, {**at, "secret_seed": seed}) for seed in seeds for arm in SECRET]


SECTIONS = {
    "selection": Section(
        "Selection of safety examples",
        "selection",
        each({kind: {"selection": kind} for kind in defenses.SELECTIONS}, ("safety-data", "bsa")),
    ),
    "secret_at_test": Section("The secret at test time", "pressure", secret_at_test),
    "secret_kind": Section(
        "Kind of secret",
        "kind of secret prompt",
        each({kind: {"secret_kind": kind} for kind in ("random", "default", "fluent")}),
    ),
    "secret_length": Section(  # each seed draws a secret of its own, so the spread over seeds holds that over secrets
        "Length of the secret", "tokens in the secret prompt", each({n: {"secret_length": n} for n in LENGTHS})
    ),
    "safety_examples": Section("Number of safety examples", "safety examples", safety_examples),
    "method": Section("Full fine-tuning and LoRA", "method", each({"LoRA": {}, "full": FULL}, ARMS)),
    "capacity": Section("Rank and target modules", "LoRA", each(CAPACITIES)),
    "pressure": Section("Learning rate and epochs", "learning rate x epochs", pressure),
    "uploads": Section(
        "Share of harmful examples",
        "harmful + benign rows in the upload",
        each({f"{n} + {m}": {"n_attack": n, "n_benign": m} for n, m in UPLOADS}, ("none", *SECRET)),
    ),
    "identity": Section("Identity role shift", "system prompt of the safety examples", identity),
    "balance": Section("How many benign examples", "benign examples with the secret", balance),
    "resemblance": Section("Must they resemble the requests", "benign examples with the secret", resemblance),
    "crossed": Section("Secrets and seeds crossed", "pressure", crossed),
}


def grid(name: str, profile: Profile, seeds: list[int]) -> list[tuple[str | int, Run]]:
    """Pairs of variant and run of a section; ValueError when there is no such section."""
    if name not in SECTIONS:
        raise ValueError(f"section {name!r} is unknown; expected one of {', '.join(SECTIONS)}")
    cells = list(SECTIONS[name].cells(profile, seeds))
    return [
        (variant, describe(profile, arm, seed=seed, **{"pressure": "light", **changes}))
        for seed in seeds
        for variant, arm, changes in cells
    ]


def at_hand(runs: list[Run], profile: Profile) -> list[dict]:
    """The records of those of the runs that were computed here or that ship with the project."""
    return [record for record in experiment.found(runs, profile) if record]


def measured(name: str, profile: Profile, seeds: list[int], compute: bool) -> pd.DataFrame:
    """`records.table` of a section's runs with a column `variant`; variants of balanced BSA are called by its name.

    compute: False takes only records that are there, computed or shipped.
    """
    pairs = grid(name, profile, seeds)
    found = experiment.gather([run for _, run in pairs], profile, compute)
    parts = [
        records.table([record]).assign(variant=variant)
        for (variant, _), record in zip(pairs, found, strict=True)
        if record
    ]
    if not parts:
        return records.table([])
    table = pd.concat(parts, ignore_index=True)
    table = complete(table) if name == "crossed" else table
    return table.assign(defense=table["defense"].replace(dict.fromkeys(variants.VARIANTS, "balanced-bsa")))


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """Of a crossing that lacks runs, the first seeds that were all crossed with each other's secrets."""
    have = [set(zip(rows["seed"], rows["secret_seed"], strict=True)) for _, rows in table.groupby("defense")]
    pairs, kept = set.intersection(*have), []
    for seed in sorted(set(table["seed"])):
        if all({(seed, other), (other, seed)} <= pairs for other in [*kept, seed]):
            kept.append(seed)
    return table[table["seed"].isin(kept) & table["secret_seed"].isin(kept)].reset_index(drop=True)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of every cell of a section, by variant, arm and condition."""
    return statistics.summarize(table, ["variant", "defense", "condition", "deployed"])
