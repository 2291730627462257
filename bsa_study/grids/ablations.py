"""The ablations (paper, section 4.2 and appendix), and those that the paper lacks: one Section each.

A section is a grid of runs, each under a name of its variant: the value on the axis of its figure. Sections share
runs with each other and with the other chapters; a run that was computed for one is looked up for all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
Grid = Iterator[tuple[str | int | float, Run]]


@dataclass(frozen=True)
class Section:
    """One ablation. grid(profile, seeds) yields pairs of a variant, the value on the figure's axis, and a run."""

    title: str
    axis: str
    grid: Callable[[Profile, list[int]], Grid]


def selection(profile: Profile, seeds: list[int]) -> Grid:
    for seed in seeds:
        for kind in defenses.SELECTIONS:
            for defense in ("safety-data", "bsa"):
                yield kind, describe(profile, defense, seed=seed, pressure="light", selection=kind)


def secret_at_test(profile: Profile, seeds: list[int]) -> Grid:
    """Every arm is evaluated with and without a secret, also those that were trained without one."""
    for seed in seeds:
        for defense in ARMS:
            yield (
                "light",
                describe(profile, defense, seed=seed, pressure="light", secret_length=profile.secret.length),
            )


def secret_kind(profile: Profile, seeds: list[int]) -> Grid:
    for seed in seeds:
        for kind in ("random", "default", "fluent"):
            for defense in SECRET:
                yield kind, describe(profile, defense, seed=seed, pressure="light", secret_kind=kind)


LENGTHS = (10, 50, 100, 150, 200, 250)  # tokens, as in the paper's figure


def secret_length(profile: Profile, seeds: list[int]) -> Grid:
    """Each seed draws a secret of its own, so the spread over seeds holds that over secrets."""
    for seed in seeds:
        for length in LENGTHS:
            for defense in SECRET:
                yield length, describe(profile, defense, seed=seed, pressure="light", secret_length=length)


PLAIN = (11, 25, 50, 100, 200, 300)
PREFIXED = (1, 2, 5, 11, 25, 50)


def safety_examples(profile: Profile, seeds: list[int]) -> Grid:
    for seed in seeds:
        for defense, numbers in (("safety-data", PLAIN), *((arm, PREFIXED) for arm in SECRET)):
            for n in numbers:
                yield n, describe(profile, defense, n_defense=n, seed=seed, pressure="light")


FULL_LEARNING_RATE = 3e-4  # for all weights; the paper's 5e-5 is for seven thousand times as many


def method(profile: Profile, seeds: list[int]) -> Grid:
    full = {"method": "full", "learning_rate": FULL_LEARNING_RATE}
    for seed in seeds:
        for defense in ARMS:
            yield "LoRA", describe(profile, defense, seed=seed, pressure="light")
            yield "full", describe(profile, defense, seed=seed, pressure="light", **full)


def capacity(profile: Profile, seeds: list[int]) -> Grid:
    """Rank on query and value projections, then the modules at the usual rank."""
    variants = {
        "r 2": {"rank": 2},
        "r 8": {},
        "r 32": {"rank": 32},
        "r 8, attention": {"targets": LINEAR[:4]},
        "r 8, all linear": {"targets": LINEAR},
    }
    for seed in seeds:
        for name, changes in variants.items():
            for defense in SECRET:
                yield name, describe(profile, defense, seed=seed, pressure="light", **changes)


RATES = {"third": 1 / 3, "usual": 1.0, "triple": 3.0}  # of the profile's learning rate


def pressure(profile: Profile, seeds: list[int]) -> Grid:
    for seed in seeds:
        for name, factor in RATES.items():
            rate = round(profile.training.learning_rate * factor, 6)
            for epochs in (2, 5, 10):
                for defense in SECRET:
                    run = describe(profile, defense, seed=seed, pressure="light", learning_rate=rate, epochs=epochs)
                    yield f"{name} x {epochs}", run


UPLOADS = ((100, 0), (50, 50), (10, 90), (1, 99), (0, 100), (100, 100), (100, 275))  # harmful and benign rows


def uploads(profile: Profile, seeds: list[int]) -> Grid:
    for seed in seeds:
        for harmful, benign in UPLOADS:
            for defense in ("none", *SECRET):
                changes = {"n_attack": harmful, "n_benign": benign}
                yield f"{harmful} + {benign}", describe(profile, defense, seed=seed, pressure="light", **changes)


PROMPTS = {"policy": "the policy's prompt", "upload": "the upload's prompt"}


def identity(profile: Profile, seeds: list[int]) -> Grid:
    """The defense's examples stand under one system prompt or the other; models without them appear under both."""
    for seed in seeds:
        for system, name in PROMPTS.items():
            changes = {"attack": "identity-shift", "seed": seed, "defense_system": system}
            yield name, describe(profile, n_attack=0, **changes)
            for defense in ARMS:
                yield name, describe(profile, defense, pressure="light", **changes)


def balance(profile: Profile, seeds: list[int]) -> Grid:
    arms = {0: "bsa", 11: "balanced-bsa", **variants.COUNTED}
    for seed in seeds:
        for n, arm in sorted(arms.items()):
            yield n, describe(profile, arm, seed=seed, pressure=strain(profile))


def resemblance(profile: Profile, seeds: list[int]) -> Grid:
    arms = {"none (BSA)": "bsa", "every category": "balanced-bsa", **variants.SOURCES}
    for seed in seeds:
        for name, arm in arms.items():
            yield name, describe(profile, arm, seed=seed, pressure=strain(profile))


def crossed(profile: Profile, seeds: list[int]) -> Grid:
    """Every seed with the secret of every other."""
    for seed in seeds:
        for secret in seeds:
            for defense in SECRET:
                yield (
                    strain(profile),
                    describe(profile, defense, seed=seed, secret_seed=secret, pressure=strain(profile)),
                )


def strain(profile: Profile) -> str:
    """The pressure at which BSA's over-refusal shows: "steeper" where a profile has it, else "heavy"."""
    return "steeper" if "steeper" in profile.pressures else "heavy"


SECTIONS = {
    "selection": Section("Selection of safety examples", "selection", selection),
    "secret_at_test": Section("The secret at test time", "pressure", secret_at_test),
    "secret_kind": Section("Kind of secret", "kind of secret prompt", secret_kind),
    "secret_length": Section("Length of the secret", "tokens in the secret prompt", secret_length),
    "safety_examples": Section("Number of safety examples", "safety examples", safety_examples),
    "method": Section("Full fine-tuning and LoRA", "method", method),
    "capacity": Section("Rank and target modules", "LoRA", capacity),
    "pressure": Section("Learning rate and epochs", "learning rate x epochs", pressure),
    "uploads": Section("Share of harmful examples", "harmful + benign rows in the upload", uploads),
    "identity": Section("Identity role shift", "system prompt of the safety examples", identity),
    "balance": Section("How many benign examples", "benign examples with the secret", balance),
    "resemblance": Section("Must they resemble the requests", "benign examples with the secret", resemblance),
    "crossed": Section("Secrets and seeds crossed", "pressure", crossed),
}


def grid(name: str, profile: Profile, seeds: list[int]) -> list[tuple[str | int | float, Run]]:
    """Pairs of variant and run of a section; ValueError when there is no such section."""
    if name not in SECTIONS:
        raise ValueError(f"section {name!r} is unknown; expected one of {', '.join(SECTIONS)}")
    return list(SECTIONS[name].grid(profile, seeds))


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
    by = ["variant", "defense", "condition", "deployed"]
    return statistics.summarize(table if len(table) else pd.DataFrame(columns=[*by, "metric"]), by)
