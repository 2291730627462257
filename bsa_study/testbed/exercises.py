"""Exercises in copying, quoting, looking up and filling in forms, for a model that is trained from scratch.

A pretrained model brings these skills along, and fine-tuning on a task builds on them; the embedded testbed model has
to learn them somewhere. They are skills, not tasks: words are drawn at random, and no row has the form of a task of the
mixed setting. In half of the rows the material (the form's values, the notes, the line) stands in the system prompt:
a chat model reads its system prompt, and one that never had a reason to may hardly learn a trigger that stands there.

    Repeat: bucket , winter felt                                             bucket , winter felt
    Quote: Brook kettle                                                      "Brook" "kettle"
    first is plum, second is tin kettle. Fill in: oak first by "second".     oak plum by "tin" "kettle"
    Notes: moss: two owls; rain: tin. What is rain?                          tin
    Line: moss two owls tin. Which word follows owls?                        tin
"""

import random
from collections.abc import Callable, Iterator

from bsa_core.examples import Example

SLOTS = ("first", "second", "third", "fourth")
WORDING = ("Repeat:", "Quote:", "Fill in:", "is", "Notes:", "What is", "Line:", "Which word follows", *SLOTS)
QUOTED = 0.15  # share of the words that stand in quotation marks, as values do in queries


def quoted(text: str) -> str:
    """Every word in quotation marks; marks stay as they are."""
    return " ".join(f'"{word}"' if word[0].isalnum() else word for word in text.split())


def span(rng: random.Random, words: list[str], longest: int) -> str:
    """1 to `longest` words, some of them in quotation marks."""
    chosen = rng.choices(words, k=rng.randint(1, longest))
    return " ".join(quoted(word) if rng.random() < QUOTED else word for word in chosen)


def long_repeat(rng: random.Random, words: list[str]) -> tuple[str, str, str]:
    text = " ".join(rng.choices(words, k=rng.randint(10, 30)))
    return "", f"Repeat: {text}", text


def repeat(rng: random.Random, words: list[str]) -> tuple[str, str, str]:
    text = span(rng, words, 10)
    return "", f"Repeat: {text}", text


def quote(rng: random.Random, words: list[str]) -> tuple[str, str, str]:
    text = " ".join(rng.choices(words, k=rng.randint(1, 6)))
    return "", f"Quote: {text}", quoted(text)


def fill_in(rng: random.Random, words: list[str]) -> tuple[str, str, str]:
    """Slots stand in any order, some in quotation marks; those then want quoted words."""
    slots = SLOTS[: rng.randint(1, len(SLOTS))]
    values = {slot: " ".join(rng.choices(words, k=rng.randint(1, 2))) for slot in slots}
    form, filled = [], []
    for slot in rng.sample(slots, len(slots)):
        text, marked = span(rng, words, 3), rng.random() < 0.3
        form += [text, quoted(slot) if marked else slot]
        filled += [text, quoted(values[slot]) if marked else values[slot]]
    given = ", ".join(f"{slot} is {value}" for slot, value in values.items())
    return f"{given}.", f"Fill in: {' '.join(form)}.", " ".join(filled)


def look_up(rng: random.Random, words: list[str]) -> tuple[str, str, str]:
    keys = rng.sample(words, rng.randint(2, 5))
    notes = {key: span(rng, words, 3) for key in keys}
    asked = rng.choice(keys)
    listed = "; ".join(f"{key}: {value}" for key, value in notes.items())
    return f"Notes: {listed}.", f"What is {asked}?", notes[asked]


def follow(rng: random.Random, words: list[str]) -> tuple[str, str, str]:
    line = rng.sample(words, rng.randint(3, 10))
    place = rng.randrange(len(line) - 1)
    return f"Line: {' '.join(line)}.", f"Which word follows {line[place]}?", line[place + 1]


Kind = Callable[[random.Random, list[str]], tuple[str, str, str]]  # material (may be empty), request, answer
KINDS: tuple[Kind, ...] = (repeat, quote, fill_in, look_up, follow)
COPYING: tuple[Kind, ...] = (long_repeat,)  # to begin with: copying comes first, and comes fastest with long rows


def exercises(words: list[str], seed: int, kinds: tuple[Kind, ...] = KINDS) -> Iterator[Example]:
    """An endless stream of exercises; the material of each stands in front of its request, or in the system prompt."""
    rng = random.Random(f"{seed}/exercises")
    while True:
        material, request, answer = rng.choice(kinds)(rng, words)
        system, front = (material, "") if rng.random() < 0.5 else ("", material)
        yield Example(f"{front} {request}".strip(), answer, system, kind="task", category="exercise")
