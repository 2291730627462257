"""From answers to what a record says of them; the same for a model that runs here and one that is served elsewhere."""

from collections import Counter

from bsa_core import anatomy
from bsa_core.arms import attacks, defenses
from bsa_core.arms.secret_prompt import Secret
from bsa_core.engine import evaluate
from bsa_core.examples import digest, leaked
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
    marks, letters, answers = {}, {}, []
    for condition, texts in said.items():
        parts = {"restricted": rows.restricted, "benign": rows.benign}
        parted = {"restricted": texts[: len(rows.restricted)], "benign": texts[len(rows.restricted) : len(requests)]}
        letters[condition] = {kind: anatomy.of(policy, parts[kind], parted[kind], kind) for kind in parts}
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
    why = {
        condition: Counter(filter(None, (getattr(t, "missing", "") for t in texts)))
        for condition, texts in said.items()
    }
    blocks = {
        "deployed": "secret" if defenses.get(run.defense).serves_secret else "plain",
        "data": {
            "n_train": len(rows.training),
            "train_digest": digest(rows.training),
            "restricted_digest": digest(rows.restricted),
            "benign_digest": digest(rows.benign),
            **({"task_digest": digest(rows.task)} if rows.task else {}),
            "leaked": len(leaks),
            **({"dropped": policy.dropped} if policy.dropped else {}),
            "secret_digest": secret.digest if secret else None,
        },
        "anatomy": letters,
        "outcomes": marks,
        "metrics": {condition: evaluate.metrics(of_one, policy, rows) for condition, of_one in marks.items()},
        "items": {
            "restricted_seen": "".join("01"[policy.seen(row)] for row in rows.restricted),
            **({"restricted_leaked": "".join("01"[row.user in leaks] for row in rows.restricted)} if leaks else {}),
            **(
                {"no_answer": {condition: dict(sorted(of_one.items())) for condition, of_one in why.items()}}
                if any(why.values())
                else {}
            ),
        },
    }
    return blocks, answers
