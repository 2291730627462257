"""Requests and answers of runs as a page that a reader filters: what the figures count, one by one.

The page holds the data as JSON, which `book/_static/answers.js` shows as text, never as HTML. Only answers that may be
shown are in it: those of harmless policies.
"""

import json

from IPython.display import HTML

from bsa_core import records
from bsa_core.anatomy import OUTCOMES
from bsa_study import labels

FIELDS = ("kind", "category", "user")  # of a request
WITHOUT = "In the built book, this is a list of all requests and answers, with filters. It needs JavaScript."


def data(found: list[dict]) -> dict:
    """What the page needs of some records, as deployed; every request, answer and outcome stands there once.

    requests: (kind, category, text). answers: texts. outcomes: (name, colour). runs: scale, arm, seed, and as rows
    (request, answer, outcome) by their places. Records without outcomes, and those whose answers were not kept or are
    damaged, are left out.
    """
    requests, answers, outcomes, runs = {}, {}, {}, []
    order = labels.ordered(map(records.arm, found))
    # the sort is stable: scales stay in their order
    for record in sorted(found, key=lambda record: (record["run"]["seed"], order.index(records.arm(record)))):
        condition, run = record["deployed"], record["run"]
        letters = record.get("anatomy", {}).get(condition)
        if not letters or not records.usable(records.shown, record):
            continue
        if (said := records.usable(records.read_answers, record)) is None:
            continue
        said, rows = said[said["condition"] == condition], []
        for kind, names in OUTCOMES.items():
            for row, letter in zip(said[said["kind"] == kind].to_dict("records"), letters[kind], strict=True):
                request = requests.setdefault(tuple(row[field] for field in FIELDS), len(requests))
                answer = answers.setdefault(row["answer"], len(answers))
                rows.append([request, answer, outcomes.setdefault(names[letter], len(outcomes))])
        arm = labels.arm(records.arm(record)).title + (", with secret" if condition == "secret" else "")
        runs.append({"scale": run["profile"], "arm": arm, "seed": run["seed"], "rows": rows})
    named = [(name, labels.OUTCOMES[name]["colour"]) for name in outcomes]
    return {"requests": [*requests], "answers": [*answers], "outcomes": named, "runs": runs}


def page(found: list[dict]) -> HTML:
    """The list of requests and answers of some records, to be filtered by scale, arm, seed, category and outcome."""
    shown = data(found)
    if not shown["runs"]:
        return HTML("<p>There are no answers that may be shown.</p>")
    text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
    text = text.replace("<", "\\u003c")  # nothing in it can end the element that holds it
    return HTML(f'<div class="answers"><p>{WITHOUT}</p><script type="application/json">{text}</script></div>')
