"""Made-up rows for the tables of a context, such that a query that means something else returns something else.

For a reference there are three kinds of small databases:

scattered   some rows of few values, so that they repeat, are equal and join; one row in ten has a NULL in a column
single      rows that fulfil all conditions of the reference, but one that has an edge of one condition in one column
groups      groups of as many rows as HAVING COUNT(*) asks for, and of one more and one less

Keys of the context hold and columns that it declares NOT NULL hold none; other constraints are not looked at.
"""

import random
from collections.abc import Iterator
from datetime import date
from itertools import count, product

from bsa_core.tasks.sql_hints import Hints, Near, Value, hints
from bsa_core.tasks.sql_schema import Table

Row = dict[str, Value]
Database = dict[str, list[Row]]  # table -> rows
HIGHEST = 24  # columns without hints hold numbers from 1 on
# (databases, rows of a table at least and at most, values of a column, whether a value may occur twice)
SCATTERED = ((4, 12, 20, 8, True), (3, 6, 9, 8, False), (8, 1, 4, 3, True))
# By type, one of the values that functions such as UPPER, SUBSTR and ROUND change
ODD = {"TEXT": "{} aB".format, "REAL": (0.375).__add__, "NUMERIC": (0.375).__add__}
NULLS = 0.1  # share of NULLs in scattered columns
SINGLE = 160  # databases of the second kind at most
PRIME = 9973
FIRST = date(2000, 1, 1).toordinal()  # columns of dates hold dates from here on in place of numbers
FREE, ALONE = 5, 0.5  # a column without hints in the second kind; a row that fulfils no other condition either


def databases(schema: dict[str, Table], reference: str) -> Iterator[Database]:
    """A function of its two arguments."""
    rng, found = random.Random(repr(reference)), hints(schema, reference)
    for number, *rows, values, twice in SCATTERED:
        for _ in range(number):
            yield _valid(_scattered(schema, found, rows, values, rng), schema, found, rng, twice)
    for made in (*_single(schema, found, rng), *_groups(schema, found, rng)):
        yield _valid(made, schema, found, rng)


def _scattered(schema: dict[str, Table], found: Hints, rows: list[int], values: int, rng: random.Random) -> Database:
    """Tables of so many rows, at least and at most, and of so many values per column."""
    names = sorted({name for table in schema.values() for name in table.columns})
    shared = rng.sample(range(1, HIGHEST + 1), values)
    pools: dict[str, list[Value]] = {name: rng.sample(range(1, HIGHEST + 1), values) for name in names}
    pools |= {name: [*shared] for name in (names if values < 8 else found.joined)}
    for name, column in (item for table in schema.values() for item in table.columns.items()):
        if values == 8 and column.kind in ODD:
            pools[name][0] = ODD[column.kind](shared[0])
    made: Database = {}
    for table in schema.values():
        made[table.name] = []
        for number in range(rng.randint(*rows)):
            share = rng.choice((0.2, 0.8))  # by row, so that several conditions hold at once in some
            row = {}
            for name, column in table.columns.items():
                near = found.near.get(name, Near())
                some = rng.choice([near.hits, near.edges]) or near.edges
                row[name] = rng.choice(some if some and rng.random() < share else pools[name])
                if not number and near.hits:
                    row[name] = near.hits[0]  # so that the reference mostly finds something
                elif column.nullable and rng.random() < NULLS:
                    row[name] = None
            made[table.name].append(row)
    return made


def _single(schema: dict[str, Table], found: Hints, rng: random.Random) -> Iterator[Database]:
    """Rows with the same number meet where tables are joined; the last one has the edge."""
    last = max([1, *(len(near.hits) for near in found.near.values())])
    # columns without hints are in the last row as in others, lower or higher (then it decides about MIN and MAX), NULL
    plans: list[tuple] = []
    for name in sorted({name for table in schema.values() for name in table.columns}):
        near = found.near.get(name, Near())
        edges = [*near.edges, None]
        plans += product([name], edges, (0, -1, 1, ALONE) if near.edges else (0,), [range(last)])
        if len(near.hits) > 1:  # beside a row that fulfils one condition of several, for INTERSECT
            plans += product([name], edges, [0], [[0], [1]])
    for changed, edge, plan, others in plans if len(plans) <= SINGLE else rng.sample(plans, SINGLE):
        made: Database = {}
        for table in schema.values():
            has_edge = changed in table.columns
            row = _fulfilling(table, found, last, FREE + int(plan) * has_edge)
            if has_edge and plan == ALONE:
                row |= {name: rng.choice(found.near[name].edges) for name in row if name in found.near}
            numbers = others if has_edge else range(last)
            rows = [_fulfilling(table, found, number, FREE) for number in numbers]
            made[table.name] = [*rows, row | {changed: edge} if has_edge else row]
        yield made


def _groups(schema: dict[str, Table], found: Hints, rng: random.Random) -> Iterator[Database]:
    """One table at a time holds several rows of a group."""
    sizes = sorted(found.sizes or ({2} if found.grouped else ()))
    for several, size in product(schema, sizes):
        counts = {1: size - 1, 2: size, 3: size + 1}
        yield {
            table.name: [
                _fulfilling(table, found, group, rng.randint(1, HIGHEST), found.grouped)
                for group, times in counts.items()
                for _ in range(times if table.name == several else 1)
            ]
            for table in schema.values()
        }


def _fulfilling(table: Table, found: Hints, number: int, free: int, numbered: set[str] = frozenset()) -> Row:
    """A row that fulfils the conditions; joined columns, and `numbered` ones, have its number."""
    row: Row = {}
    for name in table.columns:
        near = found.near.get(name, Near())
        own = number if name in found.joined or name in numbered else free
        row[name] = near.hits[number % len(near.hits)] if near.hits else own
    return row


def _valid(made: Database, schema: dict[str, Table], found: Hints, rng: random.Random, twice: bool = True) -> Database:
    """The rows, other values in place of NULLs, repetitions and numbers that a column or key must not have."""
    fresh = (HIGHEST + 1 + 4567 * n % PRIME for n in count(rng.randrange(PRIME)))  # in no order, none twice
    for table in schema.values():
        ranked = [tuple(sorted(names & set(table.columns))) for names in found.ranked]
        keys = [key for key in table.keys + ranked if key] + ([] if twice else [(name,) for name in table.columns])
        for row, (name, column) in product(made[table.name], table.columns.items()):
            if row[name] is None and (any(name in key for key in ranked) or not column.nullable):
                row[name] = next(fresh)
        for key in keys:
            seen = set()
            for row in made[table.name]:
                if None not in (row[name] for name in key) and tuple(str(row[name]) for name in key) in seen:
                    row[key[-1]] = next(fresh)
                seen.add(tuple(str(row[name]) for name in key))
        for row, (name, column) in product(made[table.name], table.columns.items()):
            if column.boolean and isinstance(row[name], int | float):
                row[name] = row[name] % 2
            near = found.near.get(name, Near())
            if column.dated and isinstance(row[name], int | float) and row[name] not in near.hits + near.edges:
                row[name] = str(date.fromordinal(FIRST + int(97 * row[name])))
    return made
