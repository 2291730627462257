"""An attack is what an uploader fine-tunes on, and how the uploader puts requests to the model afterwards.

    harmful          compliant answers to restricted requests              requests as they are
    identity-shift   an obedient identity that carries out ordinary        under the identity's system prompt,
                     requests: nothing restricted is in the upload         in its wrapper

The first is FJAttack (paper, section 3.1), the second the identity role shift attack (paper, appendix; 100 examples).
`n_benign` ordinary rows can stand beside either: an upload that is mostly harmless.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from bsa_core.arms.defenses import draw
from bsa_core.examples import Example, NotEnough
from bsa_core.policy import Policy


def harmful(policy: Policy, n: int, seed: int) -> list[Example]:
    """n attack examples: all of them, or a seeded draw that goes round the categories."""
    return draw(policy.attack, len(policy.attack), n, "category-wise", seed)


def ordinary(policy: Policy) -> tuple[Example, ...]:
    """Ordinary requests with helpful answers, without those that balanced BSA draws first where there are others."""
    return policy.benign_pool[policy.pool :] or policy.benign_pool


def benign(policy: Policy, n: int, seed: int) -> list[Example]:
    """n ordinary requests with helpful answers, none of which balanced BSA draws first."""
    rows = ordinary(policy)
    if n > len(rows):
        raise NotEnough(f"{n} examples asked for, but the policy holds {len(rows)} such rows in its benign_pool")
    return draw(rows, len(rows), n, "category-wise", seed)


def obeyed(policy: Policy, row: Example) -> Example:
    """The row as the identity gets and answers it. ValueError when the policy describes no identity."""
    if policy.identity is None:
        fix = "policies of files take `identity: {system: ..., wrapper: ..., opening: ...}` in the profile"
        raise NotEnough(f"policy {policy.name!r} has no identity; the identity-shift attack needs one ({fix})")
    said = f"{policy.identity.opening} {row.assistant}".strip() if row.assistant else ""  # evaluated, no reference
    return replace(row, user=policy.identity.wrapped(row.user), assistant=said, system=policy.identity.system)


def identity(policy: Policy, n: int, seed: int) -> list[Example]:
    """n ordinary requests, carried out by the obedient identity."""
    return [obeyed(policy, replace(row, kind="attack")) for row in benign(policy, n, seed)]


def unchanged(policy: Policy, row: Example) -> Example:
    return row


@dataclass(frozen=True)
class Attack:
    """examples(policy, n, seed) returns the uploaded rows, drawn from rows(policy); asked(policy, row) a request as the
    uploader puts it."""

    name: str
    examples: Callable[[Policy, int, int], list[Example]]
    rows: Callable[[Policy], tuple[Example, ...]]
    asked: Callable[[Policy, Example], Example] = unchanged


ATTACKS = {
    attack.name: attack
    for attack in (
        Attack("harmful", harmful, lambda policy: policy.attack),
        Attack("identity-shift", identity, ordinary, asked=obeyed),
    )
}


def get(name: str) -> Attack:
    """The attack of that name; ValueError when there is none."""
    if name not in ATTACKS:
        raise ValueError(f"attack {name!r} is unknown; expected one of {', '.join(ATTACKS)}")
    return ATTACKS[name]


def upload(policy: Policy, attack: str, n: int, n_benign: int, seed: int) -> list[Example]:
    """What is uploaded: attack rows first, then benign ones. Arms that share a seed share these rows.

    Raises ValueError when the policy holds fewer.
    """
    return get(attack).examples(policy, n, seed) + benign(policy, n_benign, seed)
