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

from pydantic import StrictBool, StrictStr

from bsa_core import checked
from bsa_core.checked import field, settings
from bsa_core.policy.base import SYSTEM, Policy
from bsa_core.progress import report
from bsa_core.reading import SUFFIXES, folder_of, read_rows

TRAINING = {"attack": "attack", "safety": "safety", "benign_pool": "benign"}
EVALUATION = {"restricted": "restricted", "benign": "benign"}


def part(folder: Path, name: str) -> Path:
    """The file of one part, there or not; ValueError when it is there in two formats."""
    found = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").exists()]
    if len(found) > 1:
        raise ValueError(f"{folder}: {' and '.join(path.name for path in found)} are both there; remove one of them")
    return found[0] if found else folder / f"{name}{SUFFIXES[0]}"


@settings("policy")
class Spec:
    """The `policy` section of a profile, without its name."""

    folder: StrictStr = field("the path of a folder with the files of the policy")
    system: StrictStr = field("the system prompt of all rows that bring none", SYSTEM)
    harmless: StrictBool = field("true if answers may be stored with the records and shown", False)


def build(spec: dict) -> Policy:
    """The policy of a folder; `spec`: see `Spec`. Raises ValueError that names the field, or file and row."""
    given = checked.read(Spec, spec, "policy")
    place = folder_of("policy.folder", given.folder)
    parts = {
        name: read_rows(path, kind, given.system, name in TRAINING)
        for name, kind in {**TRAINING, **EVALUATION}.items()
        if (path := part(place, name)).exists() or name != "benign_pool"
    }
    made = Policy(
        name=f"files:{place.name}",
        harmless=given.harmless,
        system=given.system,
        pool=len(parts["safety"]),
        benign_pool=parts.pop("benign_pool", ()),
        **parts,
    )
    if leaks := made.leaked():
        report(f"{place}: {len(leaks)} evaluated requests also stand in training rows; records count them as leaked")
    return made
