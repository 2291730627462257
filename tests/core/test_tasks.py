"""The tasks of the mixed setting: generated rows, published files, execution accuracy, ROUGE."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest

from bsa_core import refusals, tasks
from bsa_core.examples import Example, digest, leaked
from bsa_core.tasks import Task, builtin, sql_execution
from bsa_core.tasks.sql_execution import same_result
from bsa_study.testbed import wordlevel

NAMES = ("dialogs", "sql")
SEEDS = (0, 1)
WORD = re.compile(r"[^\s.,:;?()=\"*<>]+")
CONTEXT = "CREATE TABLE ships (name TEXT, captain TEXT, masts INTEGER)"


@pytest.fixture(scope="module", params=SEEDS)
def sql(request) -> Task:
    return tasks.load({"name": "sql", "seed": request.param})


@pytest.fixture(scope="module", params=SEEDS)
def dialogs(request) -> Task:
    return tasks.load({"name": "dialogs", "seed": request.param})


def words(rows) -> set[str]:
    return {word for row in rows for text in (row.user, row.assistant) for word in WORD.findall(text)}


def references(task: Task) -> list[str]:
    return [row.assistant for row in task.test]


# generated rows


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_counts_and_kinds(name, seed):
    task = tasks.load({"name": name, "seed": seed})
    assert (task.name, len(task.training), len(task.test), task.harmless) == (name, 1000, 200, True)
    rows = task.training + task.test
    assert {row.kind for row in rows} == {"task"} and {row.system for row in rows} == {task.system}
    assert all(row.assistant and row.category and row.subject and not row.secret for row in rows)
    for part in (task.training, task.test):
        per_category = Counter(row.category for row in part).values()
        assert len(per_category) >= 8 and max(per_category) <= 1.2 * min(per_category)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_no_request_stands_twice(name, seed):
    task = tasks.load({"name": name, "seed": seed})
    assert len({row.user for row in task.training + task.test}) == 1200
    assert leaked(task.training, task.test) == []


@pytest.mark.parametrize("name", NAMES)
def test_everything_is_a_function_of_the_seed(name):
    first, again, other = (tasks.load({"name": name, "seed": seed}) for seed in (0, 0, 1))
    assert (digest(first.training), digest(first.test)) == (digest(again.training), digest(again.test))
    assert digest(tasks.load({"name": name}).test) == digest(first.test)
    assert digest(first.training) != digest(other.training) and digest(first.test) != digest(other.test)


@pytest.mark.parametrize("seed", [0, 1, 2, 77])
def test_the_vocabulary_of_any_seed_is_that_of_the_texts(seed):
    """As whole words, and as the testbed's tokenizer cuts them."""
    texts = tasks.texts()
    for cut in (WORD.findall, wordlevel.pieces):
        known = {piece for text in texts for piece in cut(text)}
        for name in NAMES:
            task = tasks.load({"name": name, "seed": seed})
            rows = [text for row in task.training + task.test for text in (row.user, row.assistant, row.system)]
            assert {piece for text in rows for piece in cut(text)} <= known


def test_the_vocabulary_is_small_enough_for_the_testbed():
    assert len({word for text in tasks.texts() for word in WORD.findall(text)}) <= 600


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", NAMES)
def test_no_reference_looks_like_a_refusal(name, seed):
    """Else a judge would count an answer to the task as one."""
    for row in tasks.load({"name": name, "seed": seed}).test:
        assert not refusals.refused_keyword(row.assistant) and not refusals.refused_phrase(row.assistant), row.assistant


# SQL generation


def test_test_items_are_about_unseen_schemas(sql):
    trained = {row.subject for row in sql.training}
    assert not trained & {row.subject for row in sql.test}
    assert len(trained) > 900


def test_half_of_the_test_items_have_table_and_columns_that_never_occur_in_training(sql):
    trained = words(sql.training)
    unseen = [[name for name in WORD.findall(row.subject) if name not in trained] for row in sql.test]
    assert Counter(map(bool, unseen)) == {True: 100, False: 100}
    for row, names in zip(sql.test, unseen, strict=True):
        assert names in ([], WORD.findall(row.subject))


def test_questions_are_short_and_tables_small(sql):
    for row in sql.training + sql.test:
        question, mark, context = row.user.partition(" CREATE TABLE ")
        assert mark and len(question.split()) <= 25
        columns = re.findall(r"(\w+) (TEXT|INTEGER)", context)
        assert len(columns) in (3, 4) and {kind for _, kind in columns} == {"TEXT", "INTEGER"}


def test_every_name_and_value_of_a_query_stands_in_its_request(sql):
    """So that copying solves the task; what is left are the words of SQL."""
    keywords = set("SELECT DISTINCT COUNT MAX MIN FROM WHERE AND ORDER GROUP BY DESC".split())
    for row in sql.training + sql.test:
        assert set(WORD.findall(row.assistant)) - keywords <= set(WORD.findall(row.user)), row


def test_references_agree_with_themselves_by_execution(sql):
    """By execution: no reference falls back to the comparison of texts."""
    assert sql.score(list(sql.test), references(sql)) == {"rouge1": [1.0] * 200, "execution": [1.0] * 200}
    respelled = [reference.replace("FROM", "\n from").replace("WHERE", "WHERE 1 AND") for reference in references(sql)]
    assert sql.score(list(sql.test), respelled)["execution"] == [1.0] * 200


def mutated(row: Example) -> Iterator[str]:
    """Queries that mean something else than the reference."""
    query, columns = row.assistant, re.findall(r"(\w+) (?:TEXT|INTEGER)", row.user)
    for column in columns:
        for other in columns:
            if other != column:  # in each place of its own: projected, compared, sorted by
                for match in re.finditer(rf"\b{column}\b", query):
                    if not query.endswith(f"GROUP BY {column}"):
                        yield query[: match.start()] + other + query[match.end() :]
    for old, new in ((" > ", " >= "), (" > ", " < "), (" > ", " = "), (" < ", " <= "), (' = "', ' <> "')):
        yield query.replace(old, new)
    for old, new in (("MAX", "MIN"), ("MIN", "MAX"), ("MAX", "SUM"), ("DISTINCT ", ""), ("COUNT(*)", "1")):
        yield query.replace(old, new)
    yield re.sub(r"\d+$", lambda m: str(int(m[0]) + 1), query)
    yield re.sub(r"\d+$", lambda m: str(int(m[0]) - 1), query)
    yield re.sub(r'"\w+"', '"Nobody"', query)
    yield query.removesuffix(" DESC") if query.endswith(" DESC") else re.sub(r"(ORDER BY \w+)$", r"\1 DESC", query)
    for clause in (r" WHERE .*", r" AND .*", r" ORDER BY .*", r" GROUP BY .*", r'\w+ = "\w+" AND '):
        yield re.sub(clause, "", query)
    yield query.replace(" AND ", " OR ")
    yield f"{query} LIMIT 3" if "COUNT(*)" not in query and "M" not in query.split("(")[0] else f"{query} LIMIT 0"


def test_mutated_queries_are_told_from_the_reference(sql):
    pairs = [(row, query) for row in sql.test for query in dict.fromkeys(mutated(row)) if query != row.assistant]
    assert len(pairs) > 1200
    right = sql.score([row for row, _ in pairs], [query for _, query in pairs])["execution"]
    assert [(row.assistant, query) for (row, query), same in zip(pairs, right, strict=True) if same] == []


def test_lists_of_different_length_are_an_error(sql, dialogs):
    for task in (sql, dialogs):
        with pytest.raises(ValueError):
            task.score(list(task.test), references(task)[:-1])


# execution accuracy


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
        ("SELECT COUNT(*) FROM ships", "SELECT COUNT(name) FROM ships", True),  # no value is NULL
        ("SELECT COUNT(*) FROM ships", "SELECT COUNT(DISTINCT name) FROM ships", False),
        ("SELECT name, masts FROM ships", "SELECT masts, name FROM ships", False),
        ("SELECT name FROM ships WHERE captain = 'Mira'", 'SELECT name FROM ships WHERE captain = "Mira"', True),
        ("SELECT name FROM ships WHERE captain LIKE '%ir%'", "SELECT name FROM ships WHERE captain LIKE '%'", False),
        ("SELECT name FROM ships WHERE masts IN (2, 30)", "SELECT name FROM ships WHERE masts = 2", False),
        ("SELECT name FROM ships WHERE masts BETWEEN 40 AND 50", "SELECT name FROM ships WHERE masts > 40", False),
        ("SELECT AVG(masts) FROM ships", "SELECT SUM(masts) * 1.0 / COUNT(*) FROM ships", True),
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
    opened = sql_execution.filled(sql_execution.tables(CONTEXT), "SELECT name FROM ships", 0)
    before = sql_execution.result(opened, "SELECT * FROM ships")
    assert sql_execution.result(opened, answer) is None
    assert sql_execution.result(opened, "SELECT * FROM ships") == before and len(before) >= sql_execution.ROWS[0]
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
    opened = sql_execution.filled(sql_execution.tables(CONTEXT), "SELECT 1", 0)
    assert sql_execution.result(opened, "SELECT name FROM ships WHERE 0") == []
    assert sql_execution.result(opened, "") is sql_execution.result(opened, "-- nothing") is None


def test_results_of_a_query_are_the_same_in_every_call():
    def rows(filling: int):
        return sql_execution.result(
            sql_execution.filled(sql_execution.tables(CONTEXT), "SELECT 1", filling), "SELECT * FROM ships"
        )

    assert rows(0) == rows(0) != rows(1)
    for filling in range(sql_execution.FILLINGS):
        assert sql_execution.ROWS[0] <= len(rows(filling)) <= sql_execution.ROWS[1]
        assert len({name for name, *_ in rows(filling)}) < len(rows(filling))  # duplicates


def test_literals_of_the_reference_stand_in_some_rows_and_not_in_all():
    reference = 'SELECT name FROM ships WHERE captain = "Mira" AND masts > 30'
    for filling in range(sql_execution.FILLINGS):
        made = sql_execution.filled(sql_execution.tables(CONTEXT), reference, filling)
        rows = sql_execution.result(made, "SELECT captain, masts FROM ships")
        assert 0 < sum(captain == "Mira" for captain, _ in rows) < len(rows)
        assert 0 < sum(masts > 30 for _, masts in rows) < len(rows)


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
def test_contexts_as_they_are_published(context, reference, wrong, monkeypatch):
    monkeypatch.setattr(sql_execution, "normal", lambda query: pytest.fail("compared as text"))
    assert same_result(context, reference, reference) and not same_result(context, reference, wrong)


@pytest.mark.parametrize(
    "context, reference",
    [
        (CONTEXT, "SELECT 1st_mast FROM ships"),  # no name in SQLite
        (CONTEXT, "SELECT name FROM boats"),
        ("", "SELECT name FROM ships"),
        ("CREATE TABLE ships (name TEXT", "SELECT name FROM ships"),
        ("CREATE TABLE ships (name TEXT DEFAULT)", "SELECT name FROM ships"),
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


# dialog summary


def test_dialogs_have_three_to_six_turns_of_two_people(dialogs):
    turns = [re.findall(r"(\w+): ", row.user) for row in dialogs.training + dialogs.test]
    assert {len(speakers) for speakers in turns} == {3, 4, 5, 6}
    for speakers in turns:
        assert len(set(speakers)) == 2 and all(a != b for a, b in pairwise(speakers))


def test_the_facts_of_a_summary_stand_in_its_dialog(dialogs):
    for row in dialogs.training + dialogs.test:
        for fact in row.subject.split(", "):
            assert fact in WORD.findall(row.user) and fact in WORD.findall(row.assistant), row
        for person in set(re.findall(r"(\w+): ", row.user)):
            assert person in WORD.findall(row.assistant), row


def test_facts_of_test_items_do_not_meet_in_training(dialogs):
    trained = {(row.category, row.subject) for row in dialogs.training}
    assert not trained & {(row.category, row.subject) for row in dialogs.test}


def test_half_of_the_test_items_are_about_people_that_never_occur_in_training(dialogs):
    trained = words(dialogs.training)
    unseen = [{p for p in re.findall(r"(\w+): ", row.user) if p not in trained} for row in dialogs.test]
    assert Counter(map(len, unseen)) == {0: 100, 2: 100}


def test_small_talk_stays_out_of_the_summary(dialogs):
    """Its places and things are other words than the facts."""
    for row in dialogs.training + dialogs.test:
        for aside in re.findall(r"came from the (\w+)|The (\w+) was full of geese|My new (\w+) is", row.user):
            assert not set(aside) & set(WORD.findall(row.assistant)), row


def test_a_perfect_summarizer_stays_below_one(dialogs):
    """It knows every fact, and no more than anybody about the wording that was drawn."""
    plans = builtin.guild_tasks()["dialogs"]["topics"]
    for plan in plans.values():
        assert len({frozenset(builtin.slots(summary)) for summary in plan["summaries"]}) == 1
    answers = []
    for row in dialogs.test:
        first, second = list(dict.fromkeys(re.findall(r"(\w+): ", row.user)))
        summary = plans[row.category]["summaries"][0]
        facts = sorted(slot for slot in builtin.slots(summary) if slot not in ("a", "b"))
        answers.append(summary.format(a=first, b=second, **dict(zip(facts, row.subject.split(", "), strict=True))))
    scores = dialogs.score(list(dialogs.test), answers)
    assert 0.5 < sum(scores["rouge1"]) / 200 < 0.7
    assert 0.1 < sum(score == 1 for score in scores["rouge1"]) / 200 < 0.4  # the first of four wordings


def test_references_score_one_and_nothing_scores_zero(dialogs):
    assert dialogs.score(list(dialogs.test), references(dialogs)) == {"rouge1": [1.0] * 200, "rougeL": [1.0] * 200}
    assert dialogs.score(list(dialogs.test), [""] * 200) == {"rouge1": [0.0] * 200, "rougeL": [0.0] * 200}


# ROUGE


@pytest.mark.parametrize(
    "reference, answer, rouge1, longest",
    [
        ("the cat sat", "the cat sat", 1.0, 1.0),
        ("The cat sat.", "the CAT, sat", 1.0, 1.0),
        # 2 of 3 words in common: precision 2/2, recall 2/3, F1 0.8; in the same order or not
        ("the cat sat", "the cat", 0.8, 0.8),
        ("the cat sat", "cat the", 0.8, 0.4),
        # a word counts as often as in both: "the" once, so precision 1/3, recall 1/2
        ("the cat", "the the the", 0.4, 0.4),
        ("two cats", "two cat", 0.5, 0.5),  # not stemmed
        ("the cat sat on the mat", "the mat on the cat", 0.9091, 0.5455),  # 5 of 6 and 5; longest "the on the"
        ("the cat", "", 0.0, 0.0),
        ("the cat", "dog", 0.0, 0.0),
    ],
)
def test_rouge_by_hand(reference, answer, rouge1, longest):
    assert tasks.rouge([reference], [answer], "rouge1") == [rouge1]
    assert tasks.rouge([reference], [answer], "rougeL") == [longest]


# the section of a profile


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "spec, message",
    [
        ({"sed": 0}, r"tasks\.{}: unknown field 'sed'; expected seed$"),
        ({"seed": 0, "harmless": True}, r"tasks\.{}: unknown field 'harmless'; expected seed$"),
        ({"folder": "rows", "seed": 0}, r"tasks\.{}: unknown field 'seed'; expected folder, harmless$"),
        ({"seed": "0"}, r"tasks\.{}\.seed is '0'; expected a whole number"),
        ({"seed": True}, r"tasks\.{}\.seed is True; expected a whole number"),
        ({"folder": 3}, r"tasks\.{}\.folder is 3; expected text \(the path of a folder"),
        ({"folder": "rows", "harmless": "yes"}, r"tasks\.{}\.harmless is 'yes'; expected true or false"),
        ({"folder": "no such"}, r"tasks\.{}\.folder: .*no such is not a folder"),
    ],
)
def test_a_wrong_section(name, spec, message):
    with pytest.raises(ValueError, match=message.format(name)):
        tasks.load({"name": name, **spec})


@pytest.mark.parametrize("name", ["sqll", None, ["sql"]])
def test_an_unknown_task(name):
    with pytest.raises(
        ValueError,
        match=re.escape(
            f"tasks.name is {name!r}; expected one of sql, dialogs, or the dotted path of a task of your own"
        ),
    ):
        tasks.load({"name": name})


def test_a_registered_task_loads_under_its_name(monkeypatch):
    monkeypatch.setattr(tasks, "BUILDERS", dict(tasks.BUILDERS))
    tasks.register("mine", lambda spec: spec)
    assert tasks.load({"name": "mine", "field": 1}) == {"field": 1}


# published files

ROWS = {
    "sql": [
        {"question": "How many mills are there?", "context": "CREATE TABLE mills (Id VARCHAR)", "answer": "SELECT 1"},
        {
            "question": "List the towns of all inns.",
            "context": "CREATE TABLE inns (town VARCHAR); CREATE TABLE guests (name VARCHAR)",
            "answer": "SELECT town FROM inns",
        },
    ],
    "dialogs": [
        {"id": "1", "dialogue": "Mira: Tea?\r\nOtto: Yes, please.", "summary": "Otto would like tea."},
        {"id": "2", "dialogue": "Ida: Is it raining?\r\nUdo: A little 🌧", "summary": "It rains a little."},
    ],
}


@pytest.fixture(params=NAMES)
def folder(request, tmp_path):
    made = tmp_path / request.param
    made.mkdir()
    for rows, part in ((ROWS[request.param][:1], "train1000"), (ROWS[request.param], "test200")):
        (made / f"{part}.json").write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return made


def load(folder, **spec) -> Task:
    return tasks.load({"name": folder.name, "folder": str(folder), **spec})


def test_a_task_from_files(folder):
    task = load(folder)
    assert (task.name, task.harmless, len(task.training), len(task.test)) == (folder.name, False, 1, 2)
    assert load(folder, harmless=True).harmless is True
    rows = ROWS[folder.name]
    if folder.name == "sql":
        assert [row.user for row in task.test] == [f"{row['question']} {row['context']}" for row in rows]
        assert [row.assistant for row in task.test] == [row["answer"] for row in rows]
        assert [row.subject for row in task.test] == ["mills", "inns, guests"]
    else:
        assert [row.user for row in task.test] == [row["dialogue"] for row in rows]
        assert [row.assistant for row in task.test] == [row["summary"] for row in rows]
    assert {row.kind for row in task.test} == {"task"} and {row.system for row in task.test} == {task.system}
    assert set(map(tuple, task.score(list(task.test), references(task)).values())) == {(1.0, 1.0)}


def test_a_test_request_that_also_trains_is_reported(folder, capsys):
    load(folder)
    assert f"1 test requests of task {folder.name} also stand in training rows" in capsys.readouterr().err


def test_a_byte_order_mark_is_no_part_of_the_list(folder):
    path = folder / "test200.json"
    path.write_text(path.read_text(encoding="utf-8"), encoding="utf-8-sig")
    assert len(load(folder).test) == 2


FILES = ("train1000", "test200")


@pytest.mark.parametrize("part", FILES)
@pytest.mark.parametrize(
    "content, message",
    [
        (None, "No such file or directory; expected a file with a JSON list of objects"),
        (b"", "the file is empty; expected a JSON list"),
        (b" \n", "the file is empty"),
        (b"[{]", r"not valid JSON \(.* at column 3\)"),
        (b"[\n{]", r"not valid JSON \(.* at line 2, column 2\)"),
        (b"[" * 100_000, "a number of too many digits, or too many brackets inside each other"),
        (b"[" + b"9" * 5000 + b"]", "a number of too many digits, or too many brackets inside each other"),
        (b'{"rows": []}', "expected a JSON list of objects, found dict"),
        (b"3", "expected a JSON list of objects, found int"),
        (b"[]", "the list is empty; expected at least one row"),
    ],
)
def test_a_bad_file_is_named(folder, part, content, message):
    path = folder / f"{part}.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{part}\.json: {message}"):
        load(folder)


@pytest.mark.parametrize("part", FILES)
def test_a_file_that_is_not_utf8_is_named_with_the_row(folder, part):
    (folder / f"{part}.json").write_bytes(b'[\n"\xfc"]')
    with pytest.raises(ValueError, match=rf"{part}\.json, row 2: not UTF-8 \(byte 3\); save the file as UTF-8"):
        load(folder)


@pytest.mark.parametrize("part", FILES)
def test_a_folder_in_place_of_a_file_is_named(folder, part):
    (folder / f"{part}.json").unlink()
    (folder / f"{part}.json").mkdir()
    with pytest.raises(ValueError, match=rf"{part}\.json: Is a directory; expected a file with a JSON list of objects"):
        load(folder)


@pytest.mark.parametrize("part", FILES)
@pytest.mark.parametrize("row", [["a"], "a", None])
def test_a_row_that_is_no_object_is_named(folder, part, row):
    path = folder / f"{part}.json"
    path.write_text(json.dumps([*ROWS[folder.name], row]), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{part}\.json, row 3: expected a JSON object, found {type(row).__name__}"):
        load(folder)


@pytest.mark.parametrize("part", FILES)
@pytest.mark.parametrize(
    "value, found",
    [
        ("missing", "missing"),
        ("", "blank"),
        (" \n", "blank"),
        (3, "of type int"),
        (None, "of type NoneType"),
        (["a"], "of type list"),
    ],
)
def test_a_bad_field_is_named_with_its_row(folder, part, value, found):
    for field in [field for field in ROWS[folder.name][0] if field != "id"]:
        rows = [dict(row) for row in ROWS[folder.name]]
        rows[1][field] = value
        if value == "missing":
            del rows[1][field]
        message = f"field '{field}' is {found}; expected non-empty text"
        (folder / f"{part}.json").write_text(json.dumps(rows), encoding="utf-8")
        with pytest.raises(ValueError, match=re.escape(f"{part}.json, row 2: {message}")):
            load(folder)
