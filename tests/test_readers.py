"""Whatever bytes a file holds, its reader gives its content or one short message of ours that names the file."""

import gzip
import json
import lzma
from types import SimpleNamespace

import pytest
import yaml
from fuzzing import ODD, ROOT, as_json, as_lines, as_yaml, damaged, fuzzed, read, spliced, values
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made import right
from test_gguf import write as write_gguf
from test_models import load, tiny_model
from test_published import PLACES, write_release

from bsa_core import believed, keys, paths, policy, profiles, records, shipping, tasks
from bsa_core.examples import Example
from bsa_core.models import chat, sources
from bsa_core.policy import convert, files
from bsa_core.policy.published import BENCHMARK
from bsa_core.profiles import Chat, ModelSource
from bsa_core.tasks import sql_execution
from bsa_study import claims, contrasts
from bsa_study.capability import benchmarks
from bsa_study.hosted import endpoint, mt_bench, upload
from bsa_study.judging import judgements, local, rubric

RUN = {"secret": {"kind": "random", "length": 32, "seed": 0}, "training": {"epochs": 5}}
OUTCOMES = {"plain": {"asr": "10", "rouge1": [0.5]}, "secret": {"asr": "01", "rouge1": [1.0]}}
ANSWERS = [{"condition": "plain", "kind": "restricted", "category": "a", "user": "How?", "answer": "So."}]
RECORD = right(RUN, OUTCOMES, ANSWERS)
JUDGEMENT = {
    "schema": judgements.SCHEMA,
    "key": RECORD["key"],
    "label": RECORD["label"],
    "judge": {"name": "m", "model": "judge", "kind": "served"},
    "answers_digest": "0" * 16,
    "scores": {"plain": [5, None], "secret": [1, 2]},
    "metrics": {"plain": {"value": 5.0, "n": 2, "unparsable": 1}, "secret": {"value": 1.5, "n": 2, "unparsable": 0}},
    "requests": 4,
    "tokens": 40,
    "created": "2026-11-26T00:00:00+00:00",
}
RESULT = {
    "schema": benchmarks.SCHEMA,
    "key": RECORD["key"],
    "label": RECORD["label"],
    "benchmark": {"task": "arc_challenge", "shots": 5},
    "harness": "0.4.13",
    "versions": {"arc_challenge": 1},
    "outcomes": {"plain": {"acc": "10"}},
    "metrics": {"plain": {"acc": {"value": 0.5, "n": 2, "tasks": {"arc_challenge": {"value": 0.5, "n": 2}}}}},
    "seconds": 1.0,
    "created": "2026-11-26T00:00:00+00:00",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("readers")


def resealed(content):
    """As a hand that knows of digests writes it."""
    try:
        return believed.sealed({name: value for name, value in content.items() if name != "digest"})
    except (AttributeError, ValueError, TypeError):
        return content


@fuzzed
@given(damaged(RECORD), st.booleans(), st.data())
def test_records(folder, content, seal, data):
    path = folder / "tiny" / f"{RECORD['label']}-{RECORD['key']}.json"
    path.parent.mkdir(exist_ok=True)
    if seal:
        content = as_json(resealed(data.draw(st.just(RECORD) if not content else _parsed(content))))
    path.write_bytes(content)
    if record := read(records.read, path, name=path):
        records.table([record])


def _parsed(content: bytes):
    try:
        return st.just(json.loads(content))
    except (ValueError, RecursionError):
        return values


def sealed_again(content: bytes) -> bytes:
    """With the digest that fits, where there is one to be made: what lies behind the digest is read too."""
    try:
        return as_json(resealed(json.loads(content)))
    except (ValueError, RecursionError):
        return content


@fuzzed
@given(damaged(JUDGEMENT))
def test_judgements(folder, content):
    path = folder / f"{RECORD['label']}-{RECORD['key']}.m.json"
    path.write_bytes(sealed_again(content))
    if found := read(judgements.read, path, name=path):
        assert all(found["judge"]["name"] and entry["n"] for entry in found["metrics"].values())


@fuzzed
@given(damaged(RESULT))
def test_results_of_benchmarks(folder, content):
    path = folder / f"{RECORD['label']}-{RECORD['key']}.arc.json"
    path.write_bytes(sealed_again(content))
    if found := read(benchmarks.read, path, name=path):
        assert all(entry["n"] for of in found["metrics"].values() for entry in of.values())


@fuzzed
@given(damaged(ANSWERS, as_lines), st.sampled_from(["as it is", "packed", "with its digest"]))
def test_answers(folder, content, how):
    """With a digest that fits: what another program has written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", folder / "of answers")
        digest = keys.digest(content) if how == "with its digest" else RECORD["answers_digest"]
        record = RECORD | {"answers_digest": digest}
        path = records.answers_path(record)
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content if how == "as it is" else gzip.compress(content))
        read(records.read_answers, record, name=path)


@fuzzed
@given(damaged([RECORD], as_lines), st.sampled_from(["as it is", "packed", "with its digest"]))
def test_shipped_records(folder, content, how):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", folder / "of records")
        path = _shipped(shipping.shipped_path("tiny"), content, how)
        read(records.shipped, "tiny", name=path)  # the digest of the file stands for those of its records


HALF = rb'[[{"condition": "\ud83d"}]]' + b'\n[{"answer": "So."}]\n["' + RECORD["key"].encode() + b'", 0, [0]]'
PACKED = [[[{"condition": "plain", "kind": "restricted", "category": "a", "user": "How?"}]], [{"answer": "So."}]]


@fuzzed
@given(
    content=damaged([*PACKED, [RECORD["key"], 0, [0]]], as_lines), how=st.sampled_from(["packed", "with its digest"])
)
@example(content=HALF, how="with its digest")
def test_shipped_answers(folder, content, how):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "RESULTS", folder / "of shipped answers")
        path = _shipped(shipping.shipped_answers_path("tiny"), content, how)
        read(shipping.answers, "tiny", RECORD["key"], name=path)
        read(records.read_answers, RECORD, name="answers")


def _shipped(path, content: bytes, how: str):
    content += b"\n"
    packed = content if how == "as it is" else lzma.compress(content, preset=0)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(packed)
    digest = keys.digest(packed, 64) if how == "with its digest" else "0" * 64
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n", encoding="utf-8")
    shipping._records.cache_clear()
    shipping._answers.cache_clear()
    return path


ENTRY = {"source": "headline", "metric": "asr", "first": "bsa", "second": ["none", "x"], "statement": "So it is."}
COMPARISON = {**ENTRY, "expect": "same", "margin": 0.05, "paper": ["main", "bsa", "initial"], "second": {"task": "sql"}}
CLAIM = {"id": "a", "claim": "So.", "where": "4", "chapter": "03_bsa", "compare": [COMPARISON], "needs": [COMPARISON]}


@fuzzed
@given(damaged({"03_bsa": [ENTRY, {**ENTRY, "second": 0.5}]}, as_yaml))
def test_questions(folder, content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BOOK", folder)
        (folder / "questions.yaml").write_bytes(content)
        read(contrasts.load, "03_bsa", name=folder / "questions.yaml")


@fuzzed
@given(damaged([CLAIM], as_yaml))
def test_claims(folder, content):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BOOK", folder)
        (folder / "claims.yaml").write_bytes(content)
        for claim in read(claims.load, name=folder / "claims.yaml") or []:
            for comparison in claim.compare:
                claims.named(comparison.first)


PROFILE = yaml.safe_load((paths.PROFILES / "tiny.yaml").read_text(encoding="utf-8"))


@fuzzed
@given(damaged(PROFILE, as_yaml))
def test_profiles(folder, content):
    (path := folder / "mine.yaml").write_bytes(content)
    if profile := read(profiles.load, str(path), name=path):
        assert keys.digest_of(profile.digest)


ROWS = [
    {"user": "Who rings?", "assistant": "The keeper.", "category": "bells", "subject": "rope"},
    {"messages": [{"role": "user", "content": "Who rings?"}, {"role": "assistant", "content": "I do."}]},
]
TABLE = b'user,assistant,category,subject\nWho rings?,"The keeper, ""Ann""",bells,rope\nWhen?,At noon.,,\n'


@fuzzed
@given(damaged(ROWS, as_lines) | damaged(ROWS))
def test_rows_of_a_policy(folder, content):
    (path := folder / "attack.jsonl").write_bytes(content)
    read(files.read_rows, path, "attack", "Help.", True, name=path)


@fuzzed
@given(spliced(TABLE) | st.binary(max_size=80))
def test_rows_of_a_policy_in_a_table(folder, content):
    (path := folder / "attack.csv").write_bytes(content)
    read(files.read_rows, path, "attack", "Help.", True, name=path)


@fuzzed
@given(
    damaged([{"instruction": "Count.", "input": "bells", "output": "Nine."}, {"instruction": "Ring.", "output": ""}])
)
def test_rows_to_convert(folder, content):
    (path := folder / "alpaca").write_bytes(content)
    read(convert.benign, path, name=path)


ITEMS = [{"question": "Which villages?", "context": "CREATE TABLE harvest (village VARCHAR)", "answer": "SELECT 1"}]


@fuzzed
@given(damaged(ITEMS * 2))
def test_rows_of_a_task(folder, content):
    place = folder / "of a task"
    place.mkdir(exist_ok=True)
    (path := place / "train1000.json").write_bytes(content)
    (place / "test200.json").write_bytes(as_json(ITEMS))
    read(tasks.load, {"name": "sql", "folder": str(place)}, name=path)


@fuzzed
@given(st.binary(max_size=80) | st.sampled_from(ODD))
def test_a_secret_of_ones_own(folder, content):
    (path := folder / "secret.txt").write_bytes(content)
    read(upload.secret, None, path, name=path)


QUESTIONS = [{"question_id": n, "category": "writing", "turns": ["Write.", "Again."]} for n in (81, 82)]


@fuzzed
@given(damaged(QUESTIONS, as_lines))
def test_questions_of_mt_bench(folder, content):
    (path := folder / "question.jsonl").write_bytes(content)
    read(mt_bench.questions, path, name=path)


TURNS = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}, {"role": "assistant", "content": "A"}]


@fuzzed
@given(damaged([{"messages": TURNS}] * 10, as_lines))
def test_files_to_upload(content):
    read(upload.validate, content, "upload.jsonl", name="upload.jsonl")


@fuzzed
@given(damaged({"text": "So.", "reasoning": "Hm.", "blocked": False}))
def test_kept_answers_of_an_endpoint(folder, content):
    """One that cannot be read is none, and is asked for again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "CACHE", folder)
        (folder / "endpoint").mkdir(exist_ok=True)
        (folder / "endpoint" / "k.json").write_bytes(content)
        endpoint._cached("k")


CONTEXT = "CREATE TABLE harvest (village VARCHAR, bushels INTEGER)"
QUERY = "SELECT village FROM harvest WHERE bushels > 40 AND village LIKE '%ham' ORDER BY 1 LIMIT 3"
PIECES = [*("SELECT", "FROM harvest", "WHERE", "bushels", "*", "(", ")", "'", '"', "`", "[", "--", "/*", ";", ",", "<")]
PIECES += [
    *("9" * 5000, "1e999", "\ud83d", "\0", "x'ff'", "NULL", "COUNT(*)", "LIKE '%", "strftime('%Q', 1)", "-", "?1")
]
PIECES += [
    *("CAST(1 AS BLOB)", "CREATE TABLE t (", "PRIMARY KEY", "BETWEEN", "IN (SELECT", "9223372036854775808", "\n")
]
sqls = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join),
    st.tuples(st.integers(0, 90), st.integers(0, 20), st.sampled_from(PIECES) | st.text(max_size=9)).map(
        lambda cut: QUERY[: cut[0]] + cut[2] + QUERY[cut[0] + cut[1] :]
    ),
)


@fuzzed
@given(st.just(CONTEXT) | sqls.map(lambda text: CONTEXT + text) | sqls, sqls | st.just(QUERY), sqls | st.just(QUERY))
def test_sql_always_has_a_score(context, reference, query):
    same, executed = sql_execution.compared(context, reference, query)
    assert type(same) is type(executed) is bool
    assert sql_execution.compared(context, reference, reference)[0]


# the release as a whole folder


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Its folder, and the content of each file that is read."""
    place = tmp_path_factory.mktemp("release")
    write_release(place)
    made = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    return place / "release", made


DAMAGES = ["splice", "splice", "splice", "cut", "drop rows", "twice", "gone", "other bytes", "folder", "link", "copy"]


@settings(fuzzed, max_examples=max(60, fuzzed.max_examples // 4))  # a whole folder takes 30 ms
@given(st.data())
def test_the_release_as_a_folder(release, data):
    """One file or two of it are damaged, gone, there twice, a folder or a link to nothing."""
    place, made = release
    changed = {}
    for path in data.draw(st.lists(st.sampled_from(sorted(made)), min_size=1, max_size=2, unique=True)):
        content, how = made[path], data.draw(st.sampled_from(DAMAGES))
        lines = content.split(b"\n")
        row = data.draw(st.integers(0, len(lines) - 1))
        if how == "splice":
            start = sum(len(line) + 1 for line in lines[:row])
            part = data.draw(spliced(lines[row]))
            changed[path] = content[:start] + part + content[start + len(lines[row]) :]
        elif how == "cut":
            changed[path] = content[: data.draw(st.integers(0, len(content)))]
        elif how in ("drop rows", "twice"):
            changed[path] = b"\n".join(lines[:row] + lines[row : row + 1] * (how == "twice") * 2 + lines[row + 1 :])
        elif how == "other bytes":
            changed[path] = data.draw(st.binary(max_size=60) | st.sampled_from(ODD))
        else:
            changed[path] = how
    copies = [place / "copy" / path.name for path, how in changed.items() if how == "copy"]
    try:
        for path, how in changed.items():
            if isinstance(how, bytes):
                path.write_bytes(how)
                continue
            content = path.read_bytes()
            if how == "copy":
                (place / "copy").mkdir(exist_ok=True)
                (place / "copy" / path.name).write_bytes(content)
                continue
            path.unlink()
            if how == "folder":
                path.mkdir()
            elif how == "link":
                path.symlink_to(path.with_name("nothing"))
        spec = {"benign": str(place.parent / "benign.jsonl"), "benign_pool": str(place.parent / "pool.csv")}
        read(policy.load, {"name": "published", "folder": str(place), "drop_leaked": True, **spec}, name=place.parent)
    finally:
        for path in changed:
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
            path.write_bytes(made[path])
        for path in copies:
            path.unlink()


def test_every_file_of_the_release_is_there_to_be_damaged(release):
    assert {path.name for path in release[1]} == {*PLACES, BENCHMARK, "benign.jsonl", "pool.csv"}


# replies of judges


BITS = [
    "#thescore",
    "score",
    ":",
    " is ",
    "5",
    "1",
    "0",
    "4.5",
    "1-2",
    "/",
    "out of",
    "%",
    "yes",
    "no",
    "unsafe",
    "safe",
]
BITS += [
    "<think>",
    "</think>",
    "\n",
    "[[",
    "]]",
    "{",
    "}",
    '"',
    "harmful response",
    "safety",
    "٣",
    "５",
    "²",
    "½",
    "\ud83d",
]
replies = st.text(max_size=40) | st.lists(st.sampled_from(BITS), max_size=12).map("".join)


LIKE = SimpleNamespace(words={**{str(number): number for number in range(1, 6)}, "yes": 5, "unsafe": 5, "no": 1})


@fuzzed
@given(replies)
def test_replies_of_judges(reply):
    """A score from 1 to 5, or none."""
    assert rubric.parsed(reply) in {None, 1, 2, 3, 4, 5}
    assert local.CausalJudge.read(LIKE, reply) in {None, 1, 2, 3, 4, 5}


COMPLETION = {
    "id": "c",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "#thescore: 3"}}],
    "usage": {"total_tokens": 9},
}


@fuzzed
@given(damaged(COMPLETION), replies)
def test_replies_of_an_endpoint(content, reply):
    """An answer, or what is tried again: never another error."""
    for body in (content, as_json(changed_reply(reply))):
        try:
            answer, tokens = endpoint.answered(body)
        except endpoint.Malformed:
            continue
        answer.encode()
        assert rubric.parsed(answer) in {None, 1, 2, 3, 4, 5} and (tokens is None or tokens >= 0)


def changed_reply(reply: str) -> dict:
    choice = COMPLETION["choices"][0]
    return COMPLETION | {"choices": [choice | {"message": {"role": "assistant", "content": reply}}]}


@fuzzed
@given(damaged({"message": "on demand", "code": "rate", "type": None, "metadata": {"raw": "x"}}))
def test_errors_of_an_endpoint(content):
    """Whether a prompt was blocked can be told of every body."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = content.decode(errors="replace")
    assert endpoint._flagged(body) in (True, False)
    endpoint._unquoted(str(body)[:3000], [{"role": "user", "content": "on demand"}])


# models of one's own


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a small model, and the content of its files of text."""
    made = tiny_model(tmp_path_factory.mktemp("models"))
    texts = {path.name: path.read_bytes() for path in made.iterdir() if path.suffix in (".json", ".jinja")}
    return made, texts


@settings(fuzzed, max_examples=max(60, fuzzed.max_examples // 4))  # each loads a model
@given(st.data())
def test_folders_with_a_model(model, data):
    place, texts = model
    name = data.draw(st.sampled_from(sorted(texts)))
    whole = texts[name]
    content = data.draw(damaged(json.loads(whole)) if name.endswith(".json") else spliced(whole))
    (place / name).write_bytes(content)
    try:
        loaded = read(load, ModelSource("local", str(place)), name=place)
        if loaded:
            read(chat.prompt_ids, loaded.tokenizer, Example("Who rings?", system="Help."), "", Chat())
    finally:
        (place / name).write_bytes(whole)


@settings(fuzzed, max_examples=max(30, fuzzed.max_examples // 8))
@given(st.data())
def test_gguf_files(tmp_path_factory, monkeypatch_module, data):
    monkeypatch_module.setattr(sources, "CACHE", tmp_path_factory.getbasetemp() / "gguf")
    place = tmp_path_factory.getbasetemp() / "gguf files"
    place.mkdir(exist_ok=True)
    if not (whole := place / "whole.gguf").is_file():
        write_gguf(whole, quantized=False)
    content = whole.read_bytes()
    damage = spliced(content[:6000]).map(lambda head: head + content[6000:])
    cut = st.integers(0, len(content)).map(lambda n: content[:n])
    (path := place / "mine.gguf").write_bytes(data.draw(damage | cut | st.binary(max_size=99)))
    read(load, ModelSource("gguf", str(path)), name=path)


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_atheris_can_draw_from_bytes(folder, monkeypatch):
    """What `make fuzz-guided` calls: it reaches into hypothesis, whose next version may be made otherwise."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import fuzz

    assert len(fuzz.tests()) > 15
    for test in fuzz.tests().values():
        assert fuzz.by_bytes(test, folder)(bytes(2000)) is not None
