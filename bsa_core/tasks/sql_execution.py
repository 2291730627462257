"""Execution accuracy: does a query return what the reference returns?

Published contexts hold CREATE TABLE statements and no rows, so rows are made up: many small in-memory databases per
reference, whose values are at, beside and around what the reference compares with (`sql_rows`). A query that differs
from the reference in a column, a comparison, a literal or in how it treats NULL then returns something else in at least
one of them, except by rare chance. A score depends on nothing but the three texts: not on time, date or machine.
"""

import re
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache, partial

from bsa_core.tasks.sql_rows import Database, databases
from bsa_core.tasks.sql_schema import QUOTED, Table, quote, spelled, tables

LIMITED = re.compile(r"(\bORDER\s+BY\b[^()]*(?:\([^()]*\)[^()]*)*?)(\bLIMIT\b)", re.IGNORECASE)
RESULT = 10_000  # rows that a result may have
STEPS, STRIDE = 400, 1000  # a query may take 400 x 1000 instructions of SQLite's virtual machine, some 20 ms
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 5000,  # bytes of a value: one instruction on long ones would take memory and time
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
}
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
# printf and format take a width of any size, the rest is not the same everywhere and always
BARRED = {"random", "randomblob", "load_extension", "printf", "format", "sqlite_version", "sqlite_source_id"}
BARRED |= {"current_date", "current_time", "current_timestamp"}
DATES = "date", "time", "datetime", "julianday", "strftime", "unixepoch"
NOW = {"now", "subsec", "subsecond", "localtime", "utc"}  # arguments of DATES that ask for this machine's time
# What SQLite and Python raise at a query or value; Warning: two statements, ValueError: not encodable
FAILED = sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError


@dataclass(frozen=True)
class Trial:
    """What the reference returns in one database.

    in_order: its ORDER BY decides about every place. exact: it decides about every row; where a LIMIT or GROUP BY does
    not, only their number counts.
    """

    rows: Database
    expected: list[tuple]
    in_order: bool
    exact: bool

    def passed(self, found: list[tuple] | None) -> bool:
        """Whether a result is the expected one."""
        if found is None or self.in_order:
            return found == self.expected
        if not self.exact:
            return len(found) == len(self.expected)
        return Counter(found) == Counter(self.expected)


def opened(schema: dict[str, Table]) -> sqlite3.Connection:
    """Empty tables, of names, type affinities and collations alone; raises one of FAILED where there cannot be any."""
    base = sqlite3.connect(":memory:", isolation_level=None)
    for place in sorted({table.schema for table in schema.values()} - {"", "main", "temp"}):
        base.execute(f"ATTACH ':memory:' AS {quote(place)}")
    for table in schema.values():
        declared = (
            f"{quote(name)} {column.kind} {column.collation and 'COLLATE ' + column.collation}"
            for name, column in table.columns.items()
        )
        base.execute(f"CREATE TABLE {table.path} ({', '.join(declared)})")
    plain = sqlite3.connect(":memory:")
    for name in DATES:
        base.create_function(name, -1, partial(on_a_date, plain, name))
    for limit, value in LIMITS.items():
        base.setlimit(limit, value)
    return base


def fill(base: sqlite3.Connection, schema: dict[str, Table], rows: Database) -> None:
    """Replace all rows. Afterwards the database is for reading only."""
    base.set_authorizer(None)
    base.set_progress_handler(None, 0)
    for table in schema.values():
        base.execute(f"DELETE FROM {table.path}")
        places = ", ".join("?" * len(table.columns))
        inserted = [tuple(row.values()) for row in rows[table.name]]
        base.executemany(f"INSERT INTO {table.path} VALUES ({places})", inserted)
    base.set_authorizer(permit)


def on_a_date(plain: sqlite3.Connection, function: str, *arguments):
    """SQLite's function of dates; an error where it would say what time it is."""
    if len(arguments) <= (function == "strftime") or any(str(part).lower() in NOW for part in arguments):
        raise ValueError("the current time is different every time")
    return plain.execute(f"SELECT {function}({', '.join('?' * len(arguments))})", arguments).fetchone()[0]


def permit(action: int, _, function: str | None, *__) -> int:
    """SQLite's question whether a statement may do something: reading is all it may, and nothing random."""
    allowed = action in READING and not (action == sqlite3.SQLITE_FUNCTION and str(function).lower() in BARRED)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY


def result(base: sqlite3.Connection, query: str) -> list[tuple] | None:
    """The rows of a query; None when it is not a single SELECT, fails, or takes too many steps or rows.

    The bound counts instructions, not seconds, so that a score does not depend on the machine.
    """
    left = iter(range(STEPS))
    base.set_progress_handler(lambda: next(left, None) is None, STRIDE)
    try:
        cursor = base.execute(query)
        rows = cursor.fetchmany(RESULT + 1)
    except FAILED:
        return None
    if cursor.description is None or len(rows) > RESULT:  # no description: an empty statement or a comment
        return None
    # digits of a float that the order of a sum does not change
    return [tuple(float(f"{v:.12g}") if isinstance(v, float) else v for v in row) for row in rows]


def outermost(query: str) -> str:
    """A query with underscores in place of all that is in quotes or brackets."""
    outer = re.sub(QUOTED, covered, query)
    while outer != (outer := re.sub(r"\([^()]*\)", covered, outer)):
        pass
    return outer


def covered(match: re.Match) -> str:
    return "_" * len(match[0])


def ordered(query: str) -> bool:
    """Whether the outermost SELECT of a query has an ORDER BY."""
    return bool(re.search(r"\bORDER\s+BY\b", outermost(query), re.IGNORECASE))


def untied(query: str, columns: int, way: str) -> str:
    """The query with its ties decided: ORDER BYs get all result columns at the end, those of subqueries the first."""
    if ordered(query):
        end = re.search(r"\bLIMIT\b|[;\s]*$", outermost(query), re.IGNORECASE).start()
        query = query[:end] + "".join(f", {n} {way}" for n in range(1, columns + 1)) + f" {query[end:]}"
    return LIMITED.sub(rf"\1, 1 {way} \2", query)


def normal(query: str) -> str:
    """A query with words outside quotes in lower case, one space between words and marks, and no final semicolon."""
    parts = re.findall(rf"{QUOTED}|\w+|[^\w\s]", query.strip().rstrip("; \n\t"))
    return " ".join(part if part[0] in "\"'" else part.lower() for part in parts)


@lru_cache(maxsize=1024)  # every answer to an item is scored in the same databases
def trials(context: str, reference: str) -> tuple[Trial, ...]:
    """The databases in which the reference says something; none where it does not run.

    It runs in each database again with the rows from the last to the first, and with its ties decided either way, which
    shows what it leaves open. An ORDER BY with a LIMIT that takes some of several tied rows says nothing.
    """
    schema = tables(context)
    if not schema or len(reference) > LIMITS[sqlite3.SQLITE_LIMIT_SQL_LENGTH]:
        return ()
    made, in_order, sorts = [], ordered(reference), re.search(r"\bORDER\s+BY\b", reference, re.IGNORECASE)
    try:
        with closing(opened(schema)) as base:
            for rows in databases(schema, reference):
                found = []
                for order in (rows, {name: of[::-1] for name, of in rows.items()}):
                    fill(base, schema, order)
                    found.append(answer(base, schema, reference))
                if None not in found:
                    columns = len((found[0] or [()])[0])
                    either = (untied(reference, columns, way) for way in ("ASC", "DESC") if sorts)
                    found += [each for query in either if (each := answer(base, schema, query)) is not None]
                    exact = all(Counter(each) == Counter(found[0]) for each in found)
                    if exact or not sorts:
                        in_place = in_order and all(each == found[0] for each in found)
                        made.append(Trial(rows, found[0], in_place, exact))
    except FAILED:
        return ()
    return tuple(made) if any(trial.expected for trial in made) else ()


def answer(base: sqlite3.Connection, schema: dict[str, Table], query: str) -> list[tuple] | None:
    """The rows of a query, whose names of the context may lack quotes that SQLite wants."""
    found = result(base, query)
    if found is None and (other := spelled(query, schema)) != query:
        return result(base, other)
    return found


def compared(context: str, reference: str, query: str) -> tuple[bool, bool]:
    """(Whether the query returns the rows of the reference in every database, whether the reference was executed).

    The order of rows counts only where the reference has an ORDER BY, names of result columns never do. A query that
    fails or is not a single SELECT is wrong.

    Where the reference itself does not run, or returns no row in any database, execution tells nothing, and the
    query is right when its text is that of the reference apart from white space and the case of words.
    """
    tried = trials(context, reference)
    if not tried:
        return normal(query) == normal(reference), False
    schema = tables(context)
    with closing(opened(schema)) as base:
        for trial in tried:
            fill(base, schema, trial.rows)
            if not trial.passed(answer(base, schema, query)):
                return False, True
    return True, True


def same_result(context: str, reference: str, query: str) -> bool:
    """Whether the query says what the reference says: see `compared`."""
    return compared(context, reference, query)[0]
