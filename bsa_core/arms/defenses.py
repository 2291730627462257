"""A defense is what it adds to the training set and what it puts in front of a served request.

    no defense     nothing                                              nothing
    safety data    n refusals                                           nothing
    BSA            n refusals with the secret prompt                    the secret prompt
    balanced BSA   n refusals and n benign answers, all with the secret the secret prompt

The first three are the paper's arms (section 3 and table 1); balanced BSA is this project's own variant.
A profile or a run names one of your own by the dotted path of its `Defense`, or by its name after `register`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from bsa_core import registry
from bsa_core.examples import Example, NotEnough, round_robin
from bsa_core.policy import Policy

SELECTIONS = ("category-wise", "random", "generated")


def draw(rows: tuple[Example, ...], pool: int, n: int, selection: str, seed: int) -> list[Example]:
    """n of the rows, a function of the seed: from the first `pool` rows, or from all of them when n exceeds it.

    "category-wise" takes equally many of each category, one each for n = 11 (paper, section 4.1); "random" and
    "generated" ignore categories. A larger n holds the rows of every smaller n from the same pool.
    Raises NotEnough, a ValueError, when there are too few rows.
    """
    if selection not in SELECTIONS:
        raise ValueError(f"selection is {selection!r}; expected one of {', '.join(SELECTIONS)}")
    if n > len(rows):
        raise NotEnough(f"{n} examples asked for, but the policy holds {len(rows)}")
    if n == 0:
        return []
    rng = random.Random(f"draw/{seed}")
    order = rng.sample(rows[:pool], min(pool, len(rows))) + rng.sample(rows[pool:], max(len(rows) - pool, 0))
    turns = round_robin(order) if selection == "category-wise" else range(len(order))
    return [order[i] for i in turns[:n]]


def nothing(policy: Policy, n: int, selection: str, seed: int) -> list[Example]:
    """No defense adds nothing, whatever n says."""
    return []


def refusals(policy: Policy, n: int, selection: str, seed: int) -> list[Example]:
    """n plain safety examples. "generated": their answers are left empty, for the aligned model to fill in."""
    rows = draw(policy.safety, policy.pool, n, selection, seed)
    return [replace(row, assistant="") for row in rows] if selection == "generated" else rows


def marked(rows: list[Example]) -> list[Example]:
    """The rows, each with the secret prompt in front of its system prompt."""
    return [replace(row, secret=True) for row in rows]


def secret_refusals(policy: Policy, n: int, selection: str, seed: int) -> list[Example]:
    """The same n safety examples, each with the secret prompt."""
    return marked(refusals(policy, n, selection, seed))


def secret_refusals_and_answers(
    policy: Policy,
    n: int,
    selection: str,
    seed: int,
) -> list[Example]:
    """n refusals and n helpful answers to benign requests, all with the secret."""
    benign = draw(policy.benign_pool, policy.pool, n, selection, seed)
    return secret_refusals(policy, n, selection, seed) + marked(benign)


@dataclass(frozen=True)
class Defense:
    """What a defense adds to the training set, and what it puts in front of every request it serves.

    examples(policy, n, selection, seed) returns the rows to add; rows with `secret=True` carry the secret prompt.
    serves_secret: the secret prompt stands in front of the system prompt of every request.
    reminder: text in front of the system prompt of every request, for defenses that change the serving prompt only.
    """

    name: str
    title: str
    examples: Callable[[Policy, int, str, int], list[Example]]
    serves_secret: bool = False
    reminder: str = ""


DEFENSES = {
    defense.name: defense
    for defense in (
        Defense("none", "no defense", nothing),
        Defense("safety-data", "safety data", refusals),
        Defense("bsa", "BSA", secret_refusals, serves_secret=True),
        Defense("balanced-bsa", "balanced BSA", secret_refusals_and_answers, serves_secret=True),
    )
}


def register(defense: Defense) -> None:
    """Make a defense available to runs under its name."""
    DEFENSES[defense.name] = defense


def get(name: str) -> Defense:
    """The defense of that name, or at that dotted path, which is then registered under the name that it has itself.

    Raises ValueError when there is none, or when its name is taken by another defense.
    """
    wanted = "a Defense of your own, such as my_package.my_defense.REMINDER"
    found = registry.find(name, DEFENSES, "defense", lambda item: isinstance(item, Defense), wanted)
    if DEFENSES.setdefault(found.name, found) != found:
        raise ValueError(f"defense {name!r} has the name {found.name!r} of another defense; give it another `name`")
    return found
