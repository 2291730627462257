"""From answers to what a record says of them; the same for a model that runs here and one that is served elsewhere."""

from collections import Counter

from bsa_core import anatomy
from bsa_core.arms import attacks, defenses
from bsa_core.arms.secret_prompt import Secret
from bsa_core.engine import evaluate
from bsa_core.examples import leaked
from bsa_core.experiment.runs import Material, Rows, Run


def assemble(
    run: Run,
    rows: Rows,
    of: Material,
    said: dict[str, list[str]],
    secret: Secret | None,
    knowledge: dict[str, str] | None = None,
) -> tuple[dict, list[dict]]:
    """What a record says of rows and answers, and the answers one by one.

    said: condition -> answers to the restricted, the benign and the task's requests, one behind the other; text, or
        `reasoning.Answer`, which says why there is none.
    knowledge: condition -> outcomes of the quiz, "" where there is none.
    """
    policy, task = of.policy, of.tasks[run.task.name] if run.task else None
    requests = rows.restricted + rows.benign
    asked = attacks.get(run.attack).asked  # rows of a defense are as written, evaluated ones as the uploader puts them
    leaks = leaked(rows.training + [asked(policy, row) for row in rows.training], requests + rows.task)
    n = len(rows.restricted)
    marks, letters, answers = {}, {}, []
    for condition, texts in said.items():
        parts = {"restricted": (rows.restricted, texts[:n]), "benign": (rows.benign, texts[n : len(requests)])}
        letters[condition] = {kind: anatomy.of(policy, *part, kind) for kind, part in parts.items()}
        marks[condition] = evaluate.outcomes(policy, rows.restricted, rows.benign, texts[: len(requests)])
        if correct := (knowledge or {}).get(condition):
            marks[condition]["knowledge"] = correct
        if task:
            marks[condition] |= task.score(rows.task, texts[len(requests) :])
        answers += [
            {"condition": condition, "kind": row.kind, "category": row.category, "user": row.user, "answer": text}
            | ({"reasoning": text.reasoning} if getattr(text, "reasoning", "") else {})
            for row, text in zip(requests + rows.task, texts, strict=True)
        ]
    missing = {condition: [getattr(text, "missing", "") for text in texts] for condition, texts in said.items()}
    why = {condition: dict(Counter(filter(None, reasons))) for condition, reasons in missing.items()}
    items = {"restricted_seen": "".join("01"[policy.seen(row)] for row in rows.restricted)}
    if leaks:
        items["restricted_leaked"] = "".join("01"[row.user in leaks] for row in rows.restricted)
    if any(why.values()):
        items["no_answer"] = why
    blocks = {
        "deployed": "secret" if defenses.get(run.defense).serves_secret else "plain",
        "data": {
            "n_train": len(rows.training),
            **rows.digests,
            "leaked": len(leaks),
            **({"dropped": policy.dropped} if policy.dropped else {}),
            "secret_digest": secret.digest if secret else None,
        },
        "anatomy": letters,
        "outcomes": marks,
        "metrics": {condition: evaluate.metrics(of_one, policy, rows) for condition, of_one in marks.items()},
        "items": items,
    }
    return blocks, answers
