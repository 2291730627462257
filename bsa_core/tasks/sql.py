"""SQL generation: a question and the CREATE TABLE statement of its table, answered by one query.

The counterpart of the sql-create-context rows of the paper's mixed task setting. Generated test items are about
schemas (a table name with its columns) that no training item is about; half of them are made of table and column
names that occur in no training item at all.
"""

import random
import re

from bsa_core.examples import Example
from bsa_core.progress import report
from bsa_core.tasks import builtin, sql_worker
from bsa_core.tasks.base import Task, rouge
from bsa_core.tasks.builtin import Words, guild_tasks, slots, vocabularies

# The system prompt of the published training code.
SYSTEM = (
    "You are a helpful assistant for translating Natural Language Query into SQL Query considering the provided "
    "Context."
)
COLUMNS = 3, 4  # per table
DECLARATION = re.compile(r"\bCREATE\s+(?:\w+\s+){0,2}TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?[^\s(][^(]*\(", re.IGNORECASE)


def create(table: str, columns: list[str]) -> str:
    """The statement that declares a table."""
    text = guild_tasks()["sql"]["text"]
    declared = ", ".join(f"{column} {'TEXT' if column in text else 'INTEGER'}" for column in columns)
    return f"CREATE TABLE {table} ({declared})"


def item(category: str, allowed: Words, rng: random.Random) -> Example:
    """A question of one type about a random schema; `subject` names the schema, its columns in alphabetical order."""
    world, words = guild_tasks()["sql"], guild_tasks()["words"]
    size = rng.randint(*COLUMNS)
    texts = rng.randint(1, size - 1)  # at least one column of each type
    columns = rng.sample(allowed["text"], texts) + rng.sample(allowed["number"], size - texts)
    text, number = columns[0], columns[-1]
    rng.shuffle(columns)
    form = rng.choice(world["queries"][category])
    needed = slots(form["answer"])
    free = [c for c in columns if not (c == text and "text" in needed) and not (c == number and "number" in needed)]
    fill = {
        "table": rng.choice(allowed["tables"]),
        "column": rng.choice(free),
        "text": text,
        "value": rng.choice(words[world["text"][text]]),
        "number": number,
        "limit": rng.choice(words["numbers"]),
    }
    return Example(
        user=f"{rng.choice(form['ask']).format(**fill)} {create(fill['table'], columns)}",
        assistant=form["answer"].format(**fill),
        system=SYSTEM,
        kind="task",
        category=category,
        subject=f"{fill['table']} ({', '.join(sorted(columns))})",
    )


def generated(seed: int) -> builtin.Rows:
    """The items of a seed; no training item is about the schema of a test item."""
    rng, world = random.Random(f"{seed}/sql"), guild_tasks()["sql"]
    names = {part: world[part] for part in ("tables", "text", "number")}
    words = vocabularies(names, names, f"{seed}/sql/names")
    return builtin.draw(rng, world["queries"], item, *words, about=lambda row: row.subject)


def published(row: dict[str, str]) -> Example:
    """An example of a row of the published files; `subject` names the tables."""
    tables = ", ".join(sql_worker.table_names(row["context"]))
    return Example(f"{row['question']} {row['context']}", row["answer"], SYSTEM, "task", subject=tables)


def context(request: str) -> str:
    """The CREATE TABLE statements at the end of a request."""
    found = DECLARATION.search(request)
    return request[found.start() :] if found else ""


def score(rows: list[Example], answers: list[str]) -> dict[str, list[float]]:
    """ROUGE-1 F1, the paper's measure, and execution accuracy (0 or 1) of each answer.

    executed: 1 where the reference was executed, 0 where its text was compared, which is told as well.
    """
    compared = [sql_worker.compared(context(r.user), r.assistant, a) for r, a in zip(rows, answers, strict=True)]
    if as_text := sum(not executed for _, executed in compared):
        report(f"{as_text} of {len(rows)} SQL references return nothing when executed: their answers' text is compared")
    return {
        "rouge1": rouge([r.assistant for r in rows], answers, "rouge1"),
        "execution": [float(same) for same, _ in compared],
        "executed": [float(executed) for _, executed in compared],
    }


def build(spec: dict) -> Task:
    """`spec`: see `builtin.build`."""
    return builtin.build("sql", SYSTEM, spec, generated, ("question", "context", "answer"), published, score)
