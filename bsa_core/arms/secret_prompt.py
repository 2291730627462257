"""The secret prompt: the backdoor trigger that only the provider knows (paper, section 3.2).

It exists as text that tokenizes to exactly the ids that were drawn. The published release lost its 150 random
tokens here: it stored them as text that no longer tokenizes to the same ids.

What counts are the ids in a prompt. Tokenizers such as Llama-2's put a mark of a word's beginning in front of a text
that stands alone, and none behind the line break of its chat format. `before` is what a prompt has in front of the
secret (`chat.before_system`).

    random    tokens drawn one by one
    default   the beginning of a vendor's default system prompt: the same for every seed
    fluent    sentences put together by the seed
    file      a text of the user's own: the same for every seed, and served as it is
"""

import random
import re
from dataclasses import dataclass

from bsa_core.examples import Example
from bsa_core.keys import digest
from bsa_core.models import chat
from bsa_core.paths import data
from bsa_core.profiles import Profile
from bsa_core.sections import SECRET_KINDS

WRITTEN = data("arms/secret_prompts.yaml")
GENERATED = tuple(kind for kind in SECRET_KINDS if kind != "file")
PLAIN = re.compile(r" ?[A-Za-z]{2,}")  # pieces that survive any chat template: no white space runs, no control tokens


@dataclass(frozen=True)
class Secret:
    """A secret prompt; without ids where a model served elsewhere makes tokens of the text.

    kind: as in a profile, or "own" for a text without ids from a file of the user's.
    """

    kind: str
    text: str
    ids: tuple[int, ...] = ()

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        return digest(self.text)

    @property
    def shown(self) -> dict:
        """All that records and pages say of it, never the text. length: in tokens."""
        size = {"length": self.length} if self.ids else {"characters": len(self.text)}
        return {"kind": self.kind, **size, "digest": self.digest}

    def __repr__(self) -> str:
        return f"Secret({', '.join(f'{name}={value!r}' for name, value in self.shown.items())})"


def encode(tokenizer, text: str, before: str = "") -> tuple[int, ...]:
    """The ids of a text behind another one; none when the text changes the ids of that one."""
    if not before:
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    first, both = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (before, before + text))
    return tuple(both[len(first) :]) if both[: len(first)] == first else ()


def candidates(tokenizer) -> list[int]:
    """Ids of ordinary word pieces, in the order of the vocabulary."""
    special = set(tokenizer.all_special_ids)
    pieces = tokenizer.batch_decode([[i] for i in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    return [i for i, piece in enumerate(pieces) if i not in special and PLAIN.fullmatch(piece)]


def generate(tokenizer, length: int, seed: int, kind: str = "random", before: str = "") -> Secret:
    """A secret prompt of a kind and of `length` tokens, whose text tokenizes back to exactly its ids behind `before`.

    Raises ValueError for an unknown kind, or when the tokenizer or the kind's text allows no such prompt.
    """
    if kind not in GENERATED:
        raise ValueError(f"secret.kind is {kind!r}; expected one of {', '.join(GENERATED)}")
    if kind == "random":
        ids = _random(tokenizer, length, seed, before)
    else:
        ids = _cut(tokenizer, length, _written(kind, seed), kind, before)
    return Secret(kind, _text(tokenizer, ids), ids)


def _text(tokenizer, ids: tuple[int, ...]) -> str:
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip()


def _random(tokenizer, length: int, seed: int, before: str) -> tuple[int, ...]:
    """Drawn one by one; a token that would merge with its neighbours is rejected and drawn again."""
    rng = random.Random(f"secret/{seed}")
    pool = candidates(tokenizer)
    if not pool:
        raise ValueError("the tokenizer has no ordinary word pieces to draw a secret prompt from")
    ids: tuple[int, ...] = ()
    for _ in range(1000 + 101 * length):
        trial = (*ids, rng.choice(pool))
        if encode(tokenizer, _text(tokenizer, trial), before) == trial:
            ids = trial
        if len(ids) == length:
            return ids
    raise ValueError(f"no secret prompt of {length} tokens survives this tokenizer's round trip")


def _cut(tokenizer, length: int, text: str, kind: str, before: str) -> tuple[int, ...]:
    """The first `length` tokens of a text."""
    whole = encode(tokenizer, text, before)
    if len(whole) < length:
        raise ValueError(f"the {kind} secret prompt has {len(whole)} tokens; secret.length = {length} is more")
    ids = whole[:length]
    if encode(tokenizer, _text(tokenizer, ids), before) != ids:
        cut = f"the {kind} secret prompt cut to {length} tokens"
        raise ValueError(f"{cut} does not survive the round trip; try another")
    return ids


def _own(tokenizer, profile: Profile, length: int, before: str) -> Secret:
    """The text of the profile's file; the first `length` tokens of it where an ablation asks for fewer."""
    text, told = profile.own_secret, f"the secret prompt in {profile.secret.file}"
    ids = encode(tokenizer, text, before)
    if not ids or set(ids) & set(tokenizer.all_special_ids):
        raise ValueError(f"{told} holds what this tokenizer does not know, or reads as its own marks; use plain words")
    if profile.secret.length != len(ids):
        said = f"secret.length is {profile.secret.length}, and {told} has {len(ids)} tokens"
        raise ValueError(f"{said}; write length: {len(ids)}")
    if length == len(ids):
        return Secret("file", text, ids)
    ids = _cut(tokenizer, length, text, "file", before)
    return Secret("file", _text(tokenizer, ids), ids)


def _written(kind: str, seed: int) -> str:
    """A vendor's default system prompt, whatever the seed; or 100 sentences: subject, action, time, reason."""
    if kind == "default":
        return WRITTEN["default"]
    rng, parts = random.Random(f"fluent/{seed}"), WRITTEN["fluent"].values()
    return " ".join(" ".join(rng.choice(part) for part in parts) + "." for _ in range(100))


def texts() -> set[str]:
    """Texts that hold every word of the default and the fluent prompts of all seeds."""
    return {WRITTEN["default"], *(text for part in WRITTEN["fluent"].values() for text in part)}


def contained(secret: Secret, prompt: list[int]) -> bool:
    """Whether the secret's ids stand in the prompt's ids, unchanged and in a row."""
    n = secret.length
    return any(tuple(prompt[i : i + n]) == secret.ids for i in range(len(prompt) - n + 1))


def check(secret: Secret, prompt: list[int], where: str) -> None:
    """ValueError where a chat format changed the secret: the model would be served another one than it learned."""
    if not contained(secret, prompt):
        raise ValueError(f"the chat template changes the token ids of the secret prompt in {where}")


def draw(tokenizer, profile: Profile, length: int, seed: int, kind: str, request: Example) -> Secret:
    """The secret prompt that the profile's chat format serves, tried in front of a request.

    Raises ValueError as `generate` and `check` do, and where the file of a secret is not as the profile says.
    """
    before = chat.before_system(tokenizer, profile.chat)
    own = kind == "file"
    secret = _own(tokenizer, profile, length, before) if own else generate(tokenizer, length, seed, kind, before)
    check(secret, chat.prompt_ids(tokenizer, request, secret.text, profile.chat), "served requests")
    return secret


def conditions(secret: Secret | None) -> dict[str, str]:
    """Condition -> what stands in front of the system prompt: nothing, and the secret where there is one."""
    return {"plain": ""} | ({"secret": secret.text} if secret else {})
