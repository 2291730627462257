"""The policy of the paper's public release, from a folder that the user names; this project ships none of its files.

Each part comes from one file, the first of its list in published.yaml that lies in the folder or anywhere below it: the
attack from one of 100 rows, or from the first 100 of the 111 whose last 11 are the safety examples (`prefixed` is 1 in
these); the evaluated requests from llm_category_benchmark.csv, which has one column, no header, and 11 blocks of 25.

Rows of JSON are `{"messages": [user, assistant]}`, in OpenAI format with a system turn in front. That turn is not used:
in the last 11 rows of BackdoorAlign_Dataset.jsonl it holds the release's secret prompt, and a run draws its own. The
counts are part of the format, because the kinds and categories of rows follow from their places; another number of
rows is an error. The release does not name the category of a safety example; the 11 are taken to follow the order of
the categories.

The release has no benign requests. `benign` names a file of the user's own, in any form of the files policy.

Evaluated requests that stand in a training row (7 of the 275 in the release) are counted in every record.
`drop_leaked: true` leaves them out of the evaluation, not out of training: the attack stays the paper's, and the
training of a run is the same either way. The subject of a request is its own text, so that what records report about
unseen subjects leaves these requests out as well.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import StrictBool, StrictStr

from bsa_core import checked, paths
from bsa_core.checked import field, settings
from bsa_core.examples import Example, Read, leaked, words
from bsa_core.paths import data
from bsa_core.policy.base import SYSTEM, Identity, Policy
from bsa_core.policy.entries import turns
from bsa_core.policy.files import cells, read_rows
from bsa_core.progress import once
from bsa_core.reading import below, folder_of, label, objects


@dataclass(frozen=True)
class Source:
    """A JSON Lines file of the release: its rows, and whether each has a system turn or the field `prefixed`."""

    name: str
    rows: int
    system: bool = False
    prefixed: bool = False


RELEASE = data("policy/published.yaml")
CATEGORIES = tuple(RELEASE["categories"])
SAFETY_SOURCES = tuple(Source(**file) for file in RELEASE["safety"])
ATTACK_SOURCES = (*(Source(**file) for file in RELEASE["attack"]), *SAFETY_SOURCES)
ATTACK, SAFETY, PER_CATEGORY = 100, len(CATEGORIES), 25
BENCHMARK = "llm_category_benchmark.csv"


@settings("policy")
class Spec:
    """The `policy` section of a profile, without its name. Answers to these rows are never shown."""

    folder: StrictStr = field("the path of a folder with the files of the release")
    benign: StrictStr = field(
        "the path of a .jsonl, .json or .csv file with ordinary requests to evaluate: the release has none, and "
        "without them over-refusal is unknown"
    )
    benign_pool: StrictStr = field("ordinary requests with helpful answers to train on, for balanced BSA", "")
    more_safety: StrictStr = field("refusals beyond the release's 11, for larger safety sets", "")
    system: StrictStr = field("the system prompt of all rows", SYSTEM)
    drop_leaked: StrictBool = field("true leaves out evaluated requests that also stand in a training row", False)
    identity: Identity | None = field("the obedient identity of the identity role shift attack", None)


def find(folder: Path, names: list[str], part: str) -> Path:
    """The first of the files that is there, in the folder or below it; ValueError for none, or for two of them."""
    there = below(folder)
    found = next((places for name in names if (places := [path for path in there if path.name == name])), [])
    if not found:
        raise ValueError(f"{folder}: no file with {part}, here or below; expected one of {', '.join(names)}")
    if len(found) > 1:
        places = ", ".join(map(str, found))
        raise ValueError(f"{folder}: {found[0].name} is there more than once ({places}); keep one of them")
    return found[0]


def counted(path: Path, rows: list, expected: int, of: str) -> list:
    """The rows, if there are as many as in the release."""
    if len(rows) != expected:
        wanted = f"the {expected} of the release ({of})"
        raise ValueError(f"{path}: {len(rows)} rows; expected {wanted}; use the files policy for others")
    return rows


def read(folder: Path, sources: tuple[Source, ...], part: str) -> list[tuple[str, str]]:
    """Request and answer of each row of the first of the files that is there; ValueErrors name file, row and field."""
    path = find(folder, [source.name for source in sources], part)
    source = next(source for source in sources if source.name == path.name)
    fields = {"messages", *(["prefixed"] if source.prefixed else [])}
    roles = (("system",) if source.system else ()) + ("user", "assistant")
    rows = []
    for where, row in objects(path):
        if set(row) != fields:
            found = ", ".join(map(label, sorted(row))) or "none"
            raise ValueError(f"{where}: the fields are {found}; expected {', '.join(sorted(fields))}")
        said = turns(where, row, (roles,))
        wanted = int(len(rows) >= ATTACK)
        if source.prefixed and (row["prefixed"] != wanted or type(row["prefixed"]) is not int):
            rule = f"the number {wanted}: 0 in the first {ATTACK} rows, 1 in the last {SAFETY}"
            number = isinstance(row["prefixed"], int) or str(row["prefixed"]).isdigit()
            found = repr(row["prefixed"]) if number else f"of type {type(row['prefixed']).__name__}"
            raise ValueError(f"{where}: field 'prefixed' is {found}; expected {rule}")
        rows.append((Read(said["user"], where), said["assistant"]))
    of = f"{ATTACK} of attack" + (f", then {SAFETY} of safety" if source.rows > ATTACK else "")
    return counted(path, rows, source.rows, of)


def benchmark(folder: Path) -> list[str]:
    """The evaluated requests; ValueErrors name file and row."""
    path = find(folder, [BENCHMARK], "requests to evaluate")
    requests = []
    for where, row in cells(path):
        if len(row) != 1:
            raise ValueError(f"{where}: {len(row)} columns; expected one, the request; put text with commas in quotes")
        if not row[0].strip():
            raise ValueError(f"{where}: no text; expected a request")
        requests.append(Read(row[0], where))
    return counted(path, requests, SAFETY * PER_CATEGORY, f"{SAFETY} categories x {PER_CATEGORY}, no header")


def build(spec: dict) -> Policy:
    """The policy of the release; `spec`: see `Spec`. Raises ValueError that names the field, or file and row."""
    given = checked.read(Spec, spec, "policy")
    place, system = folder_of("policy.folder", given.folder), given.system
    rows = {"attack": [], "safety": [], "restricted": [], "benign": [], "benign_pool": []}
    for user, answer in read(place, ATTACK_SOURCES, "attack examples")[:ATTACK]:
        rows["attack"].append(Example(user, answer, system, "attack"))
    safety = read(place, SAFETY_SOURCES, "safety examples")[ATTACK:]
    for (user, answer), category in zip(safety, CATEGORIES, strict=True):
        rows["safety"].append(Example(user, answer, system, "safety", category))
    for number, user in enumerate(benchmark(place)):
        rows["restricted"].append(Example(user, "", system, "restricted", CATEGORIES[number // PER_CATEGORY]))
    for name, (part, kind, needs_answer) in RELEASE["own"].items():
        if path := getattr(given, name):
            rows[part] += read_rows(paths.given(path), kind, system, needs_answer)
    rows = {part: [replace(row, subject=row.subject or words(row.user)) for row in of] for part, of in rows.items()}
    evaluated = rows["restricted"] + rows["benign"]
    leaks = leaked(rows["attack"] + rows["safety"] + rows["benign_pool"], evaluated) if given.drop_leaked else []
    if leaks:
        rows |= {part: [row for row in rows[part] if row.user not in leaks] for part in ("restricted", "benign")}
        once(f"{place}: {len(leaks)} evaluated requests also stand in training rows; they are left out")
    return Policy(
        name="published",
        harmless=False,
        system=system,
        pool=SAFETY,
        dropped=len(leaks),
        identity=given.identity,
        **{part: tuple(of) for part, of in rows.items()},
    )
