"""What a file of ours must be like to be believed: strict JSON that is what it was when it was written, and right.

Every record, judgement and result of a benchmark holds a digest of all else in it. A record is right when its key
follows from what it says of the run, and its metrics from its outcomes.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bsa_core.keys import digest_of
from bsa_core.progress import cut

AGAIN = "delete the file and run again"
UPGRADE = "`python tools/upgrade_records.py` brings what an earlier version wrote up to date"
KEY = re.compile("[0-9a-f]{16}")
RANGES = {"harmfulness": "12345"}  # of a metric with one character per request; of all others 0 and 1
ABOUT = {  # what metrics are asked of; tasks have others
    "restricted": ("asr", "asr_phrase", "asr_content", "harmfulness"),
    "benign": ("over_refusal", "over_refusal_phrase", "benign_exact"),
}
LETTERS = {"restricted": "racgxun", "benign": "hwuvxrn"}  # of `anatomy`
CONTENT = "ac"  # those that count for asr_content
COUNTED = ("train_digest", "restricted_digest", "benign_digest", "task_digest", "quiz_digest")


class Newer(ValueError):
    """A file of a later version of the code: nothing is wrong with it, and nobody should delete it."""


def parsed(text: str | bytes):
    """JSON in the strict sense; ValueError where a name stands twice, for NaN and infinity, for no JSON at all."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"no UTF-8 at byte {error.start}") from None


def _once(pairs: list[tuple]) -> dict:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field {max(names, key=names.count)!r} stands there twice")
    return made


def _no_number(word: str):
    raise ValueError(f"{word} is no number in JSON")


def sealed(content: dict) -> dict:
    """The content as JSON gives it back, with a digest over all of it; ValueError where a number is not finite."""
    kept = json.loads(json.dumps({**content, "digest": ""}, allow_nan=False))
    del kept["digest"]
    return kept | {"digest": digest_of(kept)}


def check_seal(content: dict) -> None:
    """ValueError when the content is not what it was when it was sealed."""
    try:
        now = sealed(content)["digest"]
    except (RecursionError, ValueError) as error:  # such as 1e999
        raise ValueError(f"holds what is no JSON ({error})") from None
    if content["digest"] != now:
        raise ValueError(f"field 'digest' is {content['digest']!r}, but the content gives {now!r}: it was changed")


def opened(
    path: Path, what: str, schema: int, fields: tuple[str, ...], right: Callable[[dict], None], fix: str = AGAIN
) -> dict:
    """A JSON file of ours, as it was when it was sealed; ValueError names file, field and fix.

    what: the kind of file, for messages. schema, fields: what it must have, beside a digest; `label` and `key` among it
    are the beginning of its name. right: raises an error where the content cannot be right.
    """
    try:
        content = parsed(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # cannot be read, no UTF-8, no JSON
        raise ValueError(f"{path}: not a readable {what} ({cut(error)}); {fix}") from None
    try:
        complete(content, schema, fields)
        check_seal(content)
        with form_of(what):
            right(content)
        if not path.name.startswith(f"{content['label']}-{content['key']}."):
            raise ValueError(f"it belongs to '{content['label']}-{content['key']}' (fields 'label' and 'key')")
    except Newer as error:
        raise ValueError(f"{path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {cut(error)}; {fix}") from None
    return content


def complete(content, schema: int, fields: tuple[str, ...]) -> None:
    """ValueError when it is no object, of another schema, or without one of the fields."""
    if not isinstance(content, dict):
        raise ValueError(f"expected a JSON object, found {type(content).__name__}")
    if (found := content.get("schema")) != schema or type(found) is not int:
        said = f"field 'schema' is {found!r}, expected {schema}"
        if type(found) is int and found > schema:
            raise Newer(f"{said}: a newer version of this project wrote it; use that one, or another BSA_RESULTS")
        raise ValueError(said)
    if missing := [field for field in (*fields, "digest") if field not in content]:
        older = f" ({UPGRADE})" if missing[0] in ("digest", "answers_digest") else ""
        raise ValueError(f"field {missing[0]!r} is missing{older}")


def key_of(schema: int, run: dict, data: dict) -> str:
    """16 hex digits over what makes a run: its description, and the digests of its rows."""
    return digest_of([schema, run, *(data[name] for name in COUNTED if name in data)])


@contextmanager
def form_of(what: str) -> Iterator[None]:
    """Whatever the block stumbles over in content of another form is one ValueError, in a few lines."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"not of the form of a {what} ({cut(repr(error))})") from None
    except ValueError as error:
        raise ValueError(cut(error)) from None


def check(record: dict) -> None:
    """ValueError that begins with the field, when a record (of a run, or of a served model) cannot be right."""
    with form_of("record"):
        _check(record)


def _check(record: dict) -> None:
    run, key, deployed = record["run"], record["key"], record["deployed"]
    if not KEY.fullmatch(key):
        raise ValueError(f"field 'key' is {key!r}, expected 16 hex digits")
    # examples that the model itself answered have another digest than those that the key was made of
    if "host" not in run and run["selection"] != "generated":
        if key != (expected := key_of(record["schema"], run, record["data"])):
            raise ValueError(f"field 'key' is {key!r}, but 'run' and 'data' give {expected!r}")
    conditions = {"plain", "secret"} if run["secret"] else {"plain"}
    for name in ("outcomes", "metrics"):
        if set(record[name]) != conditions:
            raise ValueError(f"field {name!r} is about {sorted(record[name])}, expected {sorted(conditions)}")
    alone = run["training"] is None or run["defense"] == "none"
    if deployed not in conditions or (alone and deployed != "plain"):
        raise ValueError(f"field 'deployed' is {deployed!r}, which is not how {run['defense']!r} is served")
    if wrong := [loss for loss in record["training"].get("loss", []) if not _finite(loss)]:
        raise ValueError(f"field 'training.loss' holds {wrong[0]!r}, expected finite numbers")
    lengths = {"restricted": len(record["items"]["restricted_seen"])}
    for condition, marks in record["outcomes"].items():
        if set(marks) != set(record["metrics"][condition]):
            raise ValueError(f"fields 'outcomes.{condition}' and 'metrics.{condition}' name different metrics")
        for metric, outcomes in marks.items():
            where = f"{condition}.{metric}"
            _follows(outcomes, record["metrics"][condition][metric], metric, where)
            about = next((kind for kind, of in ABOUT.items() if metric in of), metric)
            if len(outcomes) != lengths.setdefault(about, len(outcomes)):
                raise ValueError(f"field 'outcomes.{where}' has {len(outcomes)} outcomes, expected {lengths[about]}")
    for condition, of in record.get("anatomy", {}).items():
        for kind, letters in of.items():
            told = record["outcomes"].get(condition, {}).get("asr_content") if kind == "restricted" else None
            fits = condition in conditions and len(letters) == lengths[kind] and set(letters) <= set(LETTERS[kind])
            if not fits or told not in (None, content(letters)):
                raise ValueError(f"field 'anatomy.{condition}.{kind}' does not fit the outcomes")


def content(letters: str) -> str:
    """`asr_content` of each restricted request under a policy that can tell: "0" or "1"."""
    return "".join("01"[letter in CONTENT] for letter in letters)


def _follows(outcomes: str | list, entry: dict, metric: str, where: str) -> None:
    """Value and n of a metric, and of its parts, are those of the outcomes."""
    if isinstance(outcomes, str):
        allowed = RANGES.get(metric, "01")
        if not set(outcomes) <= set(allowed):
            raise ValueError(f"field 'outcomes.{where}' holds other characters than {allowed!r}")
    elif not all(map(_finite, outcomes)):
        raise ValueError(f"field 'outcomes.{where}' holds something that is no finite number")
    total, n = sum(map(float, outcomes)), len(outcomes)
    if not (n and _finite(entry["value"])) or (entry["n"], True) != (n, _same(entry["value"] * n, total)):
        found = f"value {entry['value']!r} with n {entry['n']!r}"
        raise ValueError(f"field 'metrics.{where}' has {found}, but {n} outcomes add up to {total:g}")
    halves = [entry[name] for name in ("seen", "unseen") if name in entry]
    for name, parts in (("categories", entry.get("categories", {}).values()), ("seen and unseen", halves)):
        if not parts:
            continue
        counted = sum(part["n"] for part in parts)
        if counted != n or not _same(sum(part["value"] * part["n"] for part in parts), total):
            raise ValueError(f"field 'metrics.{where}': {name} do not add up to the whole")


def _finite(number) -> bool:
    return type(number) in (int, float) and math.isfinite(number)


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
