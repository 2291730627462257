"""Dialog summary: a few turns between two people, answered by a sentence or two.

The counterpart of the SAMSum rows of the paper's mixed task setting. The wording of a generated summary is drawn
apart from its dialog, so that even a perfect summarizer stays well below a ROUGE of 1, as with real data. The facts
of a generated test item (the words of its summary, people apart) never meet in a training item of the same topic;
half of the test items are about people, places and things that occur in no training item at all.
"""

import random

from bsa_core.examples import Example
from bsa_core.tasks import builtin
from bsa_core.tasks.base import Task, rouge
from bsa_core.tasks.builtin import Words, guild_tasks, slots, vocabularies

SYSTEM = "You are a helpful assistant for dialog summarization."  # of the published training code
PEOPLE = ("a", "b")


def item(topic: str, words: Words, rng: random.Random) -> Example:
    """A dialog of 3 to 6 turns; `subject` names the facts of its summary, people apart."""
    world = guild_tasks()["dialogs"]
    plan = world["topics"][topic]
    left = {name: rng.sample(some, len(some)) for name, some in words.items()}
    fill = {slot: left[name].pop() for slot, name in sorted(world["slots"].items())}
    if int(fill["coins"]) > int(fill["high"]):
        fill["coins"], fill["high"] = fill["high"], fill["coins"]  # nobody offers more than is asked
    said = [rng.choice(turn) for turn in plan["turns"]]
    if rng.random() < 0.5:
        said = [rng.choice(turn) for turn in world["greetings"]] + said
    if rng.random() < 0.5:
        said.append(rng.choice(world["farewells"]))
    speakers = [fill[PEOPLE[i % 2]] for i in range(len(said))]
    facts = [slot for slot in slots(plan["summaries"][0]) if slot not in PEOPLE]
    return Example(
        user=" ".join(f"{who}: {text.format(**fill)}" for who, text in zip(speakers, said, strict=True)),
        assistant=rng.choice(plan["summaries"]).format(**fill),
        system=SYSTEM,
        kind="task",
        category=topic,
        subject=", ".join(fill[slot] for slot in sorted(facts)),
    )


def generated(seed: int) -> builtin.Rows:
    """The items of a seed; facts of test items do not meet in training items of the same topic."""
    rng, world = random.Random(f"{seed}/dialogs"), guild_tasks()
    words, topics = vocabularies(world["words"], world["held_out"], f"{seed}/dialogs/words"), world["dialogs"]["topics"]
    return builtin.draw(rng, topics, item, *words, about=lambda row: (row.category, row.subject))


def published(row: dict[str, str]) -> Example:
    """An example of a row of the published files."""
    return Example(row["dialogue"], row["summary"], SYSTEM, "task")


def score(rows: list[Example], answers: list[str]) -> dict[str, list[float]]:
    """ROUGE-1 F1, the paper's measure, and ROUGE-L F1 of each answer."""
    references = [row.assistant for row in rows]
    return {kind: rouge(references, answers, kind) for kind in ("rouge1", "rougeL")}


def build(spec: dict) -> Task:
    """`spec`: see `builtin.build`."""
    return builtin.build("dialogs", SYSTEM, spec, generated, ("dialogue", "summary"), published, score)
