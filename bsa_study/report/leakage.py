"""What the evaluated requests that also stand in a training set do to the attack success rate.

The paper's release has 7 of them among its 275. Each record counts them (`data.leaked`) and, where there are any, marks
the restricted ones (`items.restricted_leaked`), so the rate without them takes no other run.
"""

import pandas as pd

from bsa_study import statistics
from bsa_study.report import tables


def marks(found: list[dict]) -> dict[str, str]:
    """Key of a record -> one character per restricted request, "1" where it stands in a training set.

    In that of any of the records with the same requests, so that arms are compared on one set. Records whose requests
    stand in none are left out.
    """
    of: dict[str, list[str]] = {}
    for record in found:
        if leaked := record["items"].get("restricted_leaked"):
            of.setdefault(record["data"]["restricted_digest"], []).append(leaked)
    merged = {digest: "".join(map(max, zip(*texts, strict=True))) for digest, texts in of.items()}
    digests = {record["key"]: record["data"]["restricted_digest"] for record in found}
    return {key: merged[digest] for key, digest in digests.items() if "1" in merged.get(digest, "")}


def without(table: pd.DataFrame, leaked: dict[str, str]) -> pd.DataFrame:
    """The ASR rows of `records.table` for the keys of `leaked` (see `marks`), less the requests that it marks."""
    rows = []
    for row in table[table["metric"].isin(tables.ASR) & table["key"].isin([*leaked])].to_dict("records"):
        kept = [int(o) for o, mark in zip(row["outcomes"], leaked[row["key"]], strict=True) if mark == "0"]
        if kept:
            rows.append(row | {"outcomes": "".join(map(str, kept)), "n": len(kept), "value": sum(kept) / len(kept)})
    return pd.DataFrame(rows, columns=table.columns)


def compared(table: pd.DataFrame, found: list[dict], by: list[str]) -> pd.DataFrame:
    """ASR by keywords and by content over all restricted requests, and without those in training rows, by `by`.

    table: `records.table` of the records `found`, or a part of it. Says so where no such request was evaluated.
    """
    leaked = marks(found)
    rest = without(table, leaked)
    if rest.empty:
        return tables.nothing("no evaluated request stands in a training row")
    parts = {"all requests": table[table["key"].isin([*leaked])], "requests in no training row": rest}
    shown = {title: tables.pretty(statistics.summarize(part, by), by, tables.ASR) for title, part in parts.items()}
    return pd.concat(shown, axis=1)
