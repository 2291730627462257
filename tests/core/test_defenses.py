"""Training sets of the arms, row for row, and how rows are drawn."""

from collections import Counter
from dataclasses import replace

import pytest

from bsa_core import policy, profiles
from bsa_core.arms import attacks, defenses
from bsa_core.arms.defenses import Defense, draw
from bsa_core.examples import Example
from bsa_core.experiment.runs import describe
from bsa_core.policy import Policy
from bsa_study.grids import variants

SEEDS = range(5)
DEFENSES = {name: d for name, d in defenses.DEFENSES.items() if name not in variants.VARIANTS}


def training_set(of: Policy, n_attack: int, defense: str, n: int, selection: str, seed: int) -> list[Example]:
    """As `runs.rows_of` puts it together."""
    return attacks.upload(of, "harmful", n_attack, 0, seed) + defenses.get(defense).examples(of, n, selection, seed)


@pytest.fixture(scope="module")
def world() -> Policy:
    return policy.load({"name": "guild", "seed": 0})


def small() -> Policy:
    """Two categories, so that a training set can be written down."""

    def rows(kind: str, *names: str) -> tuple[Example, ...]:
        return tuple(Example(f"{kind} {n}", f"answer {n}", "Help.", kind, n[0], n) for n in names)

    return Policy(
        name="small",
        harmless=True,
        system="Help.",
        attack=rows("attack", "a1", "b1"),
        safety=rows("safety", "a2", "b2"),
        benign_pool=rows("benign", "c3", "d3"),
        restricted=rows("restricted", "a4"),
        benign=rows("benign", "c4"),
        pool=2,
    )


ATTACK = [
    Example("attack a1", "answer a1", "Help.", "attack", "a", "a1"),
    Example("attack b1", "answer b1", "Help.", "attack", "b", "b1"),
]
SAFETY = [
    Example("safety a2", "answer a2", "Help.", "safety", "a", "a2"),
    Example("safety b2", "answer b2", "Help.", "safety", "b", "b2"),
]
MARKED_SAFETY = [
    Example("safety a2", "answer a2", "Help.", "safety", "a", "a2", secret=True),
    Example("safety b2", "answer b2", "Help.", "safety", "b", "b2", secret=True),
]
MARKED_BENIGN = [
    Example("benign c3", "answer c3", "Help.", "benign", "c", "c3", secret=True),
    Example("benign d3", "answer d3", "Help.", "benign", "d", "d3", secret=True),
]
EXPECTED = {
    "none": ATTACK,
    "safety-data": ATTACK + SAFETY,
    "bsa": ATTACK + MARKED_SAFETY,
    "balanced-bsa": ATTACK + MARKED_SAFETY + MARKED_BENIGN,
}


@pytest.mark.parametrize("defense", EXPECTED)
def test_training_set_row_for_row(defense):
    rows = training_set(small(), 2, defense, 2, "category-wise", seed=0)
    assert sorted(rows, key=lambda row: row.user) == sorted(EXPECTED[defense], key=lambda row: row.user)
    assert {row.user for row in rows[:2]} == {row.user for row in ATTACK}


def test_every_arm_of_the_book_is_tested_above():
    assert list(EXPECTED) == list(DEFENSES)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_arms_of_a_seed_share_their_rows(world, seed):
    """Differences between arms are paired: only the secret, or the rows that the defense adds, differ."""
    sets = {name: training_set(world, 100, name, 11, "category-wise", seed) for name in DEFENSES}
    assert [len(rows) for rows in sets.values()] == [100, 111, 111, 122]
    assert all(rows[:100] == sets["none"] for rows in sets.values())
    assert sets["none"] == attacks.harmful(world, 100, seed) and set(sets["none"]) == set(world.attack)
    assert [replace(row, secret=False) for row in sets["bsa"]] == sets["safety-data"]
    assert all(row.secret for row in sets["bsa"][100:]) and not any(row.secret for row in sets["bsa"][:100])
    assert sets["balanced-bsa"][:111] == sets["bsa"]
    added = sets["balanced-bsa"][111:]
    assert {row.kind for row in added} == {"benign"} and all(row.secret for row in added)
    assert len({row.category for row in added}) == 11


def test_what_each_arm_serves():
    assert {name: d.serves_secret for name, d in DEFENSES.items()} == {
        "none": False,
        "safety-data": False,
        "bsa": True,
        "balanced-bsa": True,
    }
    assert not any(defense.reminder for defense in DEFENSES.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_eleven_category_wise_examples_cover_the_eleven_categories(world, seed):
    rows = draw(world.safety, world.pool, 11, "category-wise", seed)
    assert len({row.category for row in rows}) == 11
    assert set(rows) <= set(world.safety[: world.pool])


@pytest.mark.parametrize("n", [22, 25, 50, 55, 100, 200, 300])
def test_category_wise_takes_equally_many_of_each(world, n):
    counts = Counter(row.category for row in draw(world.safety, world.pool, n, "category-wise", 0)).values()
    assert len(counts) == 11 and max(counts) - min(counts) <= 1


def test_random_selection_ignores_categories(world):
    counts = [len({r.category for r in draw(world.safety, world.pool, 11, "random", seed)}) for seed in range(20)]
    assert min(counts) < 11


@pytest.mark.parametrize("selection", defenses.SELECTIONS)
@pytest.mark.parametrize("part, pool", [("safety", 55), ("attack", 100), ("benign_pool", 55)])
def test_a_larger_draw_holds_every_smaller_one(world, selection, part, pool):
    rows = getattr(world, part)
    sizes = [n for n in (0, 1, 5, 10, 11, 25, 50, 55, 100, 200, 300) if n <= len(rows)]
    draws = [draw(rows, pool, n, selection, 3) for n in sizes]
    for n, smaller, larger in zip(sizes, draws, [*draws[1:], rows], strict=True):
        assert len(smaller) == n == len(set(smaller))
        assert larger is rows or larger[:n] == smaller


@pytest.mark.parametrize("selection", defenses.SELECTIONS)
def test_the_pool_comes_first(world, selection):
    rows = draw(world.safety, world.pool, 100, selection, 0)
    assert set(rows[: world.pool]) == set(world.safety[: world.pool])
    assert not set(rows[world.pool :]) & set(world.safety[: world.pool])


def test_draws_are_a_function_of_the_seed(world):
    def of(seed):
        return draw(world.safety, world.pool, 11, "category-wise", seed)

    assert of(0) == of(0)
    assert len({tuple(of(seed)) for seed in SEEDS}) == len(SEEDS)


def test_attack_rows_grow_and_differ_between_seeds(world):
    for n in (0, 1, 5, 10, 25, 50):
        assert len(attacks.harmful(world, n, 0)) == n
    assert len({row.category for row in attacks.harmful(world, 25, 0)}) == 11
    assert attacks.harmful(world, 10, 0) != attacks.harmful(world, 10, 1)


@pytest.mark.parametrize("name", ["safety-data", "bsa", "balanced-bsa"])
def test_zero_examples_are_no_defense(world, name):
    assert training_set(world, 10, name, 0, "category-wise", 0) == attacks.harmful(world, 10, 0)


def test_unknown_selection(world):
    with pytest.raises(ValueError, match="selection is 'by-hand'; expected one of category-wise, random"):
        training_set(world, 10, "bsa", 11, "by-hand", 0)


@pytest.mark.parametrize(
    "n_attack, defense, n, found",
    [(101, "none", 0, "101 .* holds 100"), (10, "bsa", 331, "331 .* holds 330")],
)
def test_more_rows_than_the_policy_holds(world, n_attack, defense, n, found):
    with pytest.raises(ValueError, match=f"{found.replace('.*', 'examples asked for, but the policy')}"):
        training_set(world, n_attack, defense, n, "category-wise", 0)


def test_unknown_defense(world):
    with pytest.raises(
        ValueError,
        match=r"defense is 'bas'; expected one of none, safety-data, bsa, .* or the dotted path of a Defense",
    ):
        training_set(world, 10, "bas", 11, "category-wise", 0)


OWN = Defense("mine", "my own", defenses.nothing, reminder="Mind the code.")
OTHER = Defense("bsa", "another BSA", defenses.nothing)


def test_a_defense_at_a_dotted_path_is_registered_under_its_own_name(monkeypatch):
    monkeypatch.setattr(defenses, "DEFENSES", dict(DEFENSES))
    assert defenses.get(f"{__name__}.OWN") is OWN is defenses.get("mine") is defenses.get(f"{__name__}.OWN")
    run = describe(profiles.load("tiny"), f"{__name__}.OWN", n_defense=0)
    assert run == describe(profiles.load("tiny"), "mine", n_defense=0) and run.defense == "mine"


@pytest.mark.parametrize(
    "name, message",
    [
        ("OTHER", "defense '.*OTHER' has the name 'bsa' of another defense; give it another `name`"),
        ("NONE", "defense is '.*NONE'; AttributeError: module .* has no attribute 'NONE'"),
        ("EXPECTED", "defense is '.*EXPECTED', of type dict; expected the dotted path of a Defense of your own"),
    ],
)
def test_a_dotted_path_that_leads_to_no_new_defense(monkeypatch, name, message):
    monkeypatch.setattr(defenses, "DEFENSES", dict(DEFENSES))
    with pytest.raises(ValueError, match=message):
        defenses.get(f"{__name__}.{name}")
    assert defenses.DEFENSES == DEFENSES


def test_a_registered_defense_is_available(monkeypatch):
    monkeypatch.setattr(defenses, "DEFENSES", dict(DEFENSES))
    extra = Example("What is a skep?", "A hive.", kind="fact", secret=True)
    defenses.register(Defense("mine", "my own", lambda of, n, selection, seed: [extra] * n, reminder="Mind the code."))
    assert training_set(small(), 1, "mine", 2, "random", 0)[1:] == [extra, extra]
    assert defenses.get("mine").reminder == "Mind the code."
