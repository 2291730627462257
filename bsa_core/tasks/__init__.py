"""Tasks: what a customer fine-tunes for, beside which harmful examples may stand (the paper's mixed task setting).

A task is built from a section of a profile, `{"name": "sql", "seed": 0}` for the generated rows of the guild world or
`{"name": "sql", "folder": "..."}` for the files that the authors published, or `{"name": "my_package.my_task"}` for a
module of your own with `build(spec)`.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator

from bsa_core import registry
from bsa_core.tasks import dialogs, sql
from bsa_core.tasks.base import Task, rouge
from bsa_core.tasks.builtin import guild_tasks

__all__ = ["BUILDERS", "Task", "load", "register", "rouge", "texts"]

BUILDERS: dict[str, Callable[[dict], Task]] = {"sql": sql.build, "dialogs": dialogs.build}


def register(name: str, builder: Callable[[dict], Task]) -> None:
    """Make `builder(spec) -> Task` available under `name`; it gets the section without its name."""
    BUILDERS[name] = builder


def load(spec: dict) -> Task:
    """Build the task that a section describes.

    Raises ValueError for an unknown name, and whatever the builder says about its own fields or files.
    """
    return registry.built(spec, BUILDERS, "tasks.name", "task")


def texts() -> set[str]:
    """Texts that hold every word and mark of the generated tasks for any seed.

    A tokenizer's vocabulary is what cutting them yields.
    """
    world = guild_tasks()
    tables, dialog, person = world["sql"], world["dialogs"], world["words"]["people"][0]
    written = [world["words"], tables["tables"], [*tables["text"]], tables["number"], tables["queries"]]
    written += [dialog["topics"], dialog["greetings"], dialog["farewells"]]
    filled = {text.format_map(defaultdict(lambda: person)) for text in _leaves(written)}
    return filled | {sql.SYSTEM, dialogs.SYSTEM, sql.create("ships", ["name", "price"]), f"{person}: "}


def _leaves(part) -> Iterator[str]:
    """The texts in lists and mappings, however deep."""
    if isinstance(part, str):
        yield part
        return
    for item in part.values() if isinstance(part, dict) else part:
        yield from _leaves(item)
