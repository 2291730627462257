"""Policies: where attack, safety and held-out examples come from.

A policy is built from the `policy` section of a profile: `{"name": "guild", "seed": 0}` for the built-in world,
`{"name": "files", "folder": "..."}` for rows of your own, `{"name": "published", "folder": "...", "benign": "..."}` for
the files of the paper's release, `{"name": "my_package.my_policy"}` for a module of your own with `build(spec)`.
"""

from collections.abc import Callable

from bsa_core import registry
from bsa_core.examples import Example
from bsa_core.policy import files, guild, published
from bsa_core.policy.base import Identity, Policy, Question

__all__ = ["BUILDERS", "Example", "Identity", "Policy", "Question", "load", "register"]

BUILDERS: dict[str, Callable[[dict], Policy]] = {
    "guild": guild.build,
    "files": files.build,
    "published": published.build,
}


def register(name: str, builder: Callable[[dict], Policy]) -> None:
    """Make `builder(spec) -> Policy` available to profiles under `policy: {name: <name>}`."""
    BUILDERS[name] = builder


def load(spec: dict) -> Policy:
    """Build the policy that a profile's `policy` section describes.

    Raises ValueError for an unknown name, and whatever the builder says about its own fields or files.
    """
    return registry.built(spec, BUILDERS, "policy.name", "policy")
