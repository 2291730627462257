"""Execution accuracy: which queries count as saying the same, whatever the tables, the queries and the clock."""

import re
import time
from pathlib import Path

import pytest
import yaml

from bsa_core.examples import Example
from bsa_core.tasks import sql, sql_execution, sql_rows, sql_schema
from bsa_core.tasks.sql_execution import compared, same_result

CONTEXT = "CREATE TABLE ships (name TEXT, captain TEXT, masts INTEGER)"
LONG = "9" * 5000
PAIRS = yaml.safe_load(Path(__file__).with_name("sql_pairs.yaml").read_text(encoding="utf-8"))


def databases(reference: str) -> list[sql_rows.Database]:
    return list(sql_rows.databases(sql_schema.tables(CONTEXT), reference))


def filled(rows: sql_rows.Database):
    """The ships, for reading only."""
    schema = sql_schema.tables(CONTEXT)
    base = sql_execution.opened(schema)
    sql_execution.fill(base, schema, rows)
    return base


@pytest.mark.parametrize(
    "context, reference, same, wrong", [(of["tables"], *queries) for of in PAIRS for queries in of["queries"]]
)
def test_queries_of_published_kinds(context, reference, same, wrong):
    """None falls back to the comparison of texts."""
    assert compared(context, reference, same) == (True, True)
    assert compared(context, reference, wrong) == (False, True)


@pytest.mark.parametrize(
    "reference, answer, same",
    [
        ("SELECT name FROM ships", "select NAME from Ships;", True),
        ("SELECT name FROM ships", "SELECT name FROM ships ORDER BY masts", True),  # any order is right
        ("SELECT name FROM ships ORDER BY masts", "SELECT name FROM ships", False),
        ("SELECT name FROM ships ORDER BY masts", "SELECT name FROM ships ORDER BY masts DESC", False),
        ("SELECT name FROM ships ORDER BY masts", "SELECT name FROM ships AS s ORDER BY s.masts ASC", True),
        ("SELECT name FROM ships WHERE masts > 3", "SELECT name FROM ships WHERE masts >= 4", True),
        ("SELECT name FROM ships WHERE masts > 3", "SELECT name FROM ships WHERE NOT masts <= 3", True),
        ("SELECT MAX(masts) FROM ships", "SELECT masts FROM ships ORDER BY masts DESC LIMIT 1", True),
        ("SELECT COUNT(*) FROM ships", "SELECT COUNT(name) FROM ships", False),  # which leaves out NULL
        ("SELECT COUNT(*) FROM ships", "SELECT COUNT(DISTINCT name) FROM ships", False),
        ("SELECT name, masts FROM ships", "SELECT masts, name FROM ships", False),
        ("SELECT name FROM ships WHERE captain = 'Mira'", 'SELECT name FROM ships WHERE captain = "Mira"', True),
        ("SELECT name FROM ships WHERE captain LIKE '%ir%'", "SELECT name FROM ships WHERE captain LIKE '%'", False),
        ("SELECT name FROM ships WHERE masts IN (2, 30)", "SELECT name FROM ships WHERE masts = 2", False),
        ("SELECT name FROM ships WHERE masts BETWEEN 40 AND 50", "SELECT name FROM ships WHERE masts > 40", False),
        ("SELECT AVG(masts) FROM ships", "SELECT SUM(masts) * 1.0 / COUNT(masts) FROM ships", True),
    ],
)
def test_what_counts_as_the_same_result(reference, answer, same):
    assert same_result(CONTEXT, reference, answer) is same


@pytest.mark.parametrize(
    "answer",
    [
        "",
        " -- nothing",
        "I'm sorry, but that breaks the guild code.",
        "SELECT",
        "SELECT name FROM boats",
        "SELECT rudder FROM ships",
        "SELECT name FROM ships; SELECT name FROM ships",
        "SELECT name FROM ships\0",
        "SELECT name FROM ships -- \ud800",
        "EXPLAIN SELECT name FROM ships",
        "VALUES (1)",
        "SELECT name FROM ships WHERE random() < 0 OR 1",
    ],
)
def test_what_does_not_run_is_wrong(answer):
    assert same_result(CONTEXT, "SELECT name FROM ships", answer) is False


@pytest.mark.parametrize(
    "answer",
    [
        "DROP TABLE ships",
        "DELETE FROM ships",
        "DELETE FROM ships RETURNING name",
        "UPDATE ships SET name = 'Otto'",
        "INSERT INTO ships VALUES ('a', 'b', 1)",
        "CREATE TABLE boats (name TEXT)",
        "CREATE TEMP TABLE boats AS SELECT name FROM ships",
        "PRAGMA writable_schema = 1",
        "PRAGMA query_only = 0",
        "VACUUM INTO '{path}'",
        "ATTACH '{path}' AS other",
        "BEGIN",
        "SELECT load_extension('{path}')",
        "SELECT writefile('{path}', name) FROM ships",
    ],
)
def test_an_answer_can_only_read(answer, tmp_path):
    path = tmp_path / "made.db"
    answer = answer.replace("{path}", str(path))
    assert same_result(CONTEXT, "SELECT name FROM ships", answer) is False
    base = filled(databases("SELECT name FROM ships")[0])
    before = sql_execution.result(base, "SELECT * FROM ships")
    assert sql_execution.result(base, answer) is None
    assert sql_execution.result(base, "SELECT * FROM ships") == before and len(before) >= 12
    assert not path.exists()


@pytest.mark.parametrize(
    "answer",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 'x' UNION ALL SELECT i || i FROM n) SELECT MAX(i) FROM n",
        f"SELECT COUNT(*) FROM {', '.join(f'ships AS s{i}' for i in range(12))}",
        "SELECT a.name FROM ships AS a, ships AS b, ships AS c, ships AS d",
        "SELECT length(zeroblob(1000000000)) FROM ships",
        "SELECT printf('%.*c', 1000000000, 'x') FROM ships",
        f"SELECT {'+'.join('1' * 20_000)} FROM ships",
    ],
)
def test_an_answer_that_never_ends_is_stopped(answer):
    start = time.process_time()
    assert same_result(CONTEXT, "SELECT name FROM ships", answer) is False
    assert time.process_time() - start < 1


def test_a_statement_without_a_result_is_no_query():
    base = filled(databases("SELECT 1")[0])
    assert sql_execution.result(base, "SELECT name FROM ships WHERE 0") == []
    assert sql_execution.result(base, "") is sql_execution.result(base, "-- nothing") is None


def test_rows_follow_from_context_and_reference():
    first, again, other = (databases(f"SELECT name FROM ships WHERE masts > {n}") for n in (3, 3, 4))
    assert first == again != other
    assert not {tuple(row) for made in first for row in made["ships"]} - {("name", "captain", "masts")}


def test_edges_of_the_reference_stand_alone_in_some_database():
    """Each in a row that fulfils the other condition, beside rows that fulfil both."""
    reference = 'SELECT name FROM ships WHERE captain = "Mira" AND masts > 30'
    single = [made["ships"] for made in databases(reference) if len(made["ships"]) == 2]
    for captain, masts in (("Mira", 30), ("Mira", 31), ("Mira", 29), ("mIRA", 31), ("xMirax", 31), (None, 31)):
        assert [row for first, row in single if (first["captain"], first["masts"]) == ("Mira", 31)].count(
            {"name": 5, "captain": captain, "masts": masts}
        )


PUBLISHED = (
    "CREATE TABLE inns (Inn_ID VARCHAR, Town VARCHAR); CREATE TABLE guests (Name VARCHAR, Inn_ID VARCHAR, Nights)"
)


@pytest.mark.parametrize(
    "context, reference, wrong",
    [
        (
            PUBLISHED,
            "SELECT T2.Name FROM inns AS T1 JOIN guests AS T2 ON T1.Inn_ID = T2.Inn_ID WHERE T1.Town = 'Old Mill'",
            "SELECT T2.Name FROM inns AS T1 JOIN guests AS T2 ON T1.Inn_ID = T2.Inn_ID",
        ),
        (
            PUBLISHED,
            "SELECT Town FROM inns WHERE NOT Inn_ID IN (SELECT Inn_ID FROM guests)",
            "SELECT Town FROM inns WHERE Inn_ID IN (SELECT Inn_ID FROM guests)",
        ),
        (
            PUBLISHED,
            "SELECT Name FROM guests GROUP BY Name HAVING COUNT(*) >= 2",
            "SELECT Name FROM guests GROUP BY Name",
        ),
        (
            PUBLISHED,
            "SELECT Name FROM guests ORDER BY Nights DESC LIMIT 1",
            "SELECT Name FROM guests ORDER BY Nights LIMIT 1",
        ),
        (
            # a table declared twice has the columns of both
            "CREATE TABLE mills (Town VARCHAR); CREATE TABLE mills (Town VARCHAR, Sails INTEGER)",
            "SELECT Town FROM mills WHERE Sails > (SELECT AVG(Sails) FROM mills)",
            "SELECT Town FROM mills WHERE Sails < (SELECT AVG(Sails) FROM mills)",
        ),
        (
            "CREATE TABLE table_name_12 (price DECIMAL(10, 2), class VARCHAR, PRIMARY KEY (price))",
            'SELECT price FROM table_name_12 WHERE class = "first"',
            'SELECT price FROM table_name_12 WHERE price = "first"',
        ),
    ],
)
def test_contexts_as_they_are_published(context, reference, wrong):
    assert compared(context, reference, reference) == (True, True)
    assert compared(context, reference, wrong) == (False, True)


@pytest.mark.parametrize(
    "context, reference",
    [
        (CONTEXT, "SELECT 1st_mast FROM ships"),  # no name in SQLite
        (CONTEXT, "SELECT name FROM boats"),
        ("", "SELECT name FROM ships"),
        ("CREATE TABLE ships (name TEXT", "SELECT name FROM ships"),
        ("CREATE TABLE ships (name TEXT DEFAULT)", "SELECT name FROM ships"),
        ("CREATE TABLE ships AS SELECT 1 AS name", "SELECT name FROM ships"),
        ("CREATE TABLE ships (\ud800 TEXT)", "SELECT name FROM ships"),
        (f"CREATE TABLE ships (name TEXT CHECK ({'(' * 500}name{')' * 500}))", "SELECT name FROM ships"),
        ("(" * 100_000, "SELECT name FROM ships"),
        (CONTEXT, "SELECT name FROM ships WHERE masts > 3 AND masts < 2"),  # never a row
    ],
)
def test_where_execution_tells_nothing_texts_are_compared(context, reference):
    assert same_result(context, reference, f"  {reference.replace('SELECT', 'select')} ;\n")
    assert not same_result(context, reference, reference.replace("name", "captain").replace("1st", "2nd"))
    assert not same_result(context, reference, "SELECT 1 WHERE 0")


def test_text_in_quotes_keeps_its_case_when_texts_are_compared():
    assert sql_execution.normal("SELECT a FROM b WHERE c='X'") == sql_execution.normal(
        "select A from B where C = 'X' ;"
    )
    assert sql_execution.normal("SELECT a WHERE c = 'X'") != sql_execution.normal("SELECT a WHERE c = 'x'")


@pytest.mark.parametrize(
    "query, in_order",
    [
        ("SELECT a FROM b order  by c", True),
        ("SELECT a FROM b WHERE c = 'ORDER BY'", False),
        ("SELECT a FROM b WHERE c IN (SELECT d FROM (SELECT e FROM f) ORDER BY d)", False),
        ("SELECT a FROM b WHERE c IN (SELECT d FROM e) ORDER BY f", True),
    ],
)
def test_the_order_of_the_outermost_select_is_what_counts(query, in_order):
    assert sql_execution.ordered(query) is in_order


# what a query may hold, and what is made of a context


@pytest.mark.parametrize(
    "answer",
    [
        f"SELECT name FROM ships WHERE masts > {LONG}",
        f"SELECT name FROM ships WHERE masts = {'(' * 5000}1{')' * 5000}",
        "(" * 100_000,
        "SELECT name FROM ships WHERE name = '\ud83d'",
        "SELECT CAST(X'FF' AS TEXT) FROM ships",
        "SELECT 9e999 - 9e999, SUM(9223372036854775807) FROM ships",
        "SELECT ABS(-9223372036854775807 - 1) FROM ships",
        "SELECT name FROM ships WHERE name REGEXP 'a'",
        f"SELECT name FROM ships WHERE {' AND '.join(['1'] * 3000)}",
    ],
)
def test_whatever_the_texts_hold_there_is_a_score(answer):
    """As an answer, as a reference and as a context."""
    reference = "SELECT name FROM ships WHERE masts > 3"
    assert same_result(CONTEXT, reference, answer) is False
    assert same_result(answer, reference, reference) is True and same_result(answer, reference, "SELECT 1") is False
    assert same_result(CONTEXT, answer, answer) is True and same_result(CONTEXT, answer, "SELECT 'no'") is False


@pytest.mark.parametrize(
    "value", ["99999999999999999999", "9223372036854775807", "-9223372036854775808", "1e400", LONG]
)
@pytest.mark.parametrize("kind", ["INTEGER", "VARCHAR", "DECIMAL(10, 2)"])
def test_numbers_beyond_64_bit(kind, value):
    context = f"CREATE TABLE guests (phone {kind}, name VARCHAR)"
    reference = f"SELECT name FROM guests WHERE phone = {value}"
    assert compared(context, reference, f"SELECT name FROM guests WHERE {value} = phone") == (True, True)
    assert compared(context, reference, "SELECT name FROM guests") == (False, True)


@pytest.mark.parametrize(
    "context, reference, answer",
    [
        ("(id INTEGER PRIMARY KEY, name TEXT, age INTEGER)", None, None),
        ("(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL ON CONFLICT FAIL, age INTEGER)", None, None),
        (
            "(`id` INT(11) UNSIGNED NOT NULL AUTO_INCREMENT COMMENT 'its number, in full', name TEXT, age INT)",
            None,
            None,
        ),
        (
            "(name TEXT, age INT, PRIMARY KEY (`name`), KEY `by_age` (`age`)) ENGINE=InnoDB DEFAULT CHARSET=utf8",
            None,
            None,
        ),
        ("(name TEXT UNIQUE, age INTEGER CHECK (age > 0 AND age < 100))", None, None),
        ("(name TEXT, age DECIMAL(10, 2), PRIMARY KEY (name, age)) WITHOUT ROWID", None, None),
        ("(name TEXT, age REAL DEFAULT (1 + 2), UNIQUE (age), CHECK (age > 3))", None, None),
        ("(name TEXT DEFAULT 'a, (b', age INTEGER)", None, None),
        ("(name VARCHAR(20) COLLATE utf8_bin, age SMALLINT REFERENCES years (year) ON DELETE CASCADE)", None, None),
        ("(name TEXT, age INT, half INT GENERATED ALWAYS AS (age / 2) STORED)", None, None),
        ("(name NVARCHAR(MAX), age INT IDENTITY(1, 1), CONSTRAINT k FOREIGN KEY (age) REFERENCES u (v))", None, None),
        ("(name ENUM('a', 'b'), age SERIAL, tags TEXT[], seen TIMESTAMP WITH TIME ZONE)", None, None),
        ("(\n  name TEXT, -- of the person, in full\n  /* in years, (rounded) */ age INTEGER -- last\n)", None, None),
        ("(name TEXT, # in full\n age INTEGER)", None, None),
        ("(name, age)", None, None),
        ("(name TEXT); CREATE TABLE t (name TEXT, age INTEGER)", None, None),
        ("(Name TEXT, AGE INTEGER);\nINSERT INTO t VALUES ('x', 3);", None, None),
        (
            '("first name" TEXT, age INTEGER)',
            'SELECT "first name" FROM t WHERE age > 4',
            "SELECT [First Name] FROM t WHERE 4 < age",
        ),
        (
            "(`School/Club` TEXT, age INT)",
            "SELECT `School/Club` FROM t WHERE age > 4",
            'SELECT "School/Club" FROM t WHERE 4 < age',
        ),
        (
            "(order INTEGER, age INTEGER)",
            "SELECT order FROM t WHERE age > 4 ORDER BY order",
            'SELECT "order" FROM t WHERE age > 4 ORDER BY "order"',
        ),
        (
            "(group TEXT, to INT)",
            "SELECT group, COUNT(*) FROM t WHERE to > 4 GROUP BY group",
            'SELECT "group", COUNT(*) FROM t WHERE 4 < "to" GROUP BY 1',
        ),
        (
            "(2nd_leg VARCHAR, team VARCHAR)",
            'SELECT 2nd_leg FROM t WHERE team = "x"',
            "SELECT t.2nd_leg FROM t WHERE 'x' = team",
        ),
        ("(Größe INTEGER, Ärzte TEXT)", "SELECT Ärzte FROM t WHERE Größe > 4", "SELECT Ärzte FROM t WHERE 4 < größe"),
    ],
)
def test_schemas_of_any_dialect(context, reference, answer):
    """The answer is the reference, written otherwise."""
    reference, answer = reference or "SELECT name FROM t WHERE age > 4", answer or "SELECT t.name FROM t WHERE 4 < age"
    other = re.sub(r"> 4", ">= 4", reference).replace('= "x"', '>= "x"')
    for mark in ("t", "IF NOT EXISTS t", "`t`", '"t"', "public.t"):
        declared = f"CREATE TABLE {mark} {context}"
        assert compared(declared, reference, answer) == (True, True), declared
        assert compared(declared, reference, other) == (False, True), declared
    assert compared(f"create temporary table t {context}", reference, answer) == (True, True)


def test_a_name_with_its_schema_in_front():
    context = 'CREATE TABLE shop.sales (item TEXT); CREATE TABLE "shop floor" (item TEXT)'
    query = 'SELECT item FROM shop.sales UNION ALL SELECT item FROM "shop floor"'
    assert compared(context, query, 'SELECT item FROM "shop floor" UNION ALL SELECT sales.item FROM sales') == (
        True,
        True,
    )


DUMPS = {
    "mysql": """
DROP TABLE IF EXISTS `t`;
/*!40101 SET character_set_client = utf8 */;
CREATE TABLE `t` (
  `name` varchar(255) COLLATE utf8mb4_unicode_ci DEFAULT NULL COMMENT 'the guild\\'s (own; name',
  `age` int(11) NOT NULL,
  KEY `by_age` (`age`)
) ENGINE=InnoDB AUTO_INCREMENT=42 DEFAULT CHARSET=utf8mb4 COMMENT='members; of the guild';
DELIMITER ;;
CREATE TRIGGER `older` BEFORE INSERT ON `t` FOR EACH ROW BEGIN SET NEW.age = NEW.age + 1; END ;;
DELIMITER ;
""",
    "postgres": """
SET statement_timeout = 0;
CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;
CREATE FUNCTION public.older() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE UNLOGGED TABLE public.t (
    name character varying(120)[] NOT NULL,
    age numeric(12,2) DEFAULT 0 CHECK ((age > (0)::numeric))
) PARTITION BY RANGE (age);
ALTER TABLE ONLY public.t ADD CONSTRAINT t_pkey PRIMARY KEY (name);
""",
    "tsql": """
SET ANSI_NULLS ON
GO
CREATE TABLE [dbo].[u]([id] [int] IDENTITY(1,1) NOT NULL)
GO
CREATE TABLE [dbo].[t](
	[name] [nvarchar](max) NULL,
	[age] [money] NOT NULL CONSTRAINT [DF_age] DEFAULT ((0)),
 CONSTRAINT [PK_t] PRIMARY KEY CLUSTERED ([age] ASC) WITH (PAD_INDEX = OFF, IGNORE_DUP_KEY = OFF) ON [PRIMARY]
) ON [PRIMARY] TEXTIMAGE_ON [PRIMARY]
GO
""",
    "oracle": """
CREATE TABLE "HR"."T" ("NAME" VARCHAR2(30 CHAR) NOT NULL ENABLE, "AGE" NUMBER(8,2) DEFAULT 0)
  PCTFREE 10 STORAGE (INITIAL 64K NEXT 1M) TABLESPACE "USERS" ;
""",
}


@pytest.mark.parametrize("dump", DUMPS.values(), ids=DUMPS)
def test_what_stands_around_the_tables_of_a_dump(dump):
    assert [*sql_schema.tables(dump)["t"].columns] == ["name", "age"]
    query = "SELECT name FROM t WHERE age > 4"
    assert compared(dump, query, "SELECT t.name FROM t WHERE 4 < age") == (True, True)
    assert compared(dump, query, "SELECT name FROM t WHERE age >= 4") == (False, True)


@pytest.mark.parametrize(
    "context",
    [
        "CREATE TABLE a(" * 3000,
        f"CREATE TABLE {'9' * 40_000} # a (id INT)",
        f"CREATE TABLE a{'/**/' * 10_000}x",
        f"CREATE TABLE a {' ' * 40_000}x (id INT",
    ],
    ids=lambda context: context[:20],
)
def test_a_context_of_any_form_is_read_at_once(context):
    start = time.process_time()
    assert sql_schema.tables(context) == {}
    assert time.process_time() - start < 1


def test_a_format_that_says_something_twice():
    query = "SELECT name FROM ships WHERE STRFTIME('%Y%Y', captain) = '20192019' AND masts > 3"
    assert same_result(CONTEXT, query, query) is True


def test_keys_of_a_context_hold():
    """So that a query that relies on them is right; without them it is not."""
    query, answer = "SELECT DISTINCT id FROM t WHERE age > 4", "SELECT id FROM t WHERE age > 4 AND id IS NOT NULL"
    for keys in (
        "id INTEGER PRIMARY KEY, age INT",
        "id TEXT NOT NULL, age INT, UNIQUE (id)",
        "id INT, age INT, PRIMARY KEY (id)",
    ):
        assert compared(f"CREATE TABLE t ({keys})", query, answer) == (True, True), keys
    assert compared("CREATE TABLE t (id INTEGER, age INT)", query, answer) == (False, True)


@pytest.mark.parametrize(
    "told",
    [
        "DATE('now')",
        "DATE('NOW', 'start of year')",
        "DATE()",
        "TIME('n' || 'ow')",
        "STRFTIME('%Y')",
        "STRFTIME('%Y', 'now')",
        "JULIANDAY()",
        "UNIXEPOCH('subsec')",
        "DATETIME('2000-01-01', 'localtime')",
        "CURRENT_DATE",
        "CURRENT_TIME",
        "CURRENT_TIMESTAMP",
        "SQLITE_VERSION()",
    ],
)
def test_no_score_depends_on_the_time_or_machine(told):
    assert same_result(CONTEXT, "SELECT name FROM ships", f"SELECT name FROM ships WHERE {told} IS NOT NULL") is False
    assert compared(CONTEXT, f"SELECT {told} FROM ships", f"SELECT {told} FROM ships") == (True, False)


def test_dates_of_rows_are_no_secret():
    context = "CREATE TABLE guests (born DATE, name TEXT)"
    reference = "SELECT name FROM guests WHERE DATE(born, '+1 day') > '1990-05-01'"
    assert compared(context, reference, "SELECT name FROM guests WHERE '1990-05-01' < DATE(born, '+1 day')") == (
        True,
        True,
    )
    assert compared(context, reference, "SELECT name FROM guests") == (False, True)


def test_nothing_of_a_context_runs():
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT MAX(i) FROM n"
    start = time.process_time()
    for part in (f"CHECK (age > ({endless}))", f"DEFAULT ({endless})", "DEFAULT (HEX(ZEROBLOB(500000000)))"):
        query = "SELECT age FROM t WHERE age > 4"
        assert compared(f"CREATE TABLE t (age INTEGER {part})", query, query) == (True, True)
    assert time.process_time() - start < 2


def test_ties_decide_nothing():
    context = "CREATE TABLE mills (name TEXT, sails INTEGER, town TEXT)"
    for reference, answer in (
        ("SELECT name FROM mills ORDER BY sails", "SELECT name FROM mills ORDER BY sails, name DESC"),
        ("SELECT name FROM mills ORDER BY sails LIMIT 2", "SELECT name FROM mills ORDER BY sails, name DESC LIMIT 2"),
        ("SELECT name FROM mills LIMIT 3", "SELECT name FROM (SELECT * FROM mills ORDER BY town) LIMIT 3"),
        (
            "SELECT town FROM mills GROUP BY town ORDER BY COUNT(*) DESC LIMIT 1",
            "SELECT town FROM mills GROUP BY town ORDER BY COUNT(*) DESC, town DESC LIMIT 1",
        ),
        (
            "SELECT town FROM mills GROUP BY town ORDER BY COUNT(*) DESC LIMIT 1",
            "SELECT town FROM mills GROUP BY town ORDER BY COUNT(*) DESC, town LIMIT 1",
        ),
        (
            "SELECT COUNT(*), town FROM mills GROUP BY town ORDER BY COUNT(*)",
            "SELECT COUNT(*), town FROM mills GROUP BY town ORDER BY COUNT(*), town DESC",
        ),
        (
            "SELECT name FROM mills WHERE town = (SELECT town FROM mills GROUP BY town ORDER BY COUNT(*) LIMIT 1)",
            "SELECT name FROM mills WHERE town = (SELECT town FROM mills GROUP BY 1 ORDER BY COUNT(*), 1 DESC LIMIT 1)",
        ),
    ):
        assert compared(context, reference, answer) == (True, True), reference
    assert compared(context, "SELECT name FROM mills LIMIT 3", "SELECT name FROM mills LIMIT 4") == (False, True)


def test_the_tables_of_a_request_and_how_many_references_were_executed(capsys):
    asked = [
        ("Who is old?", "create table people (name TEXT, age INTEGER)", "SELECT name FROM people WHERE age > 80"),
        ("Create a list.", "CREATE TEMPORARY TABLE people (name TEXT, age INTEGER)", "SELECT name FROM people"),
        ("Who?", "CREATE TABLE people (name TEXT)", "SELECT 2 AS nd_name FROM persons"),
    ]
    rows = [sql.published(dict(zip(("question", "context", "answer"), row, strict=True))) for row in asked]
    assert {type(row) for row in rows} == {Example} and [row.subject for row in rows] == ["people"] * 3
    answers = [rows[0].assistant.replace("age > 80", "80 < age"), "SELECT age FROM people", rows[2].assistant]
    scores = sql.score(rows, answers)
    assert scores["execution"] == [1.0, 0.0, 1.0] and scores["executed"] == [1.0, 1.0, 0.0]
    assert "1 of 3 SQL references return nothing when executed" in capsys.readouterr().err
