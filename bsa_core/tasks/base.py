"""What every task hands over, and what the tasks share: the word lists, the share held out, ROUGE."""

import random
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from string import Formatter
from typing import Any

import yaml
from pydantic import StrictBool, StrictInt, StrictStr

from bsa_core import checked
from bsa_core.checked import field, settings
from bsa_core.examples import Example, leaked
from bsa_core.paths import PACKAGE
from bsa_core.progress import report
from bsa_core.tasks.files import read_folder

TRAINING, TEST = 1000, 200  # rows of a task in the paper's mixed setting
SEEN = 3, 4  # of a held-out list, three words of four may occur in training rows


@dataclass(frozen=True)
class Task:
    """The rows of one fine-tuning task, as the paper's mixed task setting trains them beside harmful examples.

    system: system prompt of every row. test: the evaluated rows, `assistant` holding the reference.
    score: (test rows, one answer each) -> metric -> one value in 0..1 per row, rounded to 4 decimals; ValueError when
        the two lists differ in length.
    harmless: answers may be stored and shown. False for rows that a user supplies unless they say otherwise.
    """

    name: str
    system: str
    training: tuple[Example, ...]
    test: tuple[Example, ...]
    score: Callable[[list[Example], list[str]], dict[str, list[float]]]
    harmless: bool = True


@cache
def guild_tasks() -> dict:
    """Word lists, questions and dialogs of the guild world, from guild_tasks.yaml."""
    return yaml.safe_load((PACKAGE / "tasks" / "guild_tasks.yaml").read_text(encoding="utf-8"))


@settings("")
class Generated:
    """The `source` of a built-in task, without its name."""

    seed: StrictInt = field("the rows follow from it", 0)


@settings("")
class Supplied:
    """The `source` of a task whose rows a user supplies, without its name."""

    folder: StrictStr = field("the path of a folder with train1000.json and test200.json")
    harmless: StrictBool = field("true if answers may be stored with the records and shown", False)


Rows = tuple[tuple[Example, ...], tuple[Example, ...]]  # training, test


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

    row: makes an example of the `fields` of a row of the files. Test requests that also stand in training rows of a
    folder are counted and told.
    """
    given = checked.read(Supplied if "folder" in spec else Generated, spec, f"tasks.{name}")
    if isinstance(given, Generated):
        return Task(name, system, *generated(given.seed), score)
    training, test = (tuple(map(row, rows)) for rows in read_folder(name, given.folder, fields))
    if leaks := leaked(training, test):
        report(f"{given.folder}: {len(leaks)} test requests of task {name} also stand in training rows")
    return Task(name, system, training, test, score, given.harmless)


def draw(
    rng: random.Random,
    categories: Iterable[str],
    item: Callable[[str, Any, random.Random], Example],
    seen: Any,
    unseen: Any,
    about: Callable[[Example], Hashable],
) -> Rows:
    """1,000 training and 200 test items, the categories in equal numbers and no request twice.

    Half of the test items are made of words that training items may use (`seen`), half of others. No training item is
    `about` what a test item is about.
    """
    kinds, requests = list(categories), set()

    def drawn(n: int, words: Any, taken: set[Hashable]) -> list[Example]:
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


def parted(words: list[str], rng: random.Random) -> tuple[list[str], list[str]]:
    """Three quarters of the words, and the quarter that no training row may hold."""
    drawn = rng.sample(words, len(words))
    cut = len(words) * SEEN[0] // SEEN[1]
    return drawn[:cut], drawn[cut:]


def slots(template: str) -> list[str]:
    """The names of a template's slots, each once, in order of appearance."""
    return list(dict.fromkeys(slot for _, slot, _, _ in Formatter().parse(template) if slot))


def every_word(template: str, words: dict[str, list[str]]) -> Iterator[str]:
    """The template filled so that each of `words[slot]` stands in its slot at least once, and each slot is filled."""
    named = slots(template)
    for i in range(max((len(words[slot]) for slot in named), default=1)):
        yield template.format(**{slot: words[slot][i % len(words[slot])] for slot in named})


def rouge(references: list[str], answers: list[str], kind: str) -> list[float]:
    """F1 of ROUGE per pair, 0..1, rounded to 4 decimals; kind "rouge1" or "rougeL".

    Texts are lower-cased and cut at everything but letters a-z and digits; words are not stemmed. An empty answer
    scores 0. The published evaluation takes another implementation, which cuts at spaces only.
    """
    from rouge_score import rouge_scorer  # slow to import, and only needed here

    scorer = rouge_scorer.RougeScorer([kind], use_stemmer=False)
    return [round(scorer.score(r, a)[kind].fmeasure, 4) for r, a in zip(references, answers, strict=True)]
