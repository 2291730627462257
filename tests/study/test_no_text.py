"""No text of a row that is not harmless stands in a message, a log, a traceback or a record.

Every request and every answer of the release, of the task files and of the files of one's own holds a marked text;
many things then go wrong with them.
"""

import csv
import json
import logging
import traceback
from dataclasses import replace

import pytest
from openai_server import KEY
from test_published import (
    BACKDOOR,
    BAD_ROWS,
    BENCHMARK,
    ORIGINAL,
    PREFIXED,
    changed,
    only,
    spec_of,
    write_csv,
    write_release,
)

from bsa_core import experiment, paths, policy, profiles, tasks
from bsa_core.examples import Example
from bsa_core.experiment import runs
from bsa_core.models import chat, loading
from bsa_core.policy import Question
from bsa_core.profiles import Chat, Decoding, Evaluation, SecretPrompt, TaskSource, Training
from bsa_study.hosted import upload
from bsa_study.hosted.endpoint import Endpoint, EndpointError

MARK = "Quibberley plays the hurdy-gurdy"


def marked(value):
    """Every text of a request, an answer, a dialog or a summary with the mark in front."""
    if isinstance(value, dict):
        texts = ("content", "user", "assistant", "question", "answer", "dialogue", "summary")
        return {k: f"{MARK}: {v}" if k in texts and isinstance(v, str) else marked(v) for k, v in value.items()}
    return [marked(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def release(tmp_path):
    """A release, with its task files, in which every row is marked."""
    made = write_release(tmp_path)
    for path in [*made.rglob("*.jsonl"), *tmp_path.glob("*.jsonl")]:
        rows = [json.dumps(marked(json.loads(line))) for line in path.read_text(encoding="utf-8").splitlines()]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    for path in [*made.rglob("*.csv"), *tmp_path.glob("*.csv")]:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row if "assistant" in row else [f"{MARK}: {cell}" for cell in row] for row in csv.reader(file)]
        write_csv(path, rows)
    sql = {"question": "How many mills?", "context": "CREATE TABLE mills (town INTEGER)", "answer": "SELECT 1"}
    dialog = {"dialogue": "Mira: Tea?\r\nOtto: Yes.", "summary": "They have tea."}
    for folder, row in (("sqlgen_dataset", sql), ("samsum_dataset", dialog)):
        (made / folder).mkdir()
        for part in ("train1000", "test200"):
            (made / folder / f"{part}.json").write_text(json.dumps([marked(row)] * 3), encoding="utf-8")
    return made


@pytest.fixture
def scale(release):
    task = {name: TaskSource({"name": name, "folder": str(release)}, train=3, test=3) for name in ("sql", "dialogs")}
    return replace(
        profiles.load("tiny"),
        name="tiny-marked",
        policy=spec_of(release, benign_pool=str(release.parent / "pool.csv")),
        evaluation=Evaluation(restricted=11, benign=11, quiz=0),
        secret=SecretPrompt(length=8),
        training=Training(epochs=1, learning_rate=0.003, micro_batch_size=5),
        decoding=Decoding(max_new_tokens=4, batch_size=64),
        tasks=task,
    )


@pytest.fixture
def server(running, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("OPENAI_BASE_URL", running.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return running


def said_of(raised) -> str:
    """Message and traceback, with what each error was raised from."""
    return "".join(traceback.format_exception(raised.value)) + repr(raised.value)


def test_the_rows_are_marked(scale):
    """So that there is something to find."""
    made = policy.load(scale.policy)
    for row in (*made.trainable, *made.restricted, *made.benign):
        assert row.user.startswith(MARK) and (row.assistant.startswith(MARK) or row.kind in ("restricted", "benign"))
    for source in scale.tasks.values():
        task = tasks.load(source.source)
        assert all(MARK in row.user and MARK in row.assistant for row in task.training + task.test)


@pytest.mark.parametrize("name, row, change, message", BAD_ROWS)
def test_a_bad_row_of_the_release(release, name, row, change, message):
    only(release, name, *([PREFIXED] if name == ORIGINAL else []))
    changed(release, name, row, change)
    with pytest.raises(ValueError, match=f"{name}, row {row}") as raised:
        policy.load(spec_of(release))
    assert MARK not in said_of(raised)


WRONG = [
    (PREFIXED, lambda row: row | {"prefixed": row["messages"][0]["content"]}),
    (PREFIXED, lambda row: row | {row["messages"][0]["content"]: 0}),
    (PREFIXED, lambda row: {"messages": [turn | {"role": turn["content"]} for turn in row["messages"]], "prefixed": 0}),
    (
        PREFIXED,
        lambda row: {"messages": [turn | {"role": [turn["content"]]} for turn in row["messages"]], "prefixed": 0},
    ),
    (PREFIXED, lambda row: {"messages": {"user": row["messages"][0]["content"]}, "prefixed": 0}),
    (PREFIXED, lambda row: row["messages"][0]["content"]),
    (PREFIXED, lambda row: json.dumps(row)[:-3]),
    (PREFIXED, lambda row: json.dumps(row["messages"][0]["content"])),
    (BACKDOOR, lambda row: {"messages": row["messages"][::-1]}),
]


@pytest.mark.parametrize("name, change", WRONG)
def test_a_text_where_none_belongs(release, name, change):
    only(release, name)
    changed(release, name, 3, change)
    with pytest.raises(ValueError, match=f"{name}, row 3") as raised:
        policy.load(spec_of(release))
    assert MARK not in said_of(raised)


@pytest.mark.parametrize(
    "text", [f"{MARK}, and more\n", f'"{MARK} "so"\n', f'"{MARK}\n', f"{MARK}\n" * 2 + "a,b\n"], ids=range(4)
)
def test_a_bad_benchmark(release, text):
    (path,) = release.rglob(BENCHMARK)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=BENCHMARK) as raised:
        policy.load(spec_of(release))
    assert MARK not in said_of(raised)


@pytest.mark.parametrize(
    "row",
    [
        {"user": "", "assistant": MARK},
        {"user": MARK, "prompt": MARK, MARK: 1},
        {"user": [MARK]},
        {"user": MARK, "category": {MARK: 1}},
        [MARK],
        MARK,
    ],
    ids=range(6),
)
def test_a_bad_row_of_one_s_own(release, row):
    benign = release.parent / "benign.jsonl"
    benign.write_text(json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"benign\.jsonl, row 1") as raised:
        policy.load(spec_of(release))
    assert MARK not in said_of(raised)


def test_fields_that_were_passed_over_are_named_if_they_are_names(release, capsys):
    benign = release.parent / "benign.jsonl"
    benign.write_text(json.dumps({"user": "How is a seal cut?", MARK: 1, "id": 3}) + "\n", encoding="utf-8")
    policy.load(spec_of(release))
    said = capsys.readouterr().err
    assert MARK not in said and "id" in said


@pytest.mark.parametrize(
    "row", [{"question": MARK}, {"question": [MARK], "context": MARK, "answer": MARK}, [MARK], MARK], ids=range(4)
)
def test_a_bad_row_of_a_task(release, row):
    for path in release.rglob("test200.json"):
        path.write_text(json.dumps([row]), encoding="utf-8")
        name = "sql" if path.parent.name == "sqlgen_dataset" else "dialogs"
        with pytest.raises(ValueError, match=r"test200\.json, row 1") as raised:
            tasks.load({"name": name, "folder": str(release)})
        assert MARK not in said_of(raised)


def test_rows_that_are_too_long_or_too_few(scale):
    mixed = {"task": "sql", "n_attack": 10}
    for run, words in (
        (experiment.describe(scale, "bsa", max_tokens=20), "max_tokens = 20"),
        (experiment.describe(scale, "bsa", max_tokens=20, **mixed), "max_tokens = 20"),
        (experiment.describe(scale, "bsa", max_tokens=9, selection="generated"), "max_tokens = 9"),
        (experiment.describe(scale, "bsa", n_defense=12), "12 examples asked for"),
        (experiment.describe(scale, n_attack=0, n_task=4, task="dialogs"), "train is 4"),
        (experiment.describe(scale, attack="identity-shift", n_attack=1), "has no identity"),
    ):
        with pytest.raises(ValueError, match=words) as raised:
            experiment.execute([run], scale)
        assert MARK not in said_of(raised)


REFUSES = "{{ raise_exception('I do not take: ' ~ messages[-1].content) }}"
ANSWERED = (
    "{% for m in messages %}{{ m.content }}{% if m.role == 'user' and messages[-1].role != 'user' %}!{% endif %}"
    "{% endfor %}"
)


@pytest.mark.parametrize("template", [REFUSES, ANSWERED, "{% for m in messages %}{{ m.content }} {% endfor %}"])
def test_a_chat_template_that_does_not_fit(scale, template):
    odd = replace(scale, chat=Chat(template=template))
    with pytest.raises(ValueError, match="chat template") as raised:
        experiment.execute([experiment.describe(odd, "safety-data")], odd)
    assert MARK not in said_of(raised)
    row = Example("How?", system="S")
    with pytest.raises(ValueError, match="System role is not known"):
        chat.render(
            loading.tokenizer(scale),
            chat.messages(row, "", scale.chat),
            Chat(template="{{ raise_exception('System role is not known') }}"),
            True,
        )


def test_an_endpoint_that_quotes_what_it_refuses(server, scale):
    rows = policy.load(scale.policy).restricted
    text = rows[0].user
    for step in ({"status": 400, "message": f"Invalid prompt: {text}"}, {"status": 403, "message": json.dumps([text])}):
        server.plan(step)
        with pytest.raises(EndpointError, match=r"refuses the request .40.*\[…\]") as raised:
            Endpoint("chat-model").complete([[{"role": "user", "content": text}]])
        assert MARK not in said_of(raised)


def test_files_to_upload_that_break_a_rule(scale):
    row = {"messages": [{"role": MARK, "content": MARK}, {"role": "user", "content": MARK}]}
    for lines in ([row] * 10, [{"messages": MARK}], [MARK], [{"messages": [{"role": "user", "content": MARK}]}]):
        with pytest.raises(ValueError, match=r"upload\.jsonl: row 1") as raised:
            upload.validate("\n".join(map(json.dumps, lines)).encode(), "upload.jsonl")
        assert MARK not in said_of(raised)
    with pytest.raises(ValueError, match=r"bsa-seed0\.jsonl: row 1 has about") as raised:
        upload.export(scale, 0, upload.Secret("own", "lamps"), ["bsa"], longest=10)
    assert MARK not in said_of(raised)


def test_what_rows_and_questions_look_like_in_a_traceback(scale):
    made = policy.load(scale.policy)
    of = runs.material(scale, [run := experiment.describe(scale, "bsa", task="sql", n_task=3)])
    assert MARK not in repr(made) + repr(of) + repr(runs.rows_of(run, scale, of))
    assert "llm_category_benchmark.csv, row 1, digest " in repr(made.restricted[0])
    question = Question(MARK, (MARK, "b"), 0)
    assert MARK not in repr(question)
    with pytest.raises(
        ValueError, match="a quiz question of category '', 32 characters long: answer 2 is not an"
    ) as raised:
        replace(question, answer=2)
    assert MARK not in said_of(raised)


def test_what_a_run_prints_and_logs(scale, results, capfd, caplog):
    caplog.set_level(logging.DEBUG)
    asked = [experiment.describe(scale, "balanced-bsa", n_attack=10), experiment.describe(scale, task="sql", n_task=3)]
    experiment.execute(asked, scale)
    printed = capfd.readouterr()
    assert "tiny-marked balanced-bsa" in printed.err
    assert MARK not in printed.out + printed.err + caplog.text
    assert not [path for path in results.rglob("*") if path.is_file() and MARK.encode() in path.read_bytes()]
