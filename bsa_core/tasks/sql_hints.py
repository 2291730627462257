"""What the rows of a table should hold so that a reference is told from a query that means something else.

A condition such as `age > 56` is told from `age >= 56` by a row with 56 only, `name LIKE '%ash%'` from `name = 'ash'`
by one with "xashx". So each column that a reference compares gets values at, beside and around what it is compared
with. Some of them are hits: they fulfil the condition, such that the other conditions decide about their row.
"""

import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlglot import exp

from bsa_core.tasks.sql_schema import Column, Table, folded, parsed, spelled

Value = str | int | float | None
SIZES, LONGEST = 30, 200  # rows of a group, letters of a text that a reference may ask for by COUNT and LENGTH
HIGH, LOW, UNEQUAL = (exp.GT, exp.GTE), (exp.LT, exp.LTE), (exp.NEQ, exp.NullSafeNEQ)
LIKE, EQUAL = (exp.Like, exp.ILike, exp.Glob), (exp.EQ, exp.NullSafeEQ, exp.Is, exp.In, exp.Between)
NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
NOT_CONSTANT = object()


@dataclass
class Near:
    """Values of one column: `hits` fulfil a condition of the reference, `edges` are around what it compares with."""

    hits: list[Value] = field(default_factory=list)
    edges: list[Value] = field(default_factory=list)


@dataclass
class Hints:
    """What a reference says about the rows of its tables.

    near: column -> its values. joined: columns that must meet in several tables or rows. grouped: of GROUP BY.
    sizes: how many rows the groups of HAVING have. ranked: of each ORDER BY with LIMIT, where ties tell nothing.
    """

    near: dict[str, Near] = field(default_factory=lambda: defaultdict(Near))
    joined: set[str] = field(default_factory=set)
    grouped: set[str] = field(default_factory=set)
    sizes: set[int] = field(default_factory=set)
    ranked: list[set[str]] = field(default_factory=list)


def hints(schema: dict[str, Table], reference: str) -> Hints:
    """Read from the reference; few where sqlglot does not read it."""
    columns = {name: column for table in schema.values() for name, column in table.columns.items()}
    found = Hints(joined={name for name in columns if sum(name in table.columns for table in schema.values()) > 1})
    for statement in parsed(reference, "sqlite") or parsed(spelled(reference, schema), "sqlite"):
        for node in statement.find_all(*HIGH, *LOW, *UNEQUAL, *LIKE, *EQUAL):
            _compare(node, columns, found)
        for group in statement.find_all(exp.Group):
            found.grouped |= _named(group, columns)
        for order in statement.find_all(exp.Order):
            if order.parent and order.parent.args.get("limit") and not order.parent.args.get("distinct"):
                found.ranked.append(_named(order, columns))
    return found


def _named(node: exp.Expression, columns: dict[str, Column]) -> set[str]:
    return {folded(column.name) for column in node.find_all(exp.Column)} & set(columns)


def _compare(node: exp.Expression, columns: dict[str, Column], found: Hints) -> None:
    """Take one condition into account."""
    operands = [node.this, *(node.args.get(part) for part in ("expression", "low", "high")), *node.expressions]
    if query := node.args.get("query"):  # x IN (SELECT y ...)
        found.joined |= _named(node.this, columns).union(*(_named(part, columns) for part in query.this.selects))
    read = [(part, _constant(part, columns)) for part in operands if part and not part.find(exp.Query)]
    constants = [value for _, value in read if value is not NOT_CONSTANT]
    others = [part for part, value in read if value is NOT_CONSTANT]
    names = set().union(*(_named(part, columns) for part in others))
    numbers = [value for value in constants if isinstance(value, int | float)]
    if isinstance(node, exp.EQ) and len(others) == 2:
        found.joined |= names
    if any(part.find(exp.Count) for part in others):
        found.sizes |= {int(value) for value in numbers if 0 <= value <= SIZES}
        return
    if any(part.find(exp.Length) for part in others):
        constants = ["x" * int(value) for value in numbers if 0 <= value <= LONGEST]
    days = [told.text("format") for part in others for told in part.find_all(exp.TimeToStr) if constants]
    if not constants:  # texts in functions, formats apart
        texts = (literal for part in others for literal in part.find_all(exp.Literal) if literal.is_string)
        constants = [literal.name for literal in texts if "%" not in literal.name]
    turned = bool(read) and read[0][1] is not NOT_CONSTANT  # 4 < age
    for name in sorted(names):
        for value in constants:
            for form in [str(value)] if days else _forms(value, columns[name]):
                hits, edges = _near(node, form, turned, *days[:1])
                near = found.near[name]
                near.hits, near.edges = ([*dict.fromkeys(some)] for some in (near.hits + hits, near.edges + edges))


def _constant(node: exp.Expression, columns: dict[str, Column]):
    """The value of a literal."""
    if isinstance(node, exp.Paren):
        return _constant(node.this, columns)
    if isinstance(node, exp.Null):
        return None
    if isinstance(node, exp.Boolean):
        return int(node.this)
    if isinstance(node, exp.Literal):
        return node.name if node.is_string else number(node.name)
    if isinstance(node, exp.Neg) and isinstance(node.this, exp.Literal) and not node.this.is_string:
        return number(f"-{node.this.name}")
    if isinstance(node, exp.Column) and node.this.args.get("quoted") and folded(node.name) not in columns:
        return node.name  # to SQLite a quoted name that no column has is a text
    return NOT_CONSTANT


def number(text: str) -> int | float | None:
    """The number that a text is, if it is one; integers beyond 64 bit are what SQLite makes of them."""
    if not NUMBER.fullmatch(text):
        return None
    return stored(int(text)) if text.lstrip("-").isdigit() and len(text) < 21 else float(text)


def stored(value: int | float) -> int | float:
    """A number that SQLite can hold."""
    return value if isinstance(value, float) or -(2**63) <= value < 2**63 else float(value)


def _forms(value: Value, column: Column) -> list[Value]:
    """The value as text and as number, where both may be in the column."""
    if isinstance(value, str):
        as_number = number(value.strip("%"))
        return [value] if as_number is None else [value, as_number]
    if value is None or column.kind not in ("TEXT", ""):
        return [value]
    return [value, str(value)]


def _near(node: exp.Expression, value: Value, turned: bool, day: str = "") -> tuple[list[Value], list[Value]]:
    """(hits, edges) of a comparison with one value; turned: the value stands in front, as in 4 < age.

    day: the format of STRFTIME, where its result is compared.
    """
    if value is None:
        return ([], [1]) if _negated(node) else ([None], [1])
    below, edges, above = _days(value, day) if day else _around(value)
    match = edges[0]
    if isinstance(value, str) and isinstance(node, LIKE):
        below, edges, above, match = _pattern(value.replace("*", "%").replace("?", "_"))
    if isinstance(node, HIGH + LOW):
        hit = above if isinstance(node, HIGH) != turned else below
        return [match if _negated(node) else hit], edges
    if isinstance(node, UNEQUAL) != _negated(node):
        return [below, above], edges
    return [match], edges


def _around(value: str | int | float) -> tuple[Value, list[Value], Value]:
    """What is just below, what is at and around, and what is just above a number or text."""
    if isinstance(value, str):
        fill = "1" if value.isdigit() else "x"
        below, above = value[:-1], value + fill
        dates = [value[:8] + "27", value[:5] + "12-27"] if DAY.fullmatch(value) else []
        return below, [value, above, below, value.swapcase(), fill + value, fill + value + fill, *dates], above
    below, above = stored(value - 1), stored(value + 1)
    if below == value or above == value:  # so large that 1 does not count
        below, above = math.nextafter(value, -math.inf), math.nextafter(value, math.inf)
    # the order of 9 and 100 as numbers is not that as texts
    other = [] if abs(value) > 1e9 else [9, 10 ** len(str(int(abs(value))))]
    return below, [value, above, below, *other], above


def _days(value: str, form: str) -> tuple[Value, list[Value], Value]:
    """`_around` of the days that STRFTIME gives as a value such as "2019"."""
    try:
        day = datetime.strptime(value, form)
        below, *later = (day + timedelta(days) for days in (-1, 1, 31, 366))
    except (ValueError, OverflowError, re.error):  # the last for a format that says something twice
        return _around(value)
    above = next((each for each in later if each.strftime(form) != value), day)
    return str(below), [str(day), str(below), str(above)], str(above)


def _pattern(value: str) -> tuple[Value, list[Value], Value, Value]:
    """`_around` of a LIKE pattern, and what matches it."""
    bare = value.replace("%", "")
    fill = "1" if bare.isdigit() else "x"
    match = value.replace("%", fill).replace("_", fill)
    below, edges, above = _around(bare.replace("_", fill))
    more = [bare.replace("_", ""), bare[1:], bare.replace("_", fill * 2), *(part for part in value.split("%") if part)]
    return below, [match, *edges, *more], above, match


def _negated(node: exp.Expression) -> bool:
    """Whether an odd number of NOTs stands in front of a condition."""
    odd = False
    while (node := node.parent) and not isinstance(node, exp.Query):
        odd ^= isinstance(node, exp.Not)
    return odd
