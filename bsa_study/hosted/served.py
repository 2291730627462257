"""Evaluate a model that is served elsewhere, through an OpenAI-compatible endpoint: requests, answers, a record.

Requests, outcomes and metrics are those of a run with the same arm. For the condition "secret" the secret prompt stands
in front of the system prompt. A record has the fields of a run's record, as far as they apply: the model's name and
host stand in `run`, nothing is known of its training, and the quiz is left out, as it takes likelihoods.
They lie in a folder of their own, so that no chapter takes them for runs.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version

from bsa_core import records
from bsa_core.arms import secret_prompt
from bsa_core.arms.secret_prompt import Secret
from bsa_core.experiment.runs import Material, Rows, Run, describe, material, rows_of
from bsa_core.keys import content, digest_of
from bsa_core.models.chat import messages
from bsa_core.profiles import Profile
from bsa_study.hosted.budget import Budget, Usage
from bsa_study.hosted.endpoint import Endpoint
from bsa_study.hosted.upload import CHAT

ELSEWHERE = ("profile_digest", "weights", "device")  # fields of a run that say nothing of a served model


@dataclass(frozen=True)
class Evaluation:
    """One served model as one arm: its requests by condition, in the order restricted, benign.

    They hold the secret prompt's text, so `repr` leaves them out.
    """

    run: Run
    rows: Rows = field(repr=False)
    of: Material = field(repr=False)
    endpoint: Endpoint
    secret: Secret | None
    conversations: dict[str, list[list[dict]]] = field(repr=False)

    @property
    def arm(self) -> str:
        return self.run.defense if self.run.training else "initial"

    @property
    def expected(self) -> Usage:
        """What it takes at most without retries, estimated; answers in the cache take nothing."""
        return self.endpoint.expected([turns for asked in self.conversations.values() for turns in asked])


def plan(profile: Profile, arm: str, endpoint: Endpoint, seed: int = 0, secret: Secret | None = None) -> Evaluation:
    """The `Evaluation` of a served model; nothing is sent.

    arm: a defense, or "initial" for the model before fine-tuning. seed: of the file that it was fine-tuned with.
    secret: None where no request is served with one; arms that are deployed with a secret need it, and for the initial
        model it is a control. Other arms are asked without.
    Raises ValueError for an unknown arm or a missing secret.
    """
    run = describe(profile, n_attack=0, seed=seed) if arm == "initial" else describe(profile, arm, seed=seed)
    if run.secret is None:
        secret = None
    elif secret is None and run.training:
        raise ValueError(f"arm {arm!r} is served with a secret prompt, and none is given: see `upload.secret`")
    of = material(profile, [run])
    rows = rows_of(run, profile, of)
    conversations = {
        condition: [messages(row, text, CHAT) for row in rows.restricted + rows.benign]
        for condition, text in secret_prompt.conditions(secret).items()
    }
    return Evaluation(run, rows, of, endpoint, secret, conversations)


def plans(
    profile: Profile,
    models: dict[str, str],
    seed: int = 0,
    secret: Secret | None = None,
    limit_requests: int | None = None,
    limit_tokens: int | None = None,
) -> list[Evaluation]:
    """The evaluations of several served models, arm -> model, within one budget; nothing is sent.

    Answers may be as long as in local runs. Raises ValueError as `plan` does, and EndpointError without a key.
    """
    budget = Budget(limit_requests, limit_tokens)
    longest = profile.decoding.max_new_tokens
    endpoints = {arm: Endpoint(model, budget, max_tokens=longest) for arm, model in models.items()}
    return [plan(profile, arm, endpoint, seed, secret) for arm, endpoint in endpoints.items()]


def execute(planned: Evaluation) -> dict:
    """Ask, and write the record: `results/<profile>/hosted/<label>-<key>.json`, whole or not at all.

    Answers stand beside it for harmless policies, else in the folder of generations. An evaluation that broke off goes
    on with the endpoint's cache and asks nothing twice. Raises OverBudget, EndpointError or RecordError.
    """
    from bsa_core.experiment.assembly import assemble

    endpoint, before = planned.endpoint, planned.endpoint.budget.used
    said = {condition: endpoint.complete(conversations) for condition, conversations in planned.conversations.items()}
    used = endpoint.budget.used - before
    outcome, answers = assemble(planned.run, planned.rows, planned.of, said, planned.secret)
    described, data = _described(planned), outcome.pop("data")
    counted = {name: data[f"{name}_digest"] for name in ("train", "restricted", "benign", "secret")}
    made = {
        "schema": records.SCHEMA,
        "key": digest_of([records.SCHEMA, described, counted]),
        "label": _label(planned.run),
        "run": described,
        "data": data | {"empty": {condition: texts.count("") for condition, texts in said.items()}},
        **outcome,
        "training": {},
        "cost": {"requests": used.requests, "tokens": used.tokens},
        "environment": {"openai": version("openai"), "created": datetime.now(UTC).isoformat(timespec="seconds")},
    }
    return records.read(records.write(made, answers, planned.of.policy.harmless))


def _label(run: Run) -> str:
    """As a run's, without the epochs: the service decides or is told about them."""
    return run.label if run.training is None else run.label.replace(f"-e{run.training.epochs}-", "-")


def _described(planned: Evaluation) -> dict:
    """The fields of a run that apply, and who answered."""
    kept = {name: value for name, value in content(planned.run).items() if name not in ELSEWHERE}
    return kept | {
        "training": {"method": "hosted"} if planned.run.training else None,
        "secret": planned.secret.shown if planned.secret else None,
        "model": planned.endpoint.model,
        "host": planned.endpoint.host,
        "max_tokens": planned.endpoint.max_tokens,
    }


def load(profile: str) -> list[dict]:
    """The records of hosted models of a profile, by file name; damaged ones are named and left out."""
    return records.load(profile, "hosted")
