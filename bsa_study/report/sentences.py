"""Sentences whose numbers, and whose truth, come from records: book/sentences.yaml, put together when a page is built.

A sentence is a text with the names of numbers in braces (`numbers`), and conditions under which its words are right.
Of several alternatives the first is taken whose conditions hold. Where the records of a scale that ships bear out none
of them, NotBorneOut names the sentence, the numbers and the file: the page fails, and with it the build. At other
scales such a sentence is left out. So is one whose numbers were not measured, or not with three seeds.

Nothing in the file is executed: a condition is two names of numbers with one of these words between them.

    above, below        the whole interval of the first lies above, or below, that of the second
    at least, at most   the mean of the first is so, whatever the interval
"""

import re
from dataclasses import dataclass

import pandas as pd
from IPython.display import Markdown

from bsa_study import contrasts
from bsa_study.report import disagreements, tables
from bsa_study.report.numbers import FILE, Number, Scale, bound, check, of_paper

SLOT = re.compile(r"\{([^{}]+)\}")
CONDITION = re.compile(r"(.+?) (above|below|at least|at most) (.+)")
HOLDS = {
    "above": lambda first, second: first.low > second.high,
    "below": lambda first, second: first.high < second.low,
    "at least": lambda first, second: first.mean >= second.mean,
    "at most": lambda first, second: first.mean <= second.mean,
}


class NotBorneOut(ValueError):
    """A sentence says what the records do not."""


class NotMeasured(Exception):
    """A number that a sentence needs is not there. few: it is, but not with enough seeds."""

    def __init__(self, few: bool):
        self.few = few


def measured(name: str, scale: Scale) -> Number:
    """The number of that name; NotMeasured where the scale has none, or too few seeds."""
    found = scale.number(name)
    if found is None or (found.seeds is not None and found.seeds < contrasts.SEEDS):
        raise NotMeasured(few=found is not None)
    return found


@dataclass(frozen=True)
class Condition:
    """`first` and `second` name numbers; how: one of HOLDS."""

    first: str
    how: str
    second: str

    def lacks(self, scale: Scale) -> str:
        """What the records say instead; "" where the condition holds."""
        first, second = measured(self.first, scale), measured(self.second, scale)
        if HOLDS[self.how](first, second):
            return ""
        theirs = str(second) if bound(self.second) else f"{self.second}, which is {second}"
        return f"{self.first} is {first}, not {self.how} {theirs}"


@dataclass(frozen=True)
class Alternative:
    say: str
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Sentence:
    """where: file, chapter and number, for messages. scales: the only ones that it is about; none: all."""

    where: str
    alternatives: tuple[Alternative, ...]
    scales: tuple[str, ...] = ()

    @property
    def general(self) -> bool:
        """Whether it is about no scale: it names numbers of the paper and bounds at most."""
        names = [name for one in self.alternatives for name in _names(one)]
        return all(bound(name) or of_paper(name) for name in names)

    def about(self, scale: Scale) -> bool:
        return not self.scales or scale.profile.name in self.scales

    def told(self, scale: Scale) -> str:
        """The sentence as it is for a scale; NotBorneOut says what the records say instead."""
        found = []
        for one in self.alternatives:
            lacking = next(filter(None, (condition.lacks(scale) for condition in one.conditions)), "")
            if not lacking:
                return SLOT.sub(lambda match: str(measured(match[1], scale)), one.say)
            found.append(lacking)
        text = " ".join(self.alternatives[0].say.split()[:8])
        raise NotBorneOut(f"{self.where} ({text} ...), {scale.profile.name}: {'; '.join(found)}")


def _names(one: Alternative) -> list[str]:
    """The numbers that an alternative names."""
    return [*SLOT.findall(one.say), *(name for c in one.conditions for name in (c.first, c.second))]


def load(chapter: str) -> list[Sentence]:
    """The sentences of a chapter in book/sentences.yaml; ValueError names file, chapter, sentence and what is wrong."""
    entries = contrasts.read(FILE).get(chapter, {}).get("sentences", [])
    return [build(entry, f"book/{FILE}, {chapter}, sentence {number}") for number, entry in enumerate(entries, start=1)]


def build(entry: str | dict, where: str) -> Sentence:
    """A sentence from its entry: a text, {say, if}, or {either: [{say, if}, ...]}, the latter two with `scales`."""
    try:
        given = {"say": entry} if isinstance(entry, str) else dict(entry)
        scales = tuple(given.pop("scales", ()))
        return Sentence(where, tuple(map(_alternative, given.pop("either", [given]))), scales)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None


def _alternative(given: dict) -> Alternative:
    if unknown := set(given) - {"say", "if"} or {"say"} - set(given):
        raise ValueError(f"field {min(unknown)!r} is unknown or missing; expected say and if, or either, and scales")
    conditions = [given["if"]] if isinstance(given.get("if"), str) else given.get("if", [])
    one = Alternative(given["say"].strip(), tuple(map(_condition, conditions)))
    for name in _names(one):
        check(name)
    return one


def _condition(text: str) -> Condition:
    if not (parts := CONDITION.fullmatch(text)):
        raise ValueError(f"condition {text!r}; expected two numbers with one of {', '.join(HOLDS)} between them")
    return Condition(*parts.groups())


def shown(chapter: str, scales: list[Scale]) -> Markdown:
    """What a chapter found, scale by scale, and the largest disagreements with the paper."""
    listed, wrong = load(chapter), []
    parts = [sentence.told(scales[0]) for sentence in listed if sentence.general]
    of_scales = [sentence for sentence in listed if not sentence.general]
    for scale in scales if of_scales else []:
        texts, few, before = [], 0, len(scale.used)
        for sentence in of_scales:
            try:
                texts += [sentence.told(scale)] if sentence.about(scale) else []
            except NotMeasured as lacking:
                few += lacking.few
            except NotBorneOut as error:
                wrong += [str(error)] if scale.ships else []
        if few or not texts:
            texts.append("Not enough seeds: a sentence needs three." if few else "None of the numbers was measured.")
        parts += [f"**`{scale.profile.name}`**{_seeds(scale.used[before:])}", "\n".join(f"* {text}" for text in texts)]
    if wrong:
        raise NotBorneOut("\n".join(["The records do not bear this out; change words or conditions:", *wrong]))
    return Markdown("\n\n".join(filter(None, [*parts, disagreements.largest(chapter, scales)])))


def _seeds(used: list[Number]) -> str:
    seeds = pd.Series([number.seeds for number in used])
    return f" ({tables.counted(seeds)})" if len(seeds) else ""
