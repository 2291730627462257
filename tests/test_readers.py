"""Whatever bytes a file holds, its reader gives its content or one short message of ours that names the file."""

import gzip
import json
import lzma

import pytest
import yaml
from fuzzing import ODD, ROOT, as_json, as_lines, as_yaml, damaged, fuzzed, read, spliced, values
from hypothesis import given
from hypothesis import strategies as st
from made import right

from bsa_core import believed, keys, paths, profiles, records, shipping, tasks
from bsa_core.policy import convert, files
from bsa_core.tasks import sql_execution
from bsa_study import claims, contrasts
from bsa_study.capability import benchmarks
from bsa_study.hosted import endpoint, mt_bench, upload
from bsa_study.judging import judgements

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


PACKED = [[[{"condition": "plain", "kind": "restricted", "category": "a", "user": "How?"}]], [{"answer": "So."}]]


@fuzzed
@given(damaged([*PACKED, [RECORD["key"], 0, [0]]], as_lines), st.sampled_from(["packed", "with its digest"]))
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


@pytest.mark.parametrize("name", [name for name, made in globals().items() if hasattr(made, "hypothesis")])
def test_atheris_can_draw_from_bytes(folder, name, monkeypatch):
    """What `make fuzz-guided` calls: it reaches into hypothesis, whose next version may be made otherwise."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    import fuzz

    assert fuzz.by_bytes(fuzz.tests()[name], folder)(bytes(2000)) is not None
