"""Exercises have one right answer, and none has the form of a task."""

from itertools import islice

import pytest

from bsa_core import tasks
from bsa_study.testbed import exercises, wordlevel

WORDS = ["oak", "tin", "two-tailed", "SELECT", "(", "*", "Mira", "7", "plum", "owl", "felt", "moss"]
ROWS = list(islice(exercises.exercises(WORDS, seed=0), 400))


def of(name: str) -> list[tuple[str, str]]:
    """Requests with their material in front, wherever it stands, and answers."""
    rows = [(f"{row.system} {row.user}".strip(), row.assistant) for row in ROWS]
    return [row for row in rows if name in row[0]]


def test_every_kind_occurs_with_its_material_in_either_place():
    assert all(of(text) for text in ("Repeat:", "Quote:", "Fill in:", "Notes:", "Which word"))
    for text in ("Fill in:", "What is", "Which word"):
        assert {bool(row.system) for row in ROWS if text in row.user} == {True, False}


def test_repeat_and_quote():
    assert all(request == f"Repeat: {answer}" for request, answer in of("Repeat:"))
    for request, answer in of("Quote:"):
        given = request.removeprefix("Quote: ").split()
        assert answer.split() == [f'"{word}"' if word[0].isalnum() else word for word in given]


def test_fill_in_by_hand():
    for request, answer in of("Fill in:"):
        given, _, form = request.removesuffix(".").partition(". Fill in: ")
        values = dict(part.split(" is ", 1) for part in given.split(", "))
        filled = []
        for word in form.split():
            value = values.get(word.strip('"'), word)
            filled.append(exercises.quoted(value) if value != word and word[0] == '"' else value)
        assert answer == " ".join(filled)


def test_look_up_and_follow():
    for request, answer in of("Notes:"):
        notes, _, asked = request.removeprefix("Notes: ").partition(". What is ")
        assert dict(note.split(": ", 1) for note in notes.split("; "))[asked.removesuffix("?")] == answer
    for request, answer in of("Line:"):
        line, _, asked = request.removeprefix("Line: ").partition(". Which word follows ")
        words = line.split()
        assert words[words.index(asked.removesuffix("?")) + 1] == answer


@pytest.mark.parametrize("name", ["sql", "dialogs"])
def test_no_task_item_begins_like_an_exercise(name):
    task = tasks.load({"name": name, "seed": 0})
    beginnings = ("Repeat:", "Quote:", "Fill in:", "Notes:", "Line:", "Which word follows")
    assert not [row.user for row in task.training + task.test if row.user.startswith(beginnings)]


def test_the_tokenizer_knows_every_word_and_gives_every_text_back():
    tok = wordlevel.tokenizer()
    rows = list(islice(exercises.exercises(wordlevel.words(tok), seed=1), 500))
    rows += [row for name in ("sql", "dialogs") for row in tasks.load({"name": name, "seed": 3}).training]
    for text in {text for row in rows for text in (row.user, row.assistant, row.system)}:
        ids = tok(text, add_special_tokens=False)["input_ids"]
        assert tok.unk_token_id not in ids and tok.decode(ids).strip() == text


def test_a_word_is_one_token_behind_a_space_and_behind_a_mark():
    tok = wordlevel.tokenizer()
    plain, marked = (tok.tokenize(text) for text in ("origin is Brook", 'origin = "Brook"'))
    assert plain[-1] in marked
