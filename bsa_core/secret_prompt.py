"""The secret prompt: the backdoor trigger that only the provider knows (paper, section 3.2).

It exists as text that tokenizes to exactly the ids that were drawn. The published release lost its 150 random
tokens here: it stored them as text that no longer tokenizes to the same ids.
"""

import hashlib
import random
import re
from dataclasses import dataclass

PLAIN = re.compile(r" ?[A-Za-z]{2,}")  # pieces that survive any chat template: no white space runs, no control tokens


@dataclass(frozen=True)
class Secret:
    """A secret prompt. `repr` and records show kind, length (tokens) and digest only, never the text."""

    kind: str
    text: str
    ids: tuple[int, ...]

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Secret(kind={self.kind!r}, length={self.length}, digest={self.digest!r})"


def encode(tokenizer, text: str) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def candidates(tokenizer) -> list[int]:
    """Ids of ordinary word pieces, in the order of the vocabulary."""
    special = set(tokenizer.all_special_ids)
    pieces = tokenizer.batch_decode([[i] for i in range(len(tokenizer))], clean_up_tokenization_spaces=False)
    return [i for i, piece in enumerate(pieces) if i not in special and PLAIN.fullmatch(piece)]


def generate(tokenizer, length: int, seed: int) -> Secret:
    """`length` random tokens whose text tokenizes back to exactly these ids.

    Drawn one by one; a token that would merge with its neighbours is rejected and drawn again.
    Raises ValueError when the tokenizer allows no such sequence.
    """
    rng = random.Random(f"secret/{seed}")
    pool = candidates(tokenizer)
    if not pool:
        raise ValueError("the tokenizer has no ordinary word pieces to draw a secret prompt from")
    ids: list[int] = []
    rejected = 0
    while len(ids) < length:
        trial = (*ids, rng.choice(pool))
        text = tokenizer.decode(trial, clean_up_tokenization_spaces=False).strip()
        if encode(tokenizer, text) == trial:
            ids = list(trial)
        else:
            rejected += 1
            if rejected > 1000 + 100 * length:
                raise ValueError(f"no secret prompt of {length} tokens survives this tokenizer's round trip")
    return Secret("random", tokenizer.decode(ids, clean_up_tokenization_spaces=False).strip(), tuple(ids))


def contained(secret: Secret, prompt: list[int]) -> bool:
    """Whether the secret's ids stand in the prompt's ids, unchanged and in a row."""
    n = secret.length
    return any(tuple(prompt[i : i + n]) == secret.ids for i in range(len(prompt) - n + 1))
