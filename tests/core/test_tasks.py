"""The tasks of the mixed setting: generated rows, published files, ROUGE."""

import json
import random
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from rouge_score import rouge_scorer, tokenizers

from bsa_core import paths, profiles, refusals, tasks
from bsa_core.examples import Example, digest, leaked
from bsa_core.experiment import runs
from bsa_core.tasks import Task, base, builtin
from bsa_study.testbed import wordlevel

NAMES = ("dialogs", "sql")
SEEDS = (0, 1)
WORD = re.compile(r"[^\s.,:;?()=\"*<>]+")


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
    assert sql.score(list(sql.test), references(sql)) == dict.fromkeys(("rouge1", "execution", "executed"), [1.0] * 200)
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
            task.score(list(task.test[:3]), references(task)[:2])


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


SENTENCES = [
    ("他们在桥上打招呼。", "他们在桥上道别。"),
    ("वे पुल पर नमस्ते करते हैं", "वे पुल पर नमस्ते करती हैं"),
    ("Они здороваются на мосту.", "Они прощаются на мосту."),
    ("橋の上で挨拶する", "橋の下で挨拶する"),
    ("다리에서 인사합니다", "다리에서 헤어집니다"),
    ("يتبادلان التحية على الجسر", "يتبادلان الكتب على الجسر"),
    ("พวกเขาทักทายกันบนสะพาน", "พวกเขาทักทายกันใต้สะพาน"),
    ("Χαιρετιούνται στη γέφυρα", "Χαιρετιούνται στην πόλη"),
    ("הם מברכים על הגשר", "הם מברכים על הכיכר"),
    ("Sie grüßen sich auf der Brücke", "Sie grossen sich auf der Brucke"),
    ("🌧 👋🏽 👍", "🌧 👋🏽 👎"),
    ("kettle ☕ at ten", "kettle ☔ at ten"),
]


@pytest.mark.parametrize("text, other", SENTENCES)
@pytest.mark.parametrize("kind", ["rouge1", "rougeL"])
def test_rouge_of_any_script(kind, text, other):
    assert tasks.rouge([text, text, text], [text, f"{text}.", other], kind)[:2] == [1.0, 1.0]
    assert 0 < tasks.rouge([text], [other], kind)[0] < 1
    assert tasks.rouge([text], ["ships sail"], kind) == [0.0]


def test_rouge_takes_composed_and_decomposed_accents_for_the_same():
    assert tasks.rouge(
        [unicodedata.normalize("NFC", "Größe é")], [unicodedata.normalize("NFD", "größe É")], "rouge1"
    ) == [1.0]


def test_rouge_of_ascii_is_that_of_the_library(dialogs):
    """Score by score and token by token."""
    rng = random.Random(0)
    texts = [row.assistant for row in dialogs.test] + [
        "".join(rng.choice(string.printable) for _ in range(rng.randint(0, 60))) for _ in range(400)
    ]
    pairs = list(zip(texts, rng.sample(texts, len(texts)), strict=True)) + list(zip(texts, texts, strict=True))
    default = rouge_scorer.RougeScorer(["rouge1", "rougeL"], use_stemmer=False)
    for kind in ("rouge1", "rougeL"):
        expected = [round(default.score(reference, answer)[kind].fmeasure, 4) for reference, answer in pairs]
        assert tasks.rouge(*zip(*pairs, strict=True), kind) == expected
    ascii_alone = "".join(map(chr, range(128)))
    assert base.Words().tokenize(f"{ascii_alone} A_b") == tokenizers.DefaultTokenizer().tokenize(f"{ascii_alone} A_b")


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
    scores = task.score(list(task.test), references(task))
    assert scores.pop("executed", None) in (None, [1.0, 1.0]) and set(map(tuple, scores.values())) == {(1.0, 1.0)}


def test_a_test_request_that_also_trains_is_told_once(folder, capsys):
    source = profiles.TaskSource({"name": folder.name, "folder": str(folder)})
    scale = replace(profiles.load("tiny"), name=f"leak {folder.name}", tasks={"mine": source})
    for _ in range(2):
        runs.material(scale, [runs.describe(scale, task="mine")])
    told = "1 of 2 evaluated requests of task mine also stand in training rows; records count them as leaked"
    assert capsys.readouterr().err == f"[bsa] leak {folder.name}: {told}\n"


@pytest.mark.parametrize("linked", [False, True])
def test_a_copy_of_the_release_holds_the_files_of_both_tasks(tmp_path, linked):
    place = tmp_path / "release" / "opensource" / "ft_datasets"
    target = tmp_path / "elsewhere" if linked else place
    for name, called in (("sql", "sqlgen_dataset"), ("dialogs", "samsum_dataset")):
        (target / called).mkdir(parents=True)
        for part in FILES:
            (target / called / f"{part}.json").write_text(json.dumps(ROWS[name]), encoding="utf-8")
    if linked:
        place.parent.mkdir(parents=True)
        place.symlink_to(target)
    release = tmp_path / "release"
    for name in NAMES:
        assert len(tasks.load({"name": name, "folder": str(release)}).training) == 2
    for called in ("sqlgen_dataset", "samsum_dataset"):
        (target / called).rename(target / f"{called}2")
    with pytest.raises(ValueError, match=r"samsum_dataset2, .*sqlgen_dataset2; expected one folder with train1000"):
        tasks.load({"name": "sql", "folder": str(release)})
    with pytest.raises(ValueError, match=r"tasks.sql.folder: .*, here or below: none; expected one folder with"):
        tasks.load({"name": "sql", "folder": str(paths.BOOK)})


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
