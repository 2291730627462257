"""The ablations (paper, section 4.2 and appendix), and those that the paper lacks: one Section each.

A section is a grid of runs, each under a name of its variant: the value on the axis of its figure. Sections share
runs with each other and with the other chapters; a run that was computed for one is looked up for all.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from bsa_core import experiment, records
from bsa_core.experiment.runs import Run, describe, upload_size
from bsa_core.profiles import Profile
from bsa_study import statistics
from bsa_study.grids import variants

SECRET = ("bsa", "balanced-bsa")
ARMS = ("none", "safety-data", *SECRET)
METRICS = ("asr", "asr_content", "over_refusal", "benign_exact", "knowledge")
PLAIN = (11, 25, 50, 100, 200, 300)  # safety examples
PREFIXED = (1, 2, 5, 11, 25, 50)  # safety examples with the secret
PROMPTS = {"policy": "the policy's prompt", "upload": "the upload's prompt"}


@dataclass(frozen=True)
class Section:
    """One ablation. cells(profile, seeds) yields a variant, the value on the figure's axis, an arm, and what its run
    changes of the pressure with the paper's settings; every cell is run with every seed."""

    title: str
    axis: str
    cells: Callable[[Profile, list[int]], Iterable[tuple[str | int, str, dict]]]


def strain(profile: Profile) -> dict:
    """The pressure at which BSA's over-refusal shows: "steeper" where a profile has it, else that of the paper."""
    return {"pressure": "steeper" if "steeper" in profile.pressures else profile.paper}


def each(variants: dict, arms: Iterable[str]):
    """Cells of every variant (name -> changes) with every arm."""
    return lambda profile, seeds: [(name, arm, changes) for name, changes in variants.items() for arm in arms]


def secret_at_test(profile: Profile, seeds: list[int]):
    """Every arm is evaluated with and without a secret, also those that were trained without one."""
    return [(profile.paper, arm, {"secret_length": profile.secret.length}) for arm in ARMS]


def safety_examples(profile: Profile, seeds: list[int]):
    arms = {"safety-data": PLAIN, **dict.fromkeys(SECRET, PREFIXED)}
    return [(n, arm, {"n_defense": n}) for arm, numbers in arms.items() for n in numbers]


def method(profile: Profile, seeds: list[int]):
    """LoRA beside the profile's own full fine-tuning, its pressure `full`, where it has one."""
    full = {"full": {"pressure": "full"}} if "full" in profile.pressures else {}
    return each({"LoRA": {}, **full}, ARMS)(profile, seeds)


def identity(profile: Profile, seeds: list[int]):
    """The defense's examples stand under one system prompt or the other; models without them appear under both. At the
    pressure `identity` where the profile has one."""
    at = {"pressure": "identity"} if "identity" in profile.pressures else {}
    for system, name in PROMPTS.items():
        changes = {"attack": "identity-shift", "defense_system": system, **at}
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


CELLS = (secret_at_test, safety_examples, method, identity, balance, resemblance, crossed)
BY_NAME = {cells.__name__: cells for cells in CELLS}
GIVEN = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
SECTIONS = {
    name: Section(given["title"], given["axis"], BY_NAME.get(name) or each(given["variants"], given["arms"]))
    for name, given in GIVEN.items()
}


def wanted(name: str, profile: Profile, variant: str | int, arm: str) -> bool:
    """Whether the profile's `ablations` leave this cell in."""
    if not profile.ablations:
        return True
    arms = profile.ablations.get(name)
    return arms is not None and (not arms or variant in arms.get(arm, ()))


def grid(name: str, profile: Profile, seeds: list[int]) -> list[tuple[str | int, Run]]:
    """Pairs of variant and run of a section, of those that the profile measures; ValueError when there is no such
    section."""
    if unknown := [section for section in (name, *profile.ablations) if section not in SECTIONS]:
        raise ValueError(f"section {unknown[0]!r} is unknown; expected one of {', '.join(SECTIONS)}")
    cells = [cell for cell in SECTIONS[name].cells(profile, seeds) if wanted(name, profile, *cell[:2])]
    attacks = {changes.get("attack", "harmful") for _, _, changes in cells}
    rows = {attack: upload_size(profile, attack) for attack in attacks}

    def settings(changes: dict) -> dict:
        return {"pressure": profile.paper, "n_attack": rows[changes.get("attack", "harmful")], **changes}

    return [
        (variant, describe(profile, arm, seed=seed, **settings(changes)))
        for seed in seeds
        for variant, arm, changes in cells
    ]


def measured(name: str, profile: Profile, seeds: list[int], compute: bool) -> pd.DataFrame:
    """`records.table` of a section's runs with a column `variant`; variants of balanced BSA are called by its name.

    compute: False takes only records that are there, computed or shipped.
    """
    cells = grid(name, profile, seeds)
    gathered = experiment.gather([run for _, run in cells], profile, compute)
    made = [(variant, record) for (variant, _), record in zip(cells, gathered, strict=True) if record]
    if not made:
        return records.table([])
    table = records.table([record for _, record in made], variant=[variant for variant, _ in made])
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
