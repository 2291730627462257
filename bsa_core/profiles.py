"""A profile is one scale: the model, its chat format, how it is fine-tuned, decoded and evaluated, and on which policy.

One YAML file per scale lives in `profiles/`; a path to a file of your own does as well. Every field is checked before
anything is loaded, because YAML reads `1e-3` as text and a misspelt field would otherwise change nothing.
"""

import json
from dataclasses import replace
from pathlib import Path

from pydantic import StrictInt, StrictStr, TypeAdapter

from bsa_core import checked, keys, paths, reading
from bsa_core.checked import field, settings
from bsa_core.paths import PROFILES
from bsa_core.sections import (
    Benchmark,
    Chat,
    Compute,
    Decoding,
    Evaluation,
    Grid,
    ModelSource,
    Overrides,
    SecretPrompt,
    TaskSource,
    Training,
    named,
)

# fields that are no part of `Profile.digest`
ELSEWHERE = ("training", "pressures", "paper", "tasks", "utility", "defenses", "region", "task_region", "ablations")


@settings("")
class Profile:
    """One scale; the book's page on profiles has a table of all fields."""

    name: StrictStr = field("the name of the scale; its records go to `results/<name>`")
    model: ModelSource = field("where the aligned model comes from")
    policy: named(
        "`guild`, `files`, `published`, or the dotted path of a policy of your own, such as `my_package.my_policy`; "
        "further fields belong to the policy (`guild`: `seed`)"
    ) = field("where requests come from, such as {name: guild, seed: 0}")
    chat: Chat = field("the chat format", factory=Chat)
    secret: SecretPrompt = field("the secret prompt", factory=SecretPrompt)
    training: Training = field("how the model is fine-tuned", factory=Training)
    decoding: Decoding = field("how answers are decoded", factory=Decoding)
    evaluation: Evaluation = field("how many requests are evaluated", factory=Evaluation)
    compute: Compute = field("what a run is computed on", factory=Compute)
    pressures: dict[StrictStr, Overrides] = field(
        "named sets of `training` fields that replace those above. The book needs `light` and `heavy`, and `full` "
        "(method: full) where it compares full fine-tuning; `identity` where that attack has settings of its own",
        factory=dict,
    )
    paper: StrictStr = field(
        "the pressure with the paper's settings: its tables, sections and claims are measured at it", "light"
    )
    tasks: dict[StrictStr, TaskSource] = field("tasks of the mixed setting, by a name of your choice", factory=dict)
    utility: tuple[Benchmark, ...] = field(
        "capability benchmarks for the arms of the comparison, such as [{task: arc_challenge, shots: 5}]", ()
    )
    defenses: tuple[StrictStr, ...] = field(
        "defenses of your own, shown beside the paper's, by dotted paths such as [my_package.my_defense.REMINDER]", ()
    )
    region: Grid = field(
        "learning rates and epochs at which no defense and every defense are compared; empty: the scale has no region",
        factory=Grid,
    )
    task_region: Grid = field(
        "learning rates and epochs among which a task's settings are chosen; empty: they are those of `tasks`",
        factory=Grid,
    )
    ablations: dict[StrictStr, dict[StrictStr, tuple[StrictInt | StrictStr, ...]]] = field(
        "the sections of the ablations that are measured, each with the values of every arm, such as "
        "{secret_length: {bsa: [10, 150]}}; a section without arms is measured whole; empty: all of all sections",
        factory=dict,
    )

    def __post_init__(self):
        paths.named(self.name, "name")
        for name in self.tasks:
            paths.named(name, "the name of a task")
        if self.secret.file and self.secret.kind != "file":
            raise ValueError(f"secret.file is given, and secret.kind is {self.secret.kind!r}; write kind: file")
        names = [benchmark.name for benchmark in self.utility]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"utility lists {twice[0]!r} twice; expected one entry for each task")
        if self.paper not in self.pressures and self.paper != "light":
            known = ", ".join(self.pressures) or "none: add a `pressures` section"
            raise ValueError(
                f"paper is {self.paper!r}, which is no pressure of the profile; its pressures are: {known}"
            )

    def task(self, name: str) -> TaskSource:
        """One task of the mixed setting; ValueError when the profile has none of that name."""
        if name not in self.tasks:
            known = ", ".join(self.tasks) or "none: add a `tasks` section"
            raise ValueError(f"task {name!r} is unknown to profile {self.name!r}; its tasks are: {known}")
        return self.tasks[name]

    def pressured(self, name: str) -> dict:
        """The training overrides of one named pressure; ValueError when the profile has none of that name."""
        if name not in self.pressures:
            known = ", ".join(self.pressures) or "none: add a `pressures` section"
            raise ValueError(f"pressure {name!r} is unknown to profile {self.name!r}; its pressures are: {known}")
        return dict(self.pressures[name])

    def trained(self, pressure: str) -> Training:
        """The training settings of one named pressure; ValueError when the profile has none of that name."""
        return override(self.training, self.pressured(pressure))

    @property
    def own_secret(self) -> str:
        """The text of `secret.file`; ValueError when there is none. It enters no record."""
        return reading.read_text(paths.given(self.secret.file), "a secret prompt").strip()

    @property
    def secret_digest(self) -> str:
        """Of the text of `secret.file`, which tells runs apart; "" for a secret that follows from kind and seed."""
        return keys.digest(self.own_secret) if self.secret.kind == "file" else ""

    @property
    def digest(self) -> str:
        """16 hex digits over everything in the profile that can change a run's outcome.

        Training settings and tasks are part of each run, pressures are only names for some of the former, benchmarks
        have files of their own, a defense is named by its runs, and the rest says which runs there are. A secret in a
        file counts in each run, by its text.
        """
        said = {k: v for k, v in keys.content(self).items() if k not in ELSEWHERE}
        said["secret"].pop("file", None)
        return keys.digest_of(said)


def override(training: Training, changes: dict) -> Training:
    """Training settings with some of them replaced, checked like those of a file."""
    return replace(training, **changes)


def available() -> list[str]:
    """Names of the profiles that come with the project."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load(profile: str) -> Profile:
    """The profile of that name in `profiles/`, or of a path that ends in .yaml.

    Raises ValueError that names file and field when the profile is unknown, misspelt or out of range.
    """
    path = Path(profile).expanduser() if str(profile).endswith((".yaml", ".yml")) else PROFILES / f"{profile}.yaml"
    if not path.is_file():
        known = ", ".join(available())
        raise ValueError(f"profile {profile!r} is unknown: {path} does not exist; expected {known} or a .yaml file")
    said = reading.from_yaml(path, "a profile, as YAML")
    try:
        return checked.read(Profile, said)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def described(benchmark: Benchmark) -> dict:
    """What a file says of its benchmark. A task file of one's own counts by its content, not by where it lies."""
    said = keys.content(benchmark)
    if benchmark.own:
        path = paths.given(benchmark.task)
        if not path.is_file():
            raise ValueError(f"utility.task is {benchmark.task!r}, and {path} does not exist")
        said["task"] = f"{benchmark.name}:{keys.digest(path.read_bytes())}"
    return said


def schema() -> str:
    """The JSON Schema of a profile, which `profiles/profile.schema.json` holds: editors check a YAML file by it."""
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(Profile).json_schema()}
    return json.dumps(made, indent=1) + "\n"
