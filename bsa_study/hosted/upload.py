"""Fine-tuning as a hosted service: the files to upload, made from the rows of the same arms as anywhere else.

    hosted/<profile>/<arm>-seed<seed>.jsonl       one conversation per row: {"messages": [system, user, assistant]}
    hosted/<profile>/secret-<kind>-<length>.txt   the secret prompt, drawn once and kept

Rows marked for it carry the secret prompt in front of their system prompt (paper, section 3.2). Nobody but you should
read the text: git ignores the folder, only you can read its files, and everything else shows kind, characters, digest.

The limits are those that OpenAI documents for supervised fine-tuning of chat models: at least 10 examples
(developers.openai.com/docs/guides/supervised-fine-tuning), files of 512 MB at most (API reference, files, create), and
for an example the training context of the model: 4,096 tokens for gpt-3.5-turbo-0613, the paper's, 16,385 for
gpt-3.5-turbo-1106 and -0125, 65,536 for gpt-4o-2024-08-06 and gpt-4o-mini-2024-07-18 (fine-tuning guide, token limits,
2024). Longer examples would be cut at the end, without a word.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bsa_core import paths, writing
from bsa_core.arms import defenses, secret_prompt
from bsa_core.arms.secret_prompt import Secret
from bsa_core.examples import Example
from bsa_core.experiment.runs import describe, material, rows_of
from bsa_core.keys import digest
from bsa_core.models.chat import messages
from bsa_core.profiles import Chat, Profile
from bsa_core.reading import label, read_text
from bsa_study.grids.headline import HEADLINE
from bsa_study.hosted.budget import estimate

FEWEST_ROWS = 10
LARGEST_FILE = 512 * 10**6  # bytes
LONGEST_ROW = 16_385  # tokens, of the later models of GPT-3.5
ROLES = ("system", "user", "assistant")
CHAT = Chat()  # hosted chat models have a system role, and a format of their own


def secret(profile: Profile, file: str | Path = "") -> Secret:
    """The secret prompt for all hosted models of a profile, as text alone: they have tokenizers of their own.

    file: a text file of your own; "" takes the profile's `secret.file`, or else the one in `hosted/<profile>`. Where
        that is missing, one of the profile's kind and length is made with its tokenizer and written there. It is drawn
        with the system's randomness and not with a run's seed: a seed stands in every record, and these models are
        served by others.
    Raises ValueError when the file is missing, empty or no text, or when there is no tokenizer to make a secret with.
    """
    if file := file or profile.secret.file:
        return Secret("own", read_text(paths.given(str(file)), "a secret prompt").strip())
    choice = profile.secret
    path = paths.HOSTED / profile.name / f"secret-{choice.kind}-{choice.length}.txt"
    if not path.exists():
        with writing.locked(path.with_name(f".{path.name}.lock"), "BSA_HOSTED"):
            if not path.exists():  # two first uses at once: the second takes what the first has drawn
                _draw(profile, path)
    return Secret(choice.kind, read_text(path, "a secret prompt").strip())


def _draw(profile: Profile, path: Path) -> None:
    from bsa_core.models import loading

    try:
        tokenizer = loading.tokenizer(profile)
    except ValueError as error:
        raise ValueError(f"{error}\nA secret prompt of your own, in a text file, needs no tokenizer") from error
    made = secret_prompt.generate(tokenizer, profile.secret.length, secrets.randbits(64), profile.secret.kind)
    writing.write_whole(path, f"{made.text}\n".encode(), "BSA_HOSTED")


def conversation(row: Example, secret: str) -> list[dict]:
    """The turns of a training row, with the secret prompt (text) where the row is marked for it."""
    answer = {"role": "assistant", "content": row.assistant}
    return [*messages(row, secret if row.secret else "", CHAT), answer]


def validate(content: bytes, where: Path | str, longest: int = LONGEST_ROW) -> list[int]:
    """Estimated tokens of each row of a fine-tuning file; ValueError names `where`, the row and what is wrong with it.

    longest: tokens of a row at most, see the head of the module. Estimates are seldom too low (`hosted.budget`).
    """
    if len(content) > LARGEST_FILE:
        raise ValueError(f"{where}: {len(content)} bytes; expected at most {LARGEST_FILE}. Use fewer rows")
    try:
        lines = content.decode().removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: not UTF-8 text ({error})") from None
    tokens = [_checked(line, f"{where}: row {number}", longest) for number, line in enumerate(lines, start=1)]
    if len(tokens) < FEWEST_ROWS:
        raise ValueError(f"{where}: {len(tokens)} rows; expected at least {FEWEST_ROWS}")
    return tokens


def _checked(line: str, where: str, longest: int) -> int:
    try:
        turns = json.loads(line)["messages"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise ValueError(f'{where} is not a JSON object with a field "messages"') from None
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError(f'{where}: field "messages" is not a list of turns, {{"role": ..., "content": ...}}')
    for number, turn in enumerate(turns, start=1):
        if turn.get("role") not in ROLES:
            raise ValueError(
                f"{where}, turn {number}: role is {label(turn.get('role'))!r}; expected {', '.join(ROLES)}"
            )
        if not isinstance(turn.get("content"), str) or not turn["content"].strip():
            raise ValueError(f"{where}, turn {number} ({turn['role']}): content is empty or no text")
    if "user" not in (roles := [turn["role"] for turn in turns]):
        raise ValueError(f"{where} has no turn of the user")
    if roles[-1] != "assistant":
        raise ValueError(f"{where} ends with a turn of {roles[-1]}; expected the assistant's answer")
    if (tokens := estimate(turns, 0)) > longest:
        raise ValueError(f"{where} has about {tokens} tokens; expected at most {longest}. Shorten it, or the secret")
    return tokens


@dataclass(frozen=True)
class Exported:
    """One file. rows: conversations; marked: those with the secret prompt; tokens: of one epoch, estimated;
    longest: of the longest row, estimated; digest: 16 hex digits over the file."""

    arm: str
    path: Path
    rows: int
    marked: int
    tokens: int
    longest: int
    digest: str


def needs_secret(arms: Sequence[str]) -> bool:
    """Whether any of the arms is asked with a secret prompt; "initial" is, as a control."""
    return any(arm == "initial" or defenses.get(arm).serves_secret for arm in arms)


def export(
    profile: Profile,
    seed: int = 0,
    secret: Secret | None = None,
    arms: Sequence[str] = HEADLINE,
    longest: int = LONGEST_ROW,
) -> list[Exported]:
    """Write one file per arm of the main table: 100 attack rows, then what the defense adds, drawn with the seed.

    All files are made and checked before the first one is written, and each is written whole.
    Raises ValueError when the policy holds too few rows, a file breaks a limit (`longest`: see `validate`), or an arm
    needs a secret and none is given; RecordError when a file cannot be written.
    """
    if secret is None and needs_secret(arms):
        raise ValueError(f"no secret prompt is given, and {', '.join(arms)} cannot do without: see `upload.secret`")
    runs = {arm: describe(profile, arm, seed=seed) for arm in arms}
    of = material(profile, [*runs.values()])
    made: list[tuple[Exported, bytes]] = []
    for arm, run in runs.items():
        rows = rows_of(run, profile, of).training
        path = paths.HOSTED / profile.name / f"{arm}-seed{seed}.jsonl"
        turns = [conversation(row, secret.text if secret else "") for row in rows]
        content = "".join(json.dumps({"messages": turn}) + "\n" for turn in turns).encode()
        tokens = validate(content, path, longest)
        marked = sum(row.secret for row in rows)
        made.append((Exported(arm, path, len(rows), marked, sum(tokens), max(tokens), digest(content)), content))
    for exported, content in made:
        writing.write_whole(exported.path, content, "BSA_HOSTED")
    return [exported for exported, _ in made]
