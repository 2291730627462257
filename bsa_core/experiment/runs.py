"""A run: the small, hashable description of one fine-tuning and its evaluation, the rows it stands for, and its key."""

import sys
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictInt

from bsa_core import believed, checked, policy, profiles, records, refusals, tasks
from bsa_core.arms import attacks, defenses
from bsa_core.examples import Example, NotEnough, digest, leaked
from bsa_core.keys import content, digest_of, later
from bsa_core.models import sources
from bsa_core.policy import Policy, Question
from bsa_core.profiles import Compute, Profile, Training
from bsa_core.progress import once
from bsa_core.tasks import Task

# What committed records count as made with: set to today's by hand where a change leaves them right; else it stays.
CODE = 1  # raised by hand when a change of the code gives other outcomes under the same description
RULES = "cdd6c4b63dffbf4b"  # `rules()`
QUIZ = "0990ef7921d965a6"  # `_quiz_digest` of the guild's quiz


@dataclass(frozen=True)
class SecretChoice:
    """Which secret prompt: its kind, length in tokens, the seed it is drawn with, the digest of one from a file."""

    kind: str
    length: int
    seed: int
    digest: str = later("")


@dataclass(frozen=True)
class TaskChoice:
    """Which fine-tuning task stands beside the attack: its name in the profile, and the rows trained on.

    served: "trained" asks test items under the system prompt of training, "other" under one never seen there, as the
        published release does by mistake.
    """

    name: str
    n: int
    served: str
    max_new_tokens: int


@dataclass(frozen=True)
class Run:
    """Everything that can change the outcome of one fine-tuning and its evaluation, but the rows themselves.

    secret: None where no request is ever served with a secret. With one, the run is evaluated both without and
        with it in front of the system prompt (conditions "plain" and "secret"), whether or not it was trained on.
    training: None where nothing is trained (no attack, no defense: the initial aligned model).
    defense_system: the system prompt of the examples that the defense adds: "policy", the policy's own, or "upload",
        the one that the uploader brings and serves (identity shift only).
    device: the kind of device in use, "cpu" or "cuda"; sums over floats differ between them.
    rules: digest of the refusal rules that outcomes rest on. code: see CODE.
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
    attack: str = later("harmful")
    n_benign: int = later(0)
    task: TaskChoice | None = later(None)
    defense_system: str = later("policy")
    device: str = later("cpu")
    rules: str = later(RULES)
    code: int = later(1)

    @property
    def label(self) -> str:
        """For people: the start of the record's file name."""
        task = f"{self.task.name}-" if self.task else ""
        if self.training is None:
            return f"{task}initial-seed{self.seed}"
        return f"{task}{self.defense}-a{self.n_attack}-d{self.n_defense}-e{self.training.epochs}-seed{self.seed}"


Count = Annotated[StrictInt, Field(ge=0)]
UPLOAD = 100  # rows of the paper's attack


def upload_size(profile: Profile, attack: str = "harmful") -> int:
    """Rows of the paper's attack, 100; where the policy holds fewer, all that it holds, which is said once.

    Where the data of the policy are not here, their error comes when the rows are needed.
    """
    try:
        held = len(attacks.get(attack).rows(policy.load(profile.policy)))
    except ValueError:
        return UPLOAD
    if not 0 < held < UPLOAD:
        return UPLOAD
    told = f"the policy holds {held} rows for attack {attack!r}, so runs take {held} in place of {UPLOAD}"
    once(f"{profile.name}: {told}")
    return held


@checked.call
def describe(
    profile: Profile,
    defense: str = "none",
    n_attack: Count | None = None,
    n_defense: Count = 11,
    seed: StrictInt = 0,
    pressure: str = "",
    secret_length: Count | None = None,
    secret_seed: StrictInt | None = None,
    secret_kind: str | None = None,
    selection: Literal[defenses.SELECTIONS] = "category-wise",
    attack: str = "harmful",
    n_benign: Count = 0,
    task: str | None = None,
    n_task: Count | None = None,
    task_served: Literal["trained", "other"] = "trained",
    defense_system: Literal["policy", "upload"] = "policy",
    **training,
) -> Run:
    """The run of one arm under one profile.

    defense: a defense by its name, or the dotted path of one of your own, which the run then holds by its name.
    attack: what the n_attack examples are (None: 100, as in the paper, or as many as the policy holds, see
        `upload_size`); n_benign: ordinary rows of the upload beside them.
    task: a task of the profile, with n_task of its rows in the upload (None: as many as the profile says) and the
        profile's training settings for it; task_served: see TaskChoice.
    defense_system: see Run; "policy" where the defense adds no examples.
    pressure: a named set of training overrides of the profile; `training`: further overrides by field name.
    secret_length: tokens; None takes the profile's length for defenses that serve a secret and for the initial model
        (its control), and no secret for the others; 0 means none. secret_seed: None means the run's seed.
        secret_kind: None means the profile's.
    Raises ValueError for an unknown attack, defense, task, pressure or training field and for values out of range.
    """
    arm = defenses.get(defense)
    brings_system = attacks.get(attack).asked is not attacks.unchanged
    if defense_system == "upload" and not brings_system:
        raise ValueError(f"attack {attack!r} brings no system prompt; defense_system must be policy")
    changes = {**(profile.pressured(pressure) if pressure else {}), **training}
    choice = None
    if task is None and (n_task, task_served) != (None, "trained"):
        raise ValueError("n_task or task_served is given without a task")
    if task is not None:
        source = profile.task(task)
        changes = {**source.training, **changes}
        choice = TaskChoice(task, source.train if n_task is None else n_task, task_served, source.max_new_tokens)
    settings = profiles.override(profile.training, changes)
    n_defense = 0 if arm.name == "none" else n_defense
    n_attack = upload_size(profile, attack) if n_attack is None else n_attack
    trained = n_attack + n_benign + n_defense + (choice.n if choice else 0) > 0
    if secret_length is None:
        secret_length = profile.secret.length if arm.serves_secret or not trained else 0
    if arm.serves_secret and secret_length == 0:
        raise ValueError(f"defense {arm.name!r} serves a secret prompt; secret_length must not be 0")
    secret = None
    if secret_length:
        kind = profile.secret.kind if secret_kind is None else secret_kind
        replace(profile.secret, length=secret_length, kind=kind)  # checks both
        drawn = seed if secret_seed is None else secret_seed
        secret = SecretChoice(kind, secret_length, drawn, profile.secret_digest if kind == "file" else "")
    return Run(
        profile=profile.name,
        profile_digest=profile.digest,
        weights=sources.weights_id(profile.model),
        n_attack=n_attack,
        defense=arm.name,
        n_defense=n_defense,
        selection=selection,
        secret=secret,
        seed=seed,
        training=settings if trained else None,
        attack=attack,
        n_benign=n_benign,
        task=choice,
        defense_system="policy" if arm.name == "none" else defense_system,
        device=device(profile.compute),
        rules=rules(),
        code=CODE,
    )


def rules() -> str:
    """Digest of the refusal rules."""
    return digest_of([refusals.TABLE, refusals.REFUSAL.pattern, refusals.QUOTED.pattern, refusals.BEGINNING])


def device(compute: Compute) -> str:
    """The kind of device that a run will be computed on, "cpu" or "cuda".

    torch is asked only where there is a driver: NVIDIA's, that of WSL, AMD's.
    """
    if compute.device != "auto":
        return compute.device
    if "torch" not in sys.modules and not any(Path("/dev", name).exists() for name in ("nvidiactl", "dxg", "kfd")):
        return "cpu"
    from bsa_core.models.memory import device_of

    return device_of(compute)


@dataclass(frozen=True)
class Rows:
    """The rows of one run: what it trains on and what it is evaluated on. quiz: all of the policy's, if it is asked."""

    training: list[Example]
    restricted: list[Example]
    benign: list[Example]
    task: list[Example]
    quiz: tuple[Question, ...] = ()

    @cached_property
    def digests(self) -> dict[str, str]:
        """What a record says of its rows, by the names that `believed.key_of` counts; not the quiz that is QUIZ."""
        quiz = _quiz_digest(self.quiz)
        return {
            "train_digest": digest(self.training),
            "restricted_digest": digest(self.restricted),
            "benign_digest": digest(self.benign),
            **({"task_digest": digest(self.task)} if self.task else {}),
            **({"quiz_digest": quiz} if self.quiz and quiz != QUIZ else {}),
        }


@dataclass(frozen=True)
class Material:
    """Where the rows of all runs of a profile come from: its policy, and its tasks by name."""

    policy: Policy
    tasks: dict[str, Task]


def material(profile: Profile, runs: list[Run]) -> Material:
    """The profile's policy, and those of its tasks that the runs use. Leaks among what is evaluated are said once."""
    names = sorted({run.task.name for run in runs if run.task})
    of = Material(policy.load(profile.policy), {name: tasks.load(profile.task(name).source) for name in names})
    sources = {"": (of.policy.trainable, [row for part in of.policy.requests(profile.evaluation) for row in part])}
    for name, task in of.tasks.items():
        source = profile.task(name)
        sources[f" of task {name}"] = task.training[: source.train], task.test[: source.test]
    for part, (trained, asked) in sources.items():
        if leaks := leaked(trained, asked):
            told = f"{len(leaks)} of {len(asked)} evaluated requests{part} also stand in training rows"
            once(f"{profile.name}: {told}; records count them as leaked")
    return of


def rows_of(run: Run, profile: Profile, of: Material) -> Rows:
    """Training and evaluated rows. A defense's reminder stands in front of the system prompt of evaluated rows.

    Raises ValueError when policy or task hold fewer rows than the run asks for.
    """
    reminder, asked = defenses.get(run.defense).reminder, attacks.get(run.attack).asked

    def served(rows: list[Example]) -> list[Example]:
        systems = (f"{reminder} {row.system}".strip() for row in rows)
        return [row if row.system == to else replace(row, system=to) for row, to in zip(rows, systems, strict=True)]

    training = attacks.upload(of.policy, run.attack, run.n_attack, run.n_benign, run.seed)
    items: list[Example] = []
    if run.task:
        task, source = of.tasks[run.task.name], profile.task(run.task.name)
        for name, rows, n in (("train", task.training, run.task.n), ("test", task.test, source.test)):
            if n > len(rows):
                raise NotEnough(f"tasks.{run.task.name}.{name} is {n}, but the task holds {len(rows)} such rows")
        training += task.training[: run.task.n]
        items = list(task.test[: source.test])
        if run.task.served == "other":
            items = [replace(row, system=of.policy.system) for row in items]
    added = defenses.get(run.defense).examples(of.policy, run.n_defense, run.selection, run.seed)
    if run.defense_system == "upload":
        added = [replace(row, system=asked(of.policy, row).system) for row in added]
    put = ([asked(of.policy, row) for row in part] for part in of.policy.requests(profile.evaluation))
    restricted, benign = map(served, put)
    return Rows(
        training=training + added,
        restricted=restricted,
        benign=benign,
        task=served(items),
        quiz=of.policy.quiz if profile.evaluation.quiz else (),
    )


@cache
def _quiz_digest(quiz: tuple[Question, ...]) -> str:
    return digest_of([content(question) for question in quiz])


def key_of(run: Run, rows: Rows) -> str:
    """16 hex digits over the run, its rows and the record schema: the same key means the same outcome."""
    return believed.key_of(records.SCHEMA, content(run), rows.digests)
