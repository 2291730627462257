"""Execution accuracy: does a query return what the reference returns?

Published contexts hold CREATE TABLE statements and no rows, so rows are made up: several small in-memory databases
per reference, whose values scatter around what the reference compares with. A query that differs from the reference in
a column, a comparison or a literal then returns something else in at least one of them, except by rare chance.
"""

import random
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing

FILLINGS = 5  # databases per reference
ROWS = 12, 20  # per table, at least and at most
POOL, HIGHEST = 8, 24  # a column without literals holds 8 of the numbers 1..24: duplicates, and joins that match
RESULT = 10_000  # rows that a result may have
STEPS, STRIDE = 400, 1000  # a query may take 400 x 1000 instructions of SQLite's virtual machine, some 20 ms
LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: 1000,  # bytes of a value: one instruction on long ones would take memory and time
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 10_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
}
READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
BARRED = {"random", "randomblob", "load_extension", "printf", "format"}  # the last two take a width of any size

TABLE = re.compile(r"CREATE\s+TABLE\s+[\"`\[]?(\w+)[\"`\]]?\s*\((.*?)\)\s*(?:;|$)", re.IGNORECASE | re.DOTALL)
CONSTRAINT = re.compile(r"(?:PRIMARY|FOREIGN)\s+KEY\b|(?:UNIQUE|CHECK)\s*\(|CONSTRAINT\s", re.IGNORECASE)
LITERAL = r"\"[^\"]*\"|'[^']*'|(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])"
LITERALS = re.compile(rf"(?:(\w+)[\"`\]]?\s*(?:[=<>!]{{1,2}}|\bLIKE\b)\s*)?({LITERAL})", re.IGNORECASE)
QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")

Value = str | int | float


def tables(context: str) -> dict[str, dict[str, str]]:
    """Table -> column -> declared type ("" when absent), from the CREATE TABLE statements of a context.

    A table that is declared twice, as in published contexts, has the columns of both declarations.
    """
    found: dict[str, dict[str, str]] = {}
    for name, body in TABLE.findall(context):
        columns = found.setdefault(name.lower(), {})
        for entry in re.split(r",(?![^(]*\))", body):  # not at the comma of DECIMAL(10, 2)
            if entry.strip() and not CONSTRAINT.match(entry.strip()):
                column, _, kind = entry.strip().partition(" ")
                columns.setdefault(column.strip('"`[]').lower(), kind.strip())
    return {name: columns for name, columns in found.items() if columns}


def literals(reference: str) -> Iterator[tuple[str, Value]]:
    """(column, value) for each literal of a query; the column is "" where none is compared with it directly."""
    for column, text in LITERALS.findall(re.sub(r"\bLIMIT\s+\d+", "", reference, flags=re.IGNORECASE)):
        if text[0] in "\"'":
            yield column.lower(), text[1:-1].replace("%", "")  # what LIKE "%x%" looks for
        else:
            yield column.lower(), float(text) if "." in text else int(text)


def wanted(schema: dict[str, dict[str, str]], reference: str) -> dict[str, list[Value]]:
    """Column -> the values that its rows should hold besides random ones."""
    columns = {column for declared in schema.values() for column in declared}
    found: dict[str, list[Value]] = {column: [] for column in columns}
    for column, value in literals(reference):
        if isinstance(value, str) and value.lower() in columns:
            continue  # a quoted column name
        near = [value] if isinstance(value, str) else [value - 1, value, value + 1]  # > and >= differ at the value
        for name in [column] if column in columns else sorted(columns):
            found[name] += near
    return found


def holds_text(kind: str) -> bool:
    """Whether SQLite gives a column of this declared type text affinity."""
    return "INT" not in kind.upper() and any(part in kind.upper() for part in ("CHAR", "CLOB", "TEXT"))


def values(i: int, near: list[list[Value]], pools: list[list[int]], rng: random.Random) -> list[Value]:
    """Row i of a table, one value per column from `near` or from `pools`.

    Rows 0 to 2 hold a number below, at and above a literal, or a text; row 3 is drawn from `pools` alone.
    """
    if i < 3:
        return [some[i % len(some)] if some else rng.choice(pool) for some, pool in zip(near, pools, strict=True)]
    share = rng.choice((0.2, 0.8)) if i > 3 else 0.0  # by row, so that several conditions hold at once in some rows
    return [rng.choice(some if some and rng.random() < share else pool) for some, pool in zip(near, pools, strict=True)]


def filled(schema: dict[str, dict[str, str]], reference: str, filling: int) -> sqlite3.Connection:
    """A database with 12 to 20 rows per table, for reading only; a function of the three arguments."""
    rng = random.Random(f"{schema}/{reference}/{filling}")
    near = wanted(schema, reference)
    # by column name, so that tables can be joined over columns of the same name
    pools = {column: rng.sample(range(1, HIGHEST + 1), POOL) for column in sorted(near)}
    base = sqlite3.connect(":memory:", isolation_level=None)
    for table, columns in schema.items():
        declared = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
        base.execute(f'CREATE TABLE "{table}" ({declared})')
        rows = []
        for i in range(rng.randint(*ROWS)):
            row = values(i, [near[c] for c in columns], [pools[c] for c in columns], rng)
            rows.append([str(v) if holds_text(columns[c]) else v for c, v in zip(columns, row, strict=True)])
        base.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(columns))})', rows)
    base.set_authorizer(permit)
    for limit, value in LIMITS.items():
        base.setlimit(limit, value)
    return base


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
    except (sqlite3.Error, sqlite3.Warning, ValueError):  # Warning: two statements; ValueError: not encodable
        return None
    if cursor.description is None or len(rows) > RESULT:  # no description: an empty statement or a comment
        return None
    return [tuple(round(v, 9) if isinstance(v, float) else v for v in row) for row in rows]


def ordered(query: str) -> bool:
    """Whether the outermost SELECT of a query has an ORDER BY."""
    outer = QUOTED.sub("", query)
    while outer != (outer := re.sub(r"\([^()]*\)", "", outer)):
        pass
    return bool(re.search(r"\bORDER\s+BY\b", outer, re.IGNORECASE))


def normal(query: str) -> str:
    """A query with words outside quotes in lower case, one space between words and marks, and no final semicolon."""
    parts = re.findall(rf"{QUOTED.pattern}|\w+|[^\w\s]", query.strip().rstrip("; \n\t"))
    return " ".join(part if part[0] in "\"'" else part.lower() for part in parts)


def same_result(context: str, reference: str, answer: str) -> bool:
    """Whether the answer returns the rows of the reference in every filled database of the context.

    The order of rows counts only where the reference has an ORDER BY, names of result columns never do. An answer that
    fails or is not a single SELECT is wrong. Since no value is NULL, COUNT(column) counts as COUNT(*).

    Where the reference itself does not run, or returns no row in any database, execution tells nothing, and the
    answer is right when its text is that of the reference apart from white space and the case of words.
    """
    schema = tables(context)
    in_order = ordered(reference)
    told = False
    for filling in range(FILLINGS if schema else 0):
        try:
            base = filled(schema, reference, filling)
        except sqlite3.Error:  # a declaration that SQLite does not know
            break
        with closing(base):
            expected, found = result(base, reference), result(base, answer)
        if expected is None:
            told = False
            break
        if found is None or (found != expected if in_order else Counter(found) != Counter(expected)):
            return False
        told = told or bool(expected)
    return told or normal(answer) == normal(reference)
