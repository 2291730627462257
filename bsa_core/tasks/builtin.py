"""What the built-in tasks share: rows that are generated or read from files, word lists, the share of words held out.

The files are those that the authors published, `train1000.json` and `test200.json` in one folder, which may lie below
the one given, as in a copy of the release. Each is a JSON list of objects: {"question", "context", "answer"} for SQL
generation, {"dialogue", "summary"} for dialog summary. Other fields, such as "id", are ignored. A file is checked as a
whole before any of it is used.
"""

import random
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from string import Formatter

from pydantic import StrictBool, StrictInt, StrictStr

from bsa_core import checked
from bsa_core.checked import field, settings
from bsa_core.examples import Example, Read
from bsa_core.paths import data
from bsa_core.reading import below, folder_of, listed, text_of
from bsa_core.tasks.base import Task

TRAINING, TEST = 1000, 200  # rows of a task in the paper's mixed setting
SEEN = 3, 4  # of a held-out list, three words of four may occur in training rows
FILES, FORM = ("train1000.json", "test200.json"), "a JSON list of objects"  # training, test; for messages
RELEASED = {"sql": "sqlgen_dataset", "dialogs": "samsum_dataset"}  # the folders of the release, by the name of the task
Rows = tuple[tuple[Example, ...], tuple[Example, ...]]  # training, test
Words = dict[str, list[str]]


def guild_tasks() -> dict:
    """Word lists, questions and dialogs of the guild world."""
    return data("tasks/guild_tasks.yaml")


@settings("")
class Generated:
    """The `source` of a built-in task, without its name."""

    seed: StrictInt = field("the rows follow from it", 0)


@settings("")
class Supplied:
    """The `source` of a task whose rows a user supplies, without its name."""

    folder: StrictStr = field("the path of a folder with train1000.json and test200.json, in it or below it")
    harmless: StrictBool = field("true if answers may be stored with the records and shown", False)


def build(
    name: str,
    system: str,
    spec: dict,
    generated: Callable[[int], Rows],
    fields: tuple[str, ...],
    row: Callable[[dict[str, str]], Example],
    score: Callable[[list[Example], list[str]], dict[str, list[float]]],
) -> Task:
    """The task of a section: generated where it is `Generated`, from files where it names a folder and is `Supplied`.

    row: makes an example of the `fields` of a row of the files.
    """
    given = checked.read(Supplied if "folder" in spec else Generated, spec, f"tasks.{name}")
    if isinstance(given, Generated):
        return _generated(name, system, generated, given.seed, score)
    place = dataset(folder_of(f"tasks.{name}.folder", given.folder), name)

    def example(where: str, item: dict) -> Example:
        made = row({key: text_of(where, item, key) for key in fields})
        return replace(made, user=Read(made.user, where))

    training, test = (tuple(example(*found) for found in listed(place / file, FORM)) for file in FILES)
    return Task(name, system, training, test, score, given.harmless)


@cache
def _generated(name: str, system: str, generated: Callable, seed: int, score: Callable) -> Task:
    """Made once per process: every run of a mixed setting asks."""
    return Task(name, system, *generated(seed), score)


def dataset(folder: Path, name: str) -> Path:
    """The folder with a task's two files: the one given, or one below it. Where the files of several tasks are below,
    it is the one that is called as in the release. ValueError when there is none, or no telling which."""
    if any((folder / file).exists() for file in FILES):
        return folder
    files = [path for path in below(folder) if path.name in FILES]
    found = sorted({path.parent for path in files})
    chosen = [place for place in found if place.name == RELEASED[name]] or found
    if len(chosen) != 1:
        there = ", ".join(map(str, chosen)) or "none"
        wanted = f"one folder with {' and '.join(FILES)}, of several the one called {RELEASED[name]}"
        raise ValueError(f"tasks.{name}.folder: {folder}, here or below: {there}; expected {wanted}")
    return chosen[0]


def draw(
    rng: random.Random,
    categories: Iterable[str],
    item: Callable[[str, Words, random.Random], Example],
    seen: Words,
    unseen: Words,
    about: Callable[[Example], Hashable],
) -> Rows:
    """1,000 training and 200 test items, the categories in equal numbers and no request twice.

    Half of the test items are made of words that training items may use (`seen`), half of others. No training item is
    `about` what a test item is about.
    """
    kinds, requests = list(categories), set()

    def drawn(n: int, words: Words, taken: set[Hashable]) -> list[Example]:
        rows: list[Example] = []
        while len(rows) < n:
            row = item(kinds[len(rows) % len(kinds)], words, rng)
            if about(row) not in taken and row.user not in requests:
                requests.add(row.user)
                rows.append(row)
        return rows

    test = drawn(TEST // 2, seen, set()) + drawn(TEST - TEST // 2, unseen, set())  # first: its subjects are then taken
    training = drawn(TRAINING, seen, set(map(about, test)))
    rng.shuffle(test)
    rng.shuffle(training)
    return tuple(training), tuple(test)


def vocabularies(lists: dict[str, Iterable[str]], held_out: Iterable[str], seed: str) -> tuple[Words, Words]:
    """List -> words that training items may use, and list -> words of test items about unseen things.

    A quarter of each held-out list occurs in no training item.
    """
    rng = random.Random(seed)
    seen, unseen = ({name: [*words] for name, words in lists.items()} for _ in range(2))
    for name in (name for name in lists if name in held_out):
        drawn = rng.sample(seen[name], len(seen[name]))
        cut = len(drawn) * SEEN[0] // SEEN[1]
        seen[name], unseen[name] = drawn[:cut], drawn[cut:]
    return seen, unseen


def slots(template: str) -> list[str]:
    """The names of a template's slots, each once, in order of appearance."""
    return list(dict.fromkeys(slot for _, slot, _, _ in Formatter().parse(template) if slot))
