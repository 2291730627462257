"""A run, from its description to its record. Nothing else knows the whole chain.

Runs that differ in the number of epochs only share one training: its state after k epochs is that of a run of k epochs,
so it is evaluated on the way. A run whose record exists is looked up, not computed; a record is written whole or not
at all, so an interrupted batch continues where it stopped.
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

from filelock import FileLock, Timeout

from bsa_core import defenses, paths, policy, profiles, records, weights
from bsa_core.examples import Example, digest, evenly, leaked
from bsa_core.policy import Policy
from bsa_core.profiles import Profile, Training
from bsa_core.progress import duration, report

# torch, transformers and peft are imported where something is computed: reading records takes none of them.


@dataclass(frozen=True)
class SecretChoice:
    """Which secret prompt: its kind, length in tokens and the seed it is drawn with."""

    kind: str
    length: int
    seed: int


@dataclass(frozen=True)
class Run:
    """Everything that can change the outcome of one fine-tuning and its evaluation, but the rows themselves.

    secret: None where no request is ever served with a secret. With one, the run is evaluated both without and
        with it in front of the system prompt (conditions "plain" and "secret"), whether or not it was trained on.
    training: None where nothing is trained (no attack, no defense: the initial aligned model).
    """

    profile: str
    profile_digest: str
    weights: str
    n_attack: int
    defense: str
    n_defense: int
    selection: str
    secret: SecretChoice | None
    seed: int
    training: Training | None

    @property
    def label(self) -> str:
        """For people: the start of the record's file name."""
        if self.training is None:
            return f"initial-seed{self.seed}"
        return f"{self.defense}-a{self.n_attack}-d{self.n_defense}-e{self.training.epochs}-seed{self.seed}"


def _number(name: str, value, expected: str, low: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or (low is not None and value < low):
        raise ValueError(f"{name} is {value!r}; expected {expected}")


def describe(
    profile: Profile,
    defense: str = "none",
    n_attack: int = 100,
    n_defense: int = 11,
    seed: int = 0,
    pressure: str = "",
    secret_length: int | None = None,
    secret_seed: int | None = None,
    selection: str = "category-wise",
    **training,
) -> Run:
    """The run of one arm under one profile.

    pressure: a named set of training overrides of the profile; `training`: further overrides by field name.
    secret_length: tokens; None takes the profile's length for defenses that serve a secret and for the initial model
        (its control), and no secret for the others; 0 means none. secret_seed: None means the run's seed.
    Raises ValueError for an unknown defense, pressure or training field and for values out of range.
    """
    served = defenses.get(defense).serves_secret
    changes = {**(profile.pressured(pressure) if pressure else {}), **training}
    settings = profiles.override(profile.training, changes)
    _number("n_attack", n_attack, "a number of examples", 0)
    _number("n_defense", n_defense, "a number of examples", 0)
    _number("seed", seed, "an integer")
    _number("secret_seed", seed if secret_seed is None else secret_seed, "an integer")
    _number("secret_length", 0 if secret_length is None else secret_length, "a number of tokens", 0)
    if selection not in defenses.SELECTIONS:
        raise ValueError(f"selection is {selection!r}; expected one of {', '.join(defenses.SELECTIONS)}")
    n_defense = 0 if defense == "none" else n_defense
    trained = n_attack > 0 or n_defense > 0
    if secret_length is None:
        secret_length = profile.secret.length if served or not trained else 0
    if served and secret_length == 0:
        raise ValueError(f"defense {defense!r} serves a secret prompt; secret_length must not be 0")
    if secret_length:
        replace(profile.secret, length=secret_length)  # checks the range
    secret = SecretChoice(profile.secret.kind, secret_length, seed if secret_seed is None else secret_seed)
    return Run(
        profile=profile.name,
        profile_digest=profile.digest,
        weights=weights.weights_id(profile.model),
        n_attack=n_attack,
        defense=defense,
        n_defense=n_defense,
        selection=selection,
        secret=secret if secret_length else None,
        seed=seed,
        training=settings if trained else None,
    )


HEADLINE = ("none", "safety-data", "bsa", "balanced-bsa")


def headline(profile: Profile, seeds: list[int], pressures: list[str]) -> list[Run]:
    """The arms of the main table: the initial model, and every defense under every pressure (100 attack examples)."""
    return [describe(profile, n_attack=0, seed=seed) for seed in seeds] + [
        describe(profile, defense, seed=seed, pressure=pressure)
        for seed in seeds
        for defense in HEADLINE
        for pressure in pressures
    ]


@dataclass(frozen=True)
class Rows:
    """The rows of one run: what it trains on and what it is evaluated on."""

    training: list[Example]
    restricted: list[Example]
    benign: list[Example]


def rows_of(run: Run, profile: Profile, of: Policy) -> Rows:
    """Training and evaluated rows. A defense's reminder stands in front of the system prompt of evaluated rows."""
    reminder = defenses.get(run.defense).reminder

    def served(rows: tuple[Example, ...], n: int) -> list[Example]:
        return [replace(row, system=f"{reminder} {row.system}".strip()) for row in evenly(rows, n)]

    return Rows(
        training=defenses.training_set(of, run.n_attack, run.defense, run.n_defense, run.selection, run.seed),
        restricted=served(of.restricted, profile.evaluation.restricted),
        benign=served(of.benign, profile.evaluation.benign),
    )


def key_of(run: Run, rows: Rows) -> str:
    """16 hex digits over the run, its rows and the record schema: the same key means the same outcome."""
    content = [records.SCHEMA, asdict(run), digest(rows.training), digest(rows.restricted), digest(rows.benign)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _shared_training(run: Run) -> Run:
    """The same for all runs that one training serves."""
    return replace(run, training=replace(run.training, epochs=1)) if run.training else run


def execute(runs: list[Run], profile: Profile) -> list[dict]:
    """The records of the runs, in their order; computes those that are missing and prints one line for each.

    Raises ValueError when a run was described under another profile than the one given.
    """
    for run in runs:
        if (run.profile, run.profile_digest) != (profile.name, profile.digest):
            raise ValueError(f"run {run.label!r} was described under another profile than {profile.name!r} as given")
    of = policy.load(profile.policy)
    wanted = list(dict.fromkeys(runs))
    rows = {run: rows_of(run, profile, of) for run in wanted}
    keys = {run: key_of(run, rows[run]) for run in wanted}
    found = {run: record for run in wanted if (record := records.find(profile.name, run.label, keys[run]))}
    missing = [run for run in wanted if run not in found]
    started, done = time.perf_counter(), 0
    waiting, busy = deque(_groups(missing)), 0
    while waiting:
        group = waiting.popleft()
        lock = paths.RESULTS / profile.name / ".locks" / f"{key_of(_shared_training(group[0]), rows[group[0]])}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            # another notebook may be computing the same runs: do others first, and wait only when all are taken
            held = FileLock(lock).acquire(timeout=0 if busy <= len(waiting) else -1)
        except Timeout:
            waiting.append(group)
            busy += 1
            continue
        busy = 0
        with held:
            for run in group:
                if record := records.find(profile.name, run.label, keys[run]):
                    found[run] = record
            for run, record, said in _compute([run for run in group if run not in found], rows, profile, of):
                found[run] = {"schema": records.SCHEMA, "key": keys[run], "label": run.label, **record}
                records.write(found[run], said if of.harmless else None)
        done += len(group)
        left = (time.perf_counter() - started) / done * (len(missing) - done)
        for run in group:
            report(f"{_line(found[run])} | {done} of {len(missing)} runs, about {duration(left)} left")
    return [found[run] for run in runs]


def _groups(runs: list[Run]) -> list[list[Run]]:
    groups: dict[Run, list[Run]] = {}
    for run in runs:
        groups.setdefault(_shared_training(run), []).append(run)
    return list(groups.values())


def _line(record: dict) -> str:
    conditions = record["metrics"].items()
    return f"{record['run']['profile']} {record['label']}: " + "; ".join(
        f"{condition} ASR {m['asr']['value']:.3f}, over-refusal {m['over_refusal']['value']:.3f}"
        for condition, m in conditions
    )


def _compute(group: list[Run], rows: dict[Run, Rows], profile: Profile, of: Policy) -> Iterator[tuple[Run, dict, list]]:
    """Train once for the whole group, evaluate each run when its number of epochs is reached."""
    if not group:
        return
    from bsa_core import chat, finetune, models, secret_prompt

    loaded = models.load(profile)
    first, longest = group[0], max(group, key=lambda run: run.training.epochs if run.training else 0)
    secret = first.secret and secret_prompt.generate(loaded.tokenizer, first.secret.length, first.secret.seed)
    if first.training is None:
        for run in group:
            yield (run, *_evaluated(run, rows[run], loaded, profile, of, secret, None))
        return
    encoded = [
        chat.encode(loaded.tokenizer, row, secret.text if secret else "", profile.chat, first.training.max_tokens)
        for row in rows[first].training
    ]
    for row, ids in zip(rows[first].training, encoded, strict=True):
        if row.secret and not secret_prompt.contained(secret, ids.ids):
            raise ValueError(f"the chat template changes the token ids of the secret prompt in {row.user!r}")
    adapted = finetune.add_lora(loaded.model, first.training, first.seed)
    try:
        for progress in finetune.finetune(adapted, encoded, longest.training, first.seed):
            for run in group:
                if run.training.epochs == progress.epoch:
                    with_adapter = replace(loaded, model=adapted)
                    yield (run, *_evaluated(run, rows[run], with_adapter, profile, of, secret, progress))
    finally:
        adapted.unload()  # the base model as it was, for the next group


def _evaluated(run: Run, rows: Rows, loaded, profile: Profile, of: Policy, secret, progress) -> tuple[dict, list[dict]]:
    """The record of a run, without its key, and the answers it rests on."""
    from bsa_core import evaluate

    started = time.perf_counter()
    requests = rows.restricted + rows.benign
    marks, said = {}, []
    for condition, text in {"plain": "", **({"secret": secret.text} if secret else {})}.items():
        answers = evaluate.answers(loaded, profile, requests, text)
        marks[condition] = evaluate.outcomes(of, rows.restricted, rows.benign, answers)
        if correct := evaluate.knowledge(loaded, profile, of, text):
            marks[condition]["knowledge"] = correct
        said += [
            {"condition": condition, "kind": row.kind, "category": row.category, "user": row.user, "answer": answer}
            for row, answer in zip(requests, answers, strict=True)
        ]
    record = {
        "run": json.loads(json.dumps(asdict(run))),
        "deployed": "secret" if defenses.get(run.defense).serves_secret else "plain",
        "data": {
            "n_train": len(rows.training),
            "train_digest": digest(rows.training),
            "restricted_digest": digest(rows.restricted),
            "benign_digest": digest(rows.benign),
            "leaked": len(leaked(rows.training, requests)),
            "secret_digest": secret.digest if secret else None,
        },
        "training": {
            "loss": list(progress.losses) if progress else [],
            "tokens": progress.tokens if progress else 0,
            "answer_tokens": progress.answer_tokens if progress else 0,
        },
        "outcomes": marks,
        "metrics": {c: evaluate.metrics(m, of, rows.restricted, rows.benign) for c, m in marks.items()},
        "items": {"restricted_seen": "".join("01"[of.seen(row)] for row in rows.restricted)},
        "cost": {
            "train_seconds": progress.seconds if progress else 0.0,
            "evaluate_seconds": time.perf_counter() - started,
            "peak_memory_mb": records.peak_memory_mb(),
        },
        "environment": records.provenance(str(loaded.model.device), profile.compute.dtype, profile.compute.threads),
    }
    return record, said
