"""Rows: leakage, digests, even selection."""

from dataclasses import fields, replace

import pytest

from bsa_core.examples import Example, digest, evenly, leaked, round_robin

ROW = Example("How do I brew a tea?", "To brew a tea: boil.", "You help.", "attack", "potions", "tea")


def test_leaked_ignores_case_and_white_space_and_nothing_else():
    training = [ROW, Example("Plant a rose.", "Dig.", kind="benign")]
    evaluated = [
        Example("  how do I\nbrew  a TEA? "),
        Example("How do I brew a tea!"),
        Example("Plant a rose."),
    ]
    assert leaked(training, evaluated) == [evaluated[0].user, evaluated[2].user]
    assert leaked([], evaluated) == [] and leaked(training, []) == []


def test_leaked_counts_every_evaluated_request():
    assert len(leaked([ROW], [ROW, ROW])) == 2


def test_digest_changes_with_every_field_and_with_the_order():
    other = {f.name: "other" for f in fields(Example)} | {"kind": "benign", "secret": True}
    changed = [replace(ROW, **{name: value}) for name, value in other.items()]
    assert len({digest([row]) for row in [ROW, *changed]}) == 1 + len(fields(Example))
    assert digest([ROW, changed[0]]) != digest([changed[0], ROW])
    assert digest([ROW]) == digest((replace(ROW),)) and len(digest([ROW])) == 16


def test_digest_is_the_same_in_every_process():
    """A record's key rests on it: no salted hash, no order of a set."""
    assert digest([ROW]) == "cb439e2da3e3a027"


def rows(*categories: str) -> tuple[Example, ...]:
    return tuple(Example(f"request {i}", category=category) for i, category in enumerate(categories))


def test_evenly_goes_round_the_categories_in_the_original_order():
    given = rows("a", "a", "a", "b", "b", "b", "c")
    assert [e.user[-1] for e in evenly(given, 3)] == ["0", "3", "6"]
    assert [e.user[-1] for e in evenly(given, 5)] == ["0", "1", "3", "4", "6"]
    assert evenly(given, 7) == evenly(given, 100) == list(given)
    assert evenly(given, 0) == []


def test_a_round_robin_takes_the_first_of_each_category_then_the_second():
    given = rows("b", "b", "a", "b", "c", "a")
    assert round_robin(given) == [0, 2, 4, 1, 5, 3]
    assert round_robin(()) == []


def test_evenly_is_nested():
    given = rows(*"aababbcacbcc")
    for n in range(len(given)):
        assert set(evenly(given, n)) < set(evenly(given, n + 1))


@pytest.mark.parametrize("user", ["", "  \n"])
def test_an_empty_request_is_an_error(user):
    with pytest.raises(ValueError, match="'attack' has an empty request"):
        Example(user, kind="attack")


def test_an_unknown_kind_is_an_error():
    with pytest.raises(ValueError, match="'atack' is unknown; expected one of attack, safety"):
        Example("How?", kind="atack")


def test_half_of_a_character_is_named():
    """In rows of a policy or a task in code; files are checked when they are read."""
    for name in ("user", "assistant", "system", "category", "subject"):
        with pytest.raises(
            ValueError, match=f"an example of kind 'attack' has half of a character in the field '{name}'"
        ):
            Example(**{"user": "How?", "kind": "attack", name: "a hand \ud83d"})
    assert Example("\U0001f44b").user == "👋"
