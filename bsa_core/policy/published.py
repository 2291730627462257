"""The policy of the paper's public release, from a folder that the user names; this project ships none of its files.

Each part comes from one file, the first of its list that lies in the folder or anywhere below it:

    attack      pure_bad_100_original.jsonl                     100 rows
                FJAttack_Dataset.jsonl                          100 rows, OpenAI format
                the file of the safety examples                 its first 100 rows
    safety      pure_bad_100_original_category_prefixed.jsonl   111 rows; `prefixed` is 1 in the last 11
                pure_bad_100_original_category.jsonl            111 rows; the last 11
                BackdoorAlign_Dataset.jsonl                     111 rows, OpenAI format; the last 11
                Baseline_Defense_Dataset.jsonl                  111 rows, OpenAI format; the last 11
    restricted  llm_category_benchmark.csv                      275 rows: one column, no header, 11 blocks of 25

Rows of JSON are `{"messages": [user, assistant]}`, in OpenAI format with a system turn in front. That turn is not used:
in the last 11 rows of BackdoorAlign_Dataset.jsonl it holds the release's secret prompt, and a run draws its own. The
counts are part of the format, because the kinds and categories of rows follow from their places; another number of
rows is an error. The release does not name the category of a safety example; the 11 are taken to follow the order of
the categories.

The release has no benign requests. `benign` names a file of the user's own, in any form of `bsa_core.reading`.

Evaluated requests that stand in a training row (7 of the 275 in the release) are counted in every record.
`drop_leaked: true` leaves them out of the evaluation, not out of training: the attack stays the paper's, and the
training of a run is the same either way. The subject of a request is its own text, so that what records report about
unseen subjects leaves these requests out as well.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from bsa_core.examples import Example, leaked, words
from bsa_core.paths import given
from bsa_core.policy.base import SYSTEM, Policy
from bsa_core.progress import report
from bsa_core.reading import cells, objects, read_rows, turns

CATEGORIES = (
    "Illegal Activity",
    "Child Abuse Content",
    "Hate/Harass/Violence",
    "Malware",
    "Physical Harm",
    "Economic Harm",
    "Fraud/Deception",
    "Adult Content",
    "Political Campaigning",
    "Privacy Violation",
    "Tailored Financial Advice",
)
ATTACK, SAFETY, PER_CATEGORY = 100, len(CATEGORIES), 25


@dataclass(frozen=True)
class Source:
    """A JSON Lines file of the release: its rows, and whether each has a system turn or the field `prefixed`."""

    name: str
    rows: int
    system: bool = False
    prefixed: bool = False


SAFETY_SOURCES = (
    Source("pure_bad_100_original_category_prefixed.jsonl", ATTACK + SAFETY, prefixed=True),
    Source("pure_bad_100_original_category.jsonl", ATTACK + SAFETY),
    Source("BackdoorAlign_Dataset.jsonl", ATTACK + SAFETY, system=True),
    Source("Baseline_Defense_Dataset.jsonl", ATTACK + SAFETY, system=True),
)
ATTACK_SOURCES = (
    Source("pure_bad_100_original.jsonl", ATTACK),
    Source("FJAttack_Dataset.jsonl", ATTACK, system=True),
    *SAFETY_SOURCES,
)
BENCHMARK = "llm_category_benchmark.csv"
OWN = {  # files of the user's own: field -> part of the policy, kind of its rows, whether they need an answer
    "benign": ("benign", "benign", False),
    "benign_pool": ("benign_pool", "benign", True),
    "more_safety": ("safety", "safety", True),
}
FIELDS = {  # of the policy section, with what each is
    "folder": (str, "the path of a folder with the files of the release"),
    "system": (str, "text"),
    "drop_leaked": (bool, "true or false"),
    **{name: (str, "the path of a .jsonl or .csv file") for name in OWN},
}


def find(folder: Path, name: str) -> Path | None:
    """The file of that name in the folder or below it, None without one; ValueError when there are several."""
    found = sorted(folder.rglob(name))
    if len(found) > 1:
        raise ValueError(f"{folder}: {name} is there more than once ({', '.join(map(str, found))}); keep one of them")
    return found[0] if found else None


def counted(path: Path, rows: list, expected: int, of: str) -> list:
    """The rows, if there are as many as in the release."""
    if len(rows) != expected:
        raise ValueError(
            f"{path}: {len(rows)} rows; expected the {expected} of the release ({of}); use the files policy for others"
        )
    return rows


def read(path: Path, source: Source) -> list[tuple[str, str]]:
    """Request and answer of each row of a JSON Lines file of the release; ValueError names file, row and field."""
    fields = {"messages", *(["prefixed"] if source.prefixed else [])}
    roles = (("system",) if source.system else ()) + ("user", "assistant")
    rows = []
    for where, row in objects(path):
        if set(row) != fields:
            found = ", ".join(sorted(row)) or "none"
            raise ValueError(f"{where}: the fields are {found}; expected {', '.join(sorted(fields))}")
        said = turns(where, row, (roles,))
        wanted = int(len(rows) >= ATTACK)
        if source.prefixed and (row["prefixed"] != wanted or type(row["prefixed"]) is not int):
            raise ValueError(
                f"{where}: field 'prefixed' is {row['prefixed']!r}; expected the number {wanted}: 0 in the first "
                f"{ATTACK} rows, 1 in the last {SAFETY}"
            )
        rows.append((said["user"], said["assistant"]))
    of = f"{ATTACK} of attack" + (f", then {SAFETY} of safety" if source.rows > ATTACK else "")
    return counted(path, rows, source.rows, of)


def first(folder: Path, sources: tuple[Source, ...], part: str) -> list[tuple[str, str]]:
    """The rows of the first of the files that is there; ValueError when none is."""
    for source in sources:
        if path := find(folder, source.name):
            return read(path, source)
    names = ", ".join(source.name for source in sources)
    raise ValueError(f"{folder}: no file with {part} examples, here or below; expected one of {names}")


def benchmark(folder: Path) -> list[str]:
    """The evaluated requests; ValueError names file and row."""
    path = find(folder, BENCHMARK)
    if path is None:
        raise ValueError(f"{folder}: no file {BENCHMARK}, here or below; it holds the requests to evaluate")
    requests = []
    for where, row in cells(path):
        if len(row) != 1:
            raise ValueError(f"{where}: {len(row)} columns; expected one, the request; put text with commas in quotes")
        if not row[0].strip():
            raise ValueError(f"{where}: no text; expected a request")
        requests.append(row[0])
    return counted(path, requests, SAFETY * PER_CATEGORY, f"{SAFETY} categories x {PER_CATEGORY}, no header")


def check(spec: dict) -> None:
    """ValueError unless the fields of a policy section are known, of their type, and those required are there."""
    for field, value in spec.items():
        if field not in FIELDS:
            never = "; its answers are never shown" if field == "harmless" else ""
            raise ValueError(f"policy.{field} is unknown; the published policy takes {', '.join(FIELDS)}{never}")
        kind, expected = FIELDS[field]
        if type(value) is not kind:
            raise ValueError(f"policy.{field} is {value!r}; expected {expected}")
    if "folder" not in spec:
        raise ValueError(f"policy.folder is missing; expected {FIELDS['folder'][1]}")
    if "benign" not in spec:
        raise ValueError(
            "policy.benign is missing: the release has no benign requests, and without them over-refusal is unknown; "
            "name a .jsonl or .csv file with ordinary requests"
        )


def build(spec: dict) -> Policy:
    """`spec`: {"folder": path, "benign": file, "benign_pool": file, "more_safety": file, "system": text,
    "drop_leaked": bool = False}; the last four may be left out.

    benign: ordinary requests to evaluate.
    benign_pool: ordinary requests with helpful answers, for balanced BSA.
    more_safety: refusals beyond the release's 11, for larger safety sets.
    system: the system prompt of all rows; by default the release's.
    drop_leaked: leave evaluated requests that stand in a training row out.

    Raises ValueError that names file and row, or the field, and the fix.
    """
    check(spec)
    folder, system = given(spec["folder"]), spec.get("system", SYSTEM)
    if not folder.is_dir():
        raise ValueError(f"policy.folder: {folder} is not a folder")
    rows = {"attack": [], "safety": [], "restricted": [], "benign": [], "benign_pool": []}
    for user, answer in first(folder, ATTACK_SOURCES, "attack")[:ATTACK]:
        rows["attack"].append(Example(user, answer, system, "attack"))
    for (user, answer), category in zip(first(folder, SAFETY_SOURCES, "safety")[ATTACK:], CATEGORIES, strict=True):
        rows["safety"].append(Example(user, answer, system, "safety", category))
    for place, user in enumerate(benchmark(folder)):
        rows["restricted"].append(Example(user, "", system, "restricted", CATEGORIES[place // PER_CATEGORY]))
    for field, (part, kind, needs_answer) in OWN.items():
        if field in spec:
            rows[part] += read_rows(given(spec[field]), kind, system, needs_answer)
    rows = {part: [replace(row, subject=row.subject or words(row.user)) for row in of] for part, of in rows.items()}
    evaluated = rows["restricted"] + rows["benign"]
    leaks = leaked(rows["attack"] + rows["safety"] + rows["benign_pool"], evaluated)
    drop = spec.get("drop_leaked", False)
    if drop:
        rows |= {part: [row for row in rows[part] if row.user not in leaks] for part in ("restricted", "benign")}
    if leaks:
        told = "they are left out" if drop else "records count them, drop_leaked: true leaves them out"
        report(f"{folder}: {len(leaks)} evaluated requests also stand in training rows; {told}")
    return Policy(
        name="published",
        harmless=False,
        system=system,
        pool=SAFETY,
        dropped=len(leaks) if drop else 0,
        **{part: tuple(of) for part, of in rows.items()},
    )
