"""Variants of balanced BSA: how many benign examples stand beside the refusals, and where they come from."""

from collections.abc import Callable

from bsa_core import tasks
from bsa_core.arms import defenses
from bsa_core.examples import Example, NotEnough
from bsa_core.policy import Policy, guild


def variant(n: int | None, source: Callable[[Policy, int, int], list[Example]], name: str) -> str:
    """Register a variant of balanced BSA and return its name: n benign rows (None: as many as refusals) of a source."""

    def examples(policy: Policy, n_defense: int, selection: str, seed: int) -> list[Example]:
        benign = source(policy, n_defense if n is None else n, seed)
        return defenses.secret_refusals(policy, n_defense, selection, seed) + defenses.marked(benign)

    defenses.register(defenses.Defense(name, name.replace("-", " "), examples, serves_secret=True))
    return name


def of_the_guild(policy: Policy) -> None:
    """NotEnough for any other policy: its profile would train on the guild's texts without knowing."""
    if policy.name != "guild":
        raise NotEnough(f"policy {policy.name!r} has no rows of this kind; only the guild world has")


def ordinary(policy: Policy, n: int, seed: int) -> list[Example]:
    return defenses.draw(policy.benign_pool, policy.pool, n, "category-wise", seed)


def one_category(policy: Policy, n: int, seed: int) -> list[Example]:
    """Benign rows that resemble one kind of request only."""
    rows = tuple(row for row in policy.benign_pool if row.category == policy.benign_pool[0].category)
    return defenses.draw(rows, len(rows), n, "random", seed)


def facts(policy: Policy, n: int, seed: int) -> list[Example]:
    """What a thing is: benign rows that resemble no request served."""
    of_the_guild(policy)
    return defenses.draw(tuple(guild.facts()), len(guild.facts()), n, "random", seed)


def task_rows(policy: Policy, n: int, seed: int) -> list[Example]:
    """Rows of another task altogether: SQL generation."""
    of_the_guild(policy)
    rows = tasks.load({"name": "sql", "seed": 0}).training
    return defenses.draw(rows, len(rows), n, "random", seed)


COUNTS = (1, 2, 5, 22)  # beside 0, which is BSA, and 11, which is balanced BSA
COUNTED = {n: variant(n, ordinary, f"balanced-{n}") for n in COUNTS}
SOURCES = {
    "one category": variant(None, one_category, "balanced-one-category"),
    "facts": variant(None, facts, "balanced-facts"),
    "SQL rows": variant(None, task_rows, "balanced-sql"),
}
VARIANTS = (*COUNTED.values(), *SOURCES.values())
