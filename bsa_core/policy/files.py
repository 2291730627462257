"""A policy of your own, from a folder with one file per part.

    attack       compliant answers
    safety       refusals; drawn from the top
    benign_pool  helpful answers (optional: only balanced BSA needs it)
    restricted   evaluated; "assistant" is the reference answer and may be empty
    benign       the same, evaluated

Each is JSON Lines (attack.jsonl), in the plain or the chat form, or CSV (attack.csv): `bsa_core.reading` has the
forms. Whole files are checked before anything trains, and a message names the file and the row.
"""

from pathlib import Path

from bsa_core.paths import given
from bsa_core.policy.base import SYSTEM, Policy
from bsa_core.progress import report
from bsa_core.reading import SUFFIXES, read_rows

TRAINING = {"attack": "attack", "safety": "safety", "benign_pool": "benign"}
EVALUATION = {"restricted": "restricted", "benign": "benign"}


def part(folder: Path, name: str) -> Path:
    """The file of one part, there or not; ValueError when it is there in two formats."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").exists()]
    if len(found) > 1:
        raise ValueError(f"{folder}: {' and '.join(path.name for path in found)} are both there; remove one of them")
    return found[0] if found else folder / f"{name}{SUFFIXES[0]}"


def build(spec: dict) -> Policy:
    """`spec`: {"folder": path, "system": text, "harmless": bool = False}.

    `harmless: true` allows generations to be stored and shown; leave it out for anything that is not.
    """
    unknown = set(spec) - {"folder", "system", "harmless"}
    if unknown:
        raise ValueError(f"policy.{sorted(unknown)[0]} is unknown; the files policy takes folder, system and harmless")
    if not isinstance(spec.get("folder"), str):
        raise ValueError(f"policy.folder is {spec.get('folder')!r}; expected the path of a folder")
    if not isinstance(spec.get("harmless", False), bool):
        raise ValueError(f"policy.harmless is {spec['harmless']!r}; expected true or false")
    system = spec.get("system", SYSTEM)
    if not isinstance(system, str):
        raise ValueError(f"policy.system is {system!r}; expected text")
    folder = given(spec["folder"])
    if not folder.is_dir():
        raise ValueError(f"policy.folder: {folder} is not a folder")
    parts = {
        name: read_rows(path, kind, system, name in TRAINING)
        for name, kind in {**TRAINING, **EVALUATION}.items()
        if (path := part(folder, name)).exists() or name != "benign_pool"
    }
    made = Policy(
        name=f"files:{folder.name}",
        harmless=spec.get("harmless", False),
        system=system,
        pool=len(parts["safety"]),
        benign_pool=parts.pop("benign_pool", ()),
        **parts,
    )
    if leaks := made.leaked():
        report(f"{folder}: {len(leaks)} evaluated requests also stand in training rows; records count them as leaked")
    return made
