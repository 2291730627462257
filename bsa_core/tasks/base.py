"""What every task hands over, and the measure of most of them, ROUGE."""

from collections.abc import Callable
from dataclasses import dataclass
from unicodedata import normalize

import regex

from bsa_core.examples import Example


@dataclass(frozen=True, eq=False)  # as a Policy
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


# Scripts that are written without spaces between words: each of their characters is a token.
UNSPACED = "".join(rf"\p{{{name}}}" for name in "Han Hiragana Katakana Thai Lao Khmer Myanmar Tibetan".split())
LETTERS = r"\p{L}\p{M}\p{N}"
WORD = regex.compile(rf"[{UNSPACED}]\p{{M}}*|[[{LETTERS}]--[{UNSPACED}]]+|[\p{{S}}--[\x00-\x7F]]\p{{M}}*", regex.V1)


class Words:
    """The tokens of a text: words of any script, digits, and symbols outside of ASCII, such as emoji, one by one.

    For texts in ASCII these are the tokens of `rouge_score`, which knows only a-z and digits. Chinese, Japanese, Thai
    and other scripts that put no space between words are cut into single characters.
    """

    def tokenize(self, text: str) -> list[str]:
        """In order; lower case, accents composed."""
        return WORD.findall(normalize("NFC", text.lower()))


def rouge(references: list[str], answers: list[str], kind: str) -> list[float]:
    """F1 of ROUGE per pair, 0..1, rounded to 4 decimals; kind "rouge1" or "rougeL".

    Texts are cut into `Words`, which are not stemmed. An empty answer scores 0. The published evaluation takes another
    implementation, which cuts at spaces only.
    """
    from rouge_score import rouge_scorer  # slow to import, and only needed here

    scorer = rouge_scorer.RougeScorer([kind], tokenizer=Words())
    return [round(scorer.score(r, a)[kind].fmeasure, 4) for r, a in zip(references, answers, strict=True)]
