"""The tables that a context declares, whatever the dialect: MySQL's and Postgres's forms beside SQLite's.

Nothing of a context is ever run: names, types and keys are read by sqlglot, and the tables are made from those alone.
"""

import logging
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache

import sqlglot
from sqlglot import exp

# MySQL first: to the others its KEY name (column) looks like a column. They know "quoted names", which it does not.
DIALECTS = "mysql", "sqlite", "postgres", "tsql", "oracle"
COLLATIONS = {"NOCASE", "RTRIM"}  # SQLite's own, which change comparisons
TYPE = exp.DataType.Type
NUMBERS = exp.DataType.INTEGER_TYPES | {TYPE.BIT, TYPE.BOOLEAN, TYPE.SERIAL, TYPE.BIGSERIAL, TYPE.SMALLSERIAL}
BOOLEANS = "BOOLEAN", "BIT", "TINYINT(1)"
REALS = exp.DataType.FLOAT_TYPES
TEXTS = exp.DataType.TEXT_TYPES | {TYPE.ENUM, TYPE.SET, TYPE.UUID}
LONGEST = 50_000  # letters of what is read
MARKS = "\"'`["
QUOTED = r"\"[^\"]*\"|'[^']*'|`[^`]*`|\[[^\]]*\]"
# Said of a table or type, changes no result, and sqlglot does not read it.
ASIDES = (
    r"\bON\s+CONFLICT\s+\w+|\bAUTOINCREMENT\b|\b(?:NON)?CLUSTERED\b|\bENABLE\b"
    r"|\b(?:NATIVE|VARYING)(?=\s+CHARACTER\b)|\bUNSIGNED\s+BIG(?=\s+INT\b)"
)
# A declaration's head, of which group 1 is the name and the bracket that opens the columns; quotes, comments, brackets.
PARTS = re.compile(
    rf"\bCREATE\s+(?:\w+\s+){{0,3}}?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?((?:{QUOTED}|[^(;\"'`\[])+\()"
    r"|'(?:\\.|[^'\\])*'"
    rf"|{QUOTED}|--[^\n]*|#\s[^\n]*|/\*.*?\*/|[()]",
    re.IGNORECASE | re.DOTALL,
)

logging.getLogger("sqlglot").setLevel(logging.ERROR)  # else a line for each statement that a dialect does not know


@dataclass(frozen=True)
class Column:
    """kind: type affinity in SQLite, "TEXT", "INTEGER", "REAL", "NUMERIC", or "" where none is declared."""

    kind: str = ""
    collation: str = ""
    boolean: bool = False
    dated: bool = False
    nullable: bool = True


@dataclass
class Table:
    """schema: what stands in front of the name, mostly "". keys: columns whose values together occur once."""

    name: str
    schema: str = ""
    columns: dict[str, Column] = field(default_factory=dict)
    keys: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The table's name as SQLite reads it anywhere."""
        return ".".join(quote(part) for part in (self.schema, self.name) if part)


def quote(name: str) -> str:
    """A name that may hold anything."""
    return '"{}"'.format(name.replace('"', '""'))


def folded(name: str) -> str:
    """A name in lower case as far as SQLite ignores case, which is a-z."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


def parsed(text: str, dialect: str) -> list[exp.Expression]:
    """The statements of a text; none where it cannot be read."""
    if len(text) > LONGEST:
        return []
    try:
        found = [statement for statement in sqlglot.parse(text, read=dialect) if statement]
    except Exception:  # of any text: ParseError, TokenError, RecursionError and what the parser stumbles over
        return []
    unread = any(isinstance(part, exp.Command) and part.name.upper() == "CREATE" for part in found)
    return [] if unread else found


@lru_cache(maxsize=1024)  # a task's rows are scored once per condition
def tables(context: str) -> dict[str, Table]:
    """Name in lower case -> table, from the CREATE TABLE statements of a context; {} where no dialect reads it.

    A table that is declared twice, as in published contexts, has the columns of both declarations.
    """
    found: dict[str, Table] = {}
    for text in declarations(context):
        plain = re.sub(f"{QUOTED}|{ASIDES}", lambda match: match[0] if match[0][0] in MARKS else "", text, flags=re.I)
        tried = (parsed(each, dialect) for each in dict.fromkeys((text, plain)) for dialect in DIALECTS)
        schemas = ([of.this for of in read if isinstance(of, exp.Create)] for read in tried)
        for schema in next((some for some in schemas if some and isinstance(some[0], exp.Schema)), []):
            declare(found, schema)
    return found


def declarations(text: str) -> Iterator[str]:
    """Each CREATE TABLE statement of a text up to the bracket that closes its columns: what is outside of these, as in
    dumps of databases, changes no result."""
    depth = start = 0
    for part in PARTS.finditer(text[:LONGEST]):
        if part[1] and not depth:
            depth, start = 1, part.start(1)
        elif depth:
            depth += 1 if part[1] else {"(": 1, ")": -1}.get(part[0], 0)
            if not depth:
                yield f"CREATE TABLE {text[start : part.end()]}"


def declare(found: dict[str, Table], schema: exp.Schema) -> None:
    """Add the columns and keys of one statement."""
    path = schema.this
    table = found.setdefault(folded(path.name), Table(folded(path.name), folded(path.db)))
    for part in schema.expressions:
        if isinstance(part, exp.Identifier):  # a column without a type
            table.columns.setdefault(folded(part.name), Column())
        elif isinstance(part, exp.ColumnDef) and part.name:
            rules = [constraint.kind for constraint in part.constraints]
            key = any(isinstance(rule, exp.PrimaryKeyColumnConstraint) for rule in rules)
            table.columns.setdefault(folded(part.name), column(part, rules))
            if key or any(isinstance(rule, exp.UniqueColumnConstraint) for rule in rules):
                table.keys.append((folded(part.name),))
        else:
            for rule in part.find_all(exp.PrimaryKey, exp.UniqueColumnConstraint):
                names = tuple(folded(name.name) for name in rule.find_all(exp.Identifier))
                names = tuple(name for name in names if name in table.columns)
                table.keys += [names] if names else []
                if isinstance(rule, exp.PrimaryKey):
                    table.columns |= {name: replace(table.columns[name], nullable=False) for name in names}


def column(part: exp.ColumnDef, rules: list) -> Column:
    """What of a declaration matters to results."""
    kind = part.args.get("kind")
    never = (exp.PrimaryKeyColumnConstraint, exp.NotNullColumnConstraint)
    collations = [rule.this.name.upper() for rule in rules if isinstance(rule, exp.CollateColumnConstraint)]
    return Column(
        affinity(kind),
        next((name for name in collations if name in COLLATIONS), ""),
        bool(kind) and kind.sql() in BOOLEANS,
        bool(kind) and kind.this in exp.DataType.TEMPORAL_TYPES,
        not any(isinstance(rule, never) and not rule.args.get("allow_null") for rule in rules),
    )


def affinity(kind: exp.DataType | None) -> str:
    """Of SQLite's type affinities, the one that a type has in any dialect."""
    if kind is None:
        return ""
    known = {"TEXT": TEXTS, "INTEGER": NUMBERS, "REAL": REALS, "": exp.DataType.BINARY_TYPES}
    return next((name for name, types in known.items() if kind.this in types), "NUMERIC")


@lru_cache(maxsize=1024)
def bare(name: str) -> bool:
    """Whether SQLite reads a name without quotes: not `order`, not `2nd_leg`."""
    with closing(sqlite3.connect(":memory:")) as scratch:
        try:
            scratch.execute(f"CREATE TABLE t ({name})")
        except (sqlite3.Error, ValueError):
            return False
    return True


def spelled(query: str, schema: dict[str, Table]) -> str:
    """A query in which names of the context that SQLite reads in quotes only have quotes."""
    names = {name for table in schema.values() for name in (table.name, *table.columns)}
    odd = sorted(re.escape(name) for name in names if re.fullmatch(r"\w+", name) and not bare(name))
    if not odd:
        return query
    pattern = rf"{QUOTED}|\b(?:{'|'.join(odd)})\b(?!\s+BY\b)"
    return re.sub(pattern, lambda match: match[0] if match[0][0] in MARKS else quote(match[0]), query, flags=re.I)
