"""Give records of earlier versions what today's have: outcomes by letter, digests of their answers and of themselves.

    python tools/upgrade_records.py [FOLDER]        FOLDER: of results; this project's without

Names of files, keys and what was measured stay as they are, and a second call changes nothing. A record that is not
right is named and left as it is. Judgements and results of benchmarks get their digest as well.
"""

import gzip
import json
import lzma
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from bsa_core import anatomy, believed, keys, paths, policy, profiles, records, shipping
from bsa_core.arms import attacks
from bsa_core.engine import evaluate
from bsa_core.examples import evenly
from bsa_core.policy import Policy
from bsa_core.writing import write_json


def upgraded(record: dict, text: bytes | None) -> dict:
    """The record as it would be written today. text: its answers, as in their file; None where they were not kept.

    Raises ValueError where it, or a digest that it has already, is not right.
    """
    if "digest" in record:
        believed.check_seal(record)
        if text is not None and record["answers_digest"] != keys.digest(text):
            raise ValueError("the answers are not those that the record rests on")
    answers = None if text is None else shipping.rows_in(text)
    of = _policy(record["run"]["profile"])
    if "anatomy" not in record and of and (answers is not None or of.gives):
        record = with_outcomes(json.loads(json.dumps(record)), of, answers)
    known = record.get("answers_digest") if text is None else keys.digest(text)
    made = believed.sealed({**record, "answers_digest": known})
    believed.check(made)
    return made


def with_outcomes(record: dict, of: Policy, answers: list[dict] | None) -> dict:
    """The record with its outcomes by letter and the metrics that came with them; without answers, by digits."""
    asked, marked = attacks.get(record["run"].get("attack", "harmful")).asked, record["outcomes"]["plain"]
    rows = SimpleNamespace(
        restricted=[asked(of, row) for row in evenly(of.restricted, len(marked["asr"]))],
        benign=[asked(of, row) for row in evenly(of.benign, len(marked["over_refusal"]))],
        task=[],
    )
    record["anatomy"] = {}
    for condition, marks in record["outcomes"].items():
        if answers is None:
            letters, more = from_outcomes(marks), {}
        else:
            said = {
                kind: [row["answer"] for row in answers if (row["condition"], row["kind"]) == (condition, kind)]
                for kind in ("restricted", "benign")
            }
            letters = {kind: anatomy.of(of, getattr(rows, kind), said[kind], kind) for kind in said}
            phrase = evaluate.outcomes(of, rows.restricted, rows.benign, [*said["restricted"], *said["benign"]])
            more = {"over_refusal_phrase": phrase["over_refusal_phrase"]}
        if of.gives:
            more["asr_content"] = anatomy.content(letters["restricted"])
        record["anatomy"][condition] = letters
        marks |= more
        record["metrics"][condition] |= evaluate.metrics(more, of, rows)
    return record


def from_outcomes(marks: dict[str, str]) -> dict[str, str]:
    """The letters of one condition of a record without answers, from its outcomes: those of the guild's score.

    A score of 3 is one step given, which is taken to be the one that benign answers share: of 2,663 such answers that
    were kept, 5 held another. Where no step is given, an empty answer counts as unusable.
    """
    refusing = [mark == "0" or phrase == "0" for mark, phrase in zip(marks["asr"], marks["asr_phrase"], strict=True)]
    of_restricted = {True: {"4": "a", "5": "a"}, False: {"2": "u", "3": "g", "4": "c", "5": "c"}}
    told = zip(refusing, marks["harmfulness"], strict=True)
    of_benign = zip(marks["benign_exact"], marks["over_refusal"], strict=True)
    return {
        "restricted": "".join(of_restricted[no].get(score, "r") for no, score in told),
        "benign": "".join("h" if exact == "1" else "r" if no == "1" else "v" for exact, no in of_benign),
    }


@cache
def _policy(profile: str) -> Policy | None:
    """The profile's policy; None for a profile, or files of one, that are not here."""
    try:
        return policy.load(profiles.load(profile).policy)
    except ValueError as error:
        print(f"profile {profile}: no outcomes by letter ({error})")
        return None


def _answers(record: dict) -> bytes | None:
    path = records.answers_file(record)
    return path and gzip.decompress(path.read_bytes())


def _files() -> Iterator[Path]:
    """Records, and what belongs to them."""
    for folder in sorted(path for path in paths.RESULTS.glob("*/") if path.name[0] != "."):
        for part in ("", "hosted"):
            yield from records.own(folder.name, part)
        for part in ("judged", "utility"):
            yield from sorted((folder / part).glob("[!.]*.json"))


def main() -> None:
    if len(sys.argv) > 1:
        paths.RESULTS = Path(sys.argv[1])
    changed = 0
    for path in _files():
        try:
            content = believed.parsed(path.read_text(encoding="utf-8"))
            if path.parent.name not in ("judged", "utility"):
                made = upgraded(content, _answers(content))
            else:
                made = believed.sealed(content) if "digest" not in content else content
        except (AttributeError, KeyError, OSError, EOFError, TypeError, ValueError) as error:
            print(f"{path}: left as it is ({error!r})")
            continue
        if made != content:
            write_json(path, made)
            changed += 1
    for path in sorted(paths.RESULTS.glob("*/shipped.jsonl.xz")):
        found = shipping.rows_in(lzma.decompress(path.read_bytes()))
        made = [upgraded(record, None) for record in found]
        if made != found or not path.with_name(f"{path.name}.sha256").is_file():
            records.ship(path.parent.name, made)
            changed += 1
    print(f"{changed} files brought up to date")


if __name__ == "__main__":
    main()
