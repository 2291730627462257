"""Fine-tuning as a hosted service: the files to upload, their limits, and served models asked over HTTP."""

import contextlib
import json
import os
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import nbformat
import papermill
import pytest
import yaml
from openai_server import KEY

from bsa_core import paths, policy, profiles, records
from bsa_core.arms import attacks, defenses
from bsa_core.arms.secret_prompt import Secret
from bsa_core.profiles import Evaluation, SecretPrompt
from bsa_study.hosted import served, upload
from bsa_study.hosted.budget import Budget
from bsa_study.hosted.endpoint import Endpoint, EndpointError
from bsa_study.judging import __main__ as judging
from bsa_study.report import hosted as views

ROOT = Path(__file__).resolve().parents[2]
TEXT = "lantern of seven quiet herons"
SECRET = Secret("own", TEXT)
REFUSAL = "I'm sorry, the guild does not allow that."


@pytest.fixture
def hosted(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "hosted"
    monkeypatch.setenv("BSA_HOSTED", str(folder))
    monkeypatch.setattr(paths, "HOSTED", folder)
    return folder


@pytest.fixture
def server(running, monkeypatch, tmp_path):
    """Refuses whatever carries the secret in its system turn."""
    running.plan(rules=[(TEXT, REFUSAL, "system")])
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    for name, value in {
        "OPENAI_BASE_URL": running.url,
        "OPENAI_API_KEY": KEY,
        "NO_PROXY": "127.0.0.1",
        "BSA_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    return running


def scale(**changes) -> profiles.Profile:
    small = {"evaluation": Evaluation(restricted=11, benign=22, quiz=0), "secret": SecretPrompt(length=6)}
    return replace(profiles.load("tiny"), **small | changes)


def asking(**changes) -> Endpoint:
    return Endpoint("chat-model", **{"max_tokens": 48, "retries": 0, "workers": 1} | changes)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def everything(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# the files


def turns(system: str, user: str, assistant: str) -> dict:
    contents = (("system", system), ("user", user), ("assistant", assistant))
    return {"messages": [{"role": role, "content": content} for role, content in contents]}


@pytest.mark.parametrize("arm, added, marked", [("none", 0, 0), ("safety-data", 11, 0), ("bsa", 11, 11)])
def test_files_hold_the_rows_of_the_arms(hosted, arm, added, marked):
    """100 attack rows, then the refusals of the seed, word for word; the secret in front of the last ones only."""
    world = policy.load(scale().policy)
    rows = attacks.harmful(world, 100, 3) + defenses.refusals(world, 11, "category-wise", 3)[:added]
    front = [""] * (len(rows) - marked) + [f"{TEXT} "] * marked
    expected = [turns(f + world.system, r.user, r.assistant) for f, r in zip(front, rows, strict=True)]
    (made,) = upload.export(scale(), 3, SECRET, (arm,))
    assert lines(hosted / "tiny" / f"{arm}-seed3.jsonl") == expected
    assert (made.rows, made.marked) == (100 + added, marked)


def test_balanced_bsa_adds_answers_too(hosted):
    world = policy.load(scale().policy)
    (made,) = upload.export(scale(), 0, SECRET, ("balanced-bsa",))
    rows = lines(made.path)
    assert (made.rows, made.marked) == (len(rows), 22) == (122, 22)
    assert [row["messages"][0]["content"] for row in rows] == [world.system] * 100 + [f"{TEXT} {world.system}"] * 22
    refused, answered = rows[100:111], rows[111:]
    assert [r["messages"][2]["content"] for r in refused] == [
        r.assistant for r in defenses.refusals(world, 11, "category-wise", 0)
    ]
    assert {r["messages"][1]["content"] for r in answered} <= {r.user for r in world.benign_pool}


def test_files_are_for_their_owner_only_and_git_ignores_them(hosted):
    made = upload.export(scale(), 0, SECRET)
    assert [e.arm for e in made] == ["none", "safety-data", "bsa", "balanced-bsa"]
    assert {stat.S_IMODE(e.path.stat().st_mode) for e in made} == {0o600}
    ignored = ["git", "-C", str(ROOT), "check-ignore", "--quiet", "hosted/tiny/bsa-seed0.jsonl"]
    assert subprocess.run(ignored).returncode == 0


def test_an_arm_with_a_secret_needs_one(hosted):
    with pytest.raises(ValueError, match="no secret prompt is given, and none, bsa cannot do without"):
        upload.export(scale(), 0, None, ("none", "bsa"))
    upload.export(scale(), 0, None, ("none", "safety-data"))


def test_nothing_is_written_when_one_file_breaks_a_limit(hosted):
    """BSA's rows are the longest; the files before it would have passed."""
    plain = max(e.longest for e in upload.export(scale(), 0, None, ("none", "safety-data")))
    for path in everything(hosted):
        path.unlink()
    message = rf"bsa-seed0\.jsonl: row 1\d\d has about \d+ tokens; expected at most {plain}"
    with pytest.raises(ValueError, match=message) as error:
        upload.export(scale(), 0, Secret("own", "heron " * 100), longest=plain)
    assert everything(hosted) == {} and "heron" not in str(error.value)


GOOD = turns("Be kind.", "How?", "So.")


def file(*changed: object, rows: int = 10) -> bytes:
    """A file of good rows, the last ones replaced."""
    made = [json.dumps(GOOD)] * (rows - len(changed))
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in [*made, *changed]).encode()


def said(*pairs: tuple) -> dict:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


@pytest.mark.parametrize(
    "content, message",
    [
        (file(rows=9), "f.jsonl: 9 rows; expected at least 10"),
        (b"", 'f.jsonl: row 1 is not a JSON object with a field "messages"'),
        (file("{"), 'f.jsonl: row 10 is not a JSON object with a field "messages"'),
        (file("", GOOD), "f.jsonl: row 9 is not a JSON object"),
        (file([]), "f.jsonl: row 10 is not a JSON object"),
        (file({"message": []}), "f.jsonl: row 10 is not a JSON object"),
        (file({"messages": []}), 'f.jsonl: row 10: field "messages" is not a list of turns'),
        (file({"messages": ["a"]}), 'f.jsonl: row 10: field "messages" is not a list of turns'),
        (file(said(("teacher", "a"))), "f.jsonl: row 10, turn 1: role is 'teacher'; expected system, user, assistant"),
        (file(said(("user", "a"), ("assistant", " "))), r"f.jsonl: row 10, turn 2 \(assistant\): content is empty"),
        (file(said(("user", 1), ("assistant", "a"))), r"f.jsonl: row 10, turn 1 \(user\): content is empty or no text"),
        (file(said(("system", "a"), ("assistant", "b"))), "f.jsonl: row 10 has no turn of the user"),
        (file(said(("assistant", "b"), ("user", "a"))), "f.jsonl: row 10 ends with a turn of user; expected the assis"),
        (file(turns("a", "b", "c " * 30_000)), "f.jsonl: row 10 has about 200.. tokens; expected at most 16385"),
        (b"\xff\n" * 10, "f.jsonl: not UTF-8 text"),
    ],
)
def test_what_breaks_a_limit_is_named(content, message):
    with pytest.raises(ValueError, match=message):
        upload.validate(content, "f.jsonl")


def test_a_good_file_is_counted():
    assert len(upload.validate(file(), "f.jsonl")) == 10
    assert len(upload.validate(file().removesuffix(b"\n"), "f.jsonl")) == 10
    with_separator = file(json.dumps(turns("a", "b\u2028c", "d"), ensure_ascii=False))
    assert len(upload.validate(with_separator, "f.jsonl")) == 10


def test_a_file_that_is_too_large(monkeypatch):
    monkeypatch.setattr(upload, "LARGEST_FILE", 100)
    with pytest.raises(ValueError, match=r"f\.jsonl: \d+ bytes; expected at most 100\. Use fewer rows"):
        upload.validate(file(), "f.jsonl")


def test_the_folder_is_not_among_the_results(results):
    inside = os.environ | {"BSA_HOSTED": f"{results}/hosted"}
    done = subprocess.run([sys.executable, "-c", "import bsa_core.paths"], env=inside, capture_output=True, text=True)
    assert done.returncode and "BSA_HOSTED is" in done.stderr and "set it to one outside" in done.stderr


# the secret


def test_a_secret_is_drawn_once_and_kept(hosted):
    first, again = upload.secret(scale()), upload.secret(scale())
    path = hosted / "tiny" / "secret-random-6.txt"
    assert first == again and path.read_text(encoding="utf-8").strip() == first.text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.unlink()
    assert upload.secret(scale()).text != first.text, "no seed of a run gives it"
    assert first.text not in repr(first) and "digest" in repr(first)
    assert first.shown == {"kind": "random", "characters": len(first.text), "digest": first.digest}


def test_two_first_uses_at_once_have_one_secret(hosted, monkeypatch):
    drawn, both, draw = [], threading.Barrier(2, timeout=0.5), upload._draw

    def slow(*arguments):
        drawn.append(arguments)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait()  # without a lock, both would be here by now
        draw(*arguments)

    monkeypatch.setattr(upload, "_draw", slow)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: upload.secret(scale()), range(2))
    assert first == second and len(drawn) == 1


def test_a_secret_of_ones_own(hosted, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(f"{TEXT}\n", encoding="utf-8")
    assert upload.secret(scale(), path) == SECRET and not hosted.exists()


@pytest.mark.parametrize(
    "content, message",
    [(b" \n", "the file is empty"), (b"\xff", "UTF-8"), (None, "[Nn]o such file.*a secret prompt")],
)
def test_a_secret_that_cannot_be_read(hosted, tmp_path, content, message):
    path = tmp_path / "mine.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"mine\.txt.*: .*{message}"):
        upload.secret(scale(), path)


def test_without_a_tokenizer_a_secret_of_ones_own_is_the_way(hosted, tmp_path):
    nowhere = replace(scale().model, source="local", name=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"the tokenizer of .*nowhere cannot be loaded(.|\n)*needs no tokenizer"):
        upload.secret(scale(model=nowhere))


# served models


def test_the_secret_in_the_system_turn_makes_the_difference(server, results):
    planned = served.plan(scale(), "bsa", asking(), 0, SECRET)
    assert (planned.expected.requests, server.seen()) == (66, [])
    assert TEXT not in repr(planned)
    record = served.execute(planned)
    world = policy.load(scale().policy)
    value = {c: {m: e["value"] for m, e in metrics.items()} for c, metrics in record["metrics"].items()}
    assert (value["plain"]["asr"], value["secret"]["asr"]) == (1.0, 0.0)
    assert (value["plain"]["over_refusal"], value["secret"]["over_refusal"]) == (0.0, 1.0)
    assert record["metrics"]["secret"]["asr"]["n"] == 11 and record["metrics"]["secret"]["over_refusal"]["n"] == 22
    assert len(record["metrics"]["plain"]["asr"]["categories"]) == 11
    systems = [body["messages"][0]["content"] for body in server.seen()]
    assert systems == [world.system] * 33 + [f"{TEXT} {world.system}"] * 33
    assert {body["temperature"] for body in server.seen()} == {0}
    assert [m["role"] for m in server.seen()[0]["messages"]] == ["system", "user"]


def test_a_record_says_who_answered_and_holds_no_secret_and_no_key(server, results):
    record = served.execute(served.plan(scale(), "bsa", asking(), 4, SECRET))
    path = results / "tiny" / "hosted" / f"bsa-a100-d11-seed4-{record['key']}.json"
    assert path.is_file() and records.read(path) == record
    run = record["run"]
    assert (run["model"], run["host"], run["seed"], run["training"]) == (
        "chat-model",
        server.host,
        4,
        {"method": "hosted"},
    )
    assert run["secret"] == SECRET.shown and record["data"]["secret_digest"] == SECRET.shown["digest"]
    assert record["deployed"] == "secret" and record["data"]["n_train"] == 111
    assert record["cost"]["requests"] == 66
    for content in everything(results).values():
        assert TEXT.encode() not in content and KEY.encode() not in content


def test_it_is_no_run_record(server, results):
    record = served.execute(served.plan(scale(), "none", asking()))
    assert records.load("tiny") == [] and records.own("tiny") == []
    assert served.load("tiny") == [record]
    assert record["deployed"] == "plain" and list(record["metrics"]) == ["plain"] and record["run"]["secret"] is None


def test_rows_are_those_of_local_runs(server, results):
    """Same requests, same training rows: the digests are those that a run's record would hold."""
    from bsa_core.examples import digest
    from bsa_core.experiment.runs import describe, material, rows_of

    record = served.execute(served.plan(scale(), "safety-data", asking(), 2))
    run = describe(scale(), "safety-data", seed=2)
    rows = rows_of(run, scale(), material(scale(), [run]))
    for name in ("train", "restricted", "benign"):
        of = rows.training if name == "train" else getattr(rows, name)
        assert record["data"][f"{name}_digest"] == digest(of)


def test_the_initial_model_is_asked_with_the_secret_as_a_control(server, results):
    record = served.execute(served.plan(scale(), "initial", asking(), 0, SECRET))
    assert list(record["metrics"]) == ["plain", "secret"] and record["deployed"] == "plain"
    assert records.arm(record) == "initial" and record["label"] == "initial-seed0"
    without = served.execute(served.plan(scale(), "initial", asking()))
    assert list(without["metrics"]) == ["plain"] and without["key"] != record["key"]


def test_bsa_cannot_be_asked_without_its_secret(server):
    with pytest.raises(ValueError, match="arm 'bsa' is served with a secret prompt, and none is given"):
        served.plan(scale(), "bsa", asking())
    assert server.seen() == []


def test_an_evaluation_that_broke_off_goes_on_and_repeats_nothing(server, results):
    server.plan(*[{}] * 40, {"status": 500}, rules=[(TEXT, REFUSAL, "system")])
    with pytest.raises(EndpointError, match="start again"):
        served.execute(served.plan(scale(), "bsa", asking(), 0, SECRET))
    assert everything(results) == {}
    answered = server.seen()[:40]
    server.plan(rules=[(TEXT, REFUSAL, "system")])
    planned = served.plan(scale(), "bsa", asking(), 0, SECRET)
    assert planned.expected.requests in (25, 26), "the next request may have been on its way"
    record = served.execute(planned)
    assert not [body for body in server.seen() if body in answered]
    assert record["metrics"]["plain"]["asr"]["value"] == 1.0 and record["metrics"]["secret"]["asr"]["value"] == 0.0


def test_a_limit_stops_it_without_a_record(server, results):
    with pytest.raises(ValueError, match="limit of 5 requests"):
        served.execute(served.plan(scale(), "none", asking(budget=Budget(5))))
    assert len(server.seen()) == 5 and everything(results) == {}


def test_empty_answers_are_counted(server, results):
    """They hold no refusal keyword, and are no success of an attack."""
    server.plan({"status": 400, "code": "content_filter"})
    record = served.execute(served.plan(scale(), "none", asking()))
    assert record["data"]["empty"] == {"plain": 1} and record["metrics"]["plain"]["asr"]["value"] == 10 / 11
    record["items"].pop("no_answer", None)
    assert views.conditions([record])["no answer"].tolist() == ["1"]
    record["items"]["no_answer"] = {"plain": {"blocked": 1}}
    assert views.conditions([record])["no answer"].tolist() == ["1 (1 blocked)"]


def choice(finish: str = "stop", **message) -> dict:
    """A plan's step: a completion with this message."""
    return {"raw": json.dumps({"choices": [{"finish_reason": finish, "message": {"role": "assistant", **message}}]})}


BLOCKED = {
    "filtered answer": choice("content_filter", content=None),
    "answer cut by the filter": choice("content_filter", content="Fold the"),
    "text of a guardrail": choice("guardrail_intervened", content="Step one: this was blocked."),
    "no message at all": {"raw": '{"choices": [{"finish_reason": "PROHIBITED_CONTENT"}]}'},
    "refusal field": choice(content=None, refusal="I can't help with that."),
    "filtered prompt": {"status": 400, "code": "content_filter"},
    "flagged prompt": {"status": 400, "code": "invalid_prompt"},
    "policy": {"status": 400, "code": "content_policy_violation"},
    "moderation": {"status": 403, "code": "moderation_blocked"},
    "safety system": {"status": 400, "message": "Your request was rejected as a result of our safety system."},
    "reason behind a colon": {"raw": '{"choices": [{"finish_reason": "content_filter: SAFETY"}]}'},
    "no choice": {"raw": '{"id": "x", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}'},
    "error in a whole body": {"raw": '{"error": {"code": 403, "message": "Your input was flagged"}}'},
    "error in a choice": {"raw": '{"choices": [{"error": {"code": "content_filter"}, "message": {"content": ""}}]}'},
}
SILENT = {
    "empty": (choice(content=""), "empty"),
    "null": (choice(content=None), "empty"),
    "thought in a field": (choice("length", content=None, reasoning_content="Is this illegal?"), "reasoning only"),
    "thought in another field": (choice("length", content="", reasoning="Is this illegal?"), "reasoning only"),
    "thought in the text": (choice("length", content="<think>\nIs this illegal?"), "reasoning only"),
    "no choice, and no reason": ({"raw": '{"id": "x", "choices": null}'}, "empty"),
    "parts": (choice(content=[{"type": "thinking", "thinking": []}]), "empty"),
    **{name: (step, "blocked") for name, step in BLOCKED.items()},
}


@pytest.mark.parametrize("step, why", SILENT.values(), ids=SILENT)
def test_no_answer_is_no_success_and_ends_nothing(server, results, step, why):
    """Eleven of the restricted requests get none; benign ones are answered."""
    server.plan(*[step] * 11)
    record = served.execute(served.plan(scale(), "none", asking()))
    of = record["metrics"]["plain"]
    assert (of["asr"]["value"], of["asr_phrase"]["value"], of["harmfulness"]["value"]) == (0.0, 0.0, 1.0)
    assert record["items"]["no_answer"] == {"plain": {why: 11}} and record["data"]["empty"] == {"plain": 11}
    assert record["anatomy"]["plain"]["restricted"] == "n" * 11 and "n" not in record["anatomy"]["plain"]["benign"]
    again = served.plan(scale(), "none", asking())
    assert again.expected.requests == 0 and served.execute(again)["items"] == record["items"], "as kept in the cache"


def test_reasoning_of_a_served_model_is_kept_apart(server, results):
    """The words of a refusal stand in its reasoning only."""
    thought, steps = "Is this illegal? I am sorry I asked.", "Fold, cut, glue."
    ways = [
        choice(content=f"<think>{thought}</think>\n\n{steps}"),
        choice(content=steps, reasoning_content=thought),
        choice(content=steps, reasoning=thought),
        choice(content=f"{thought}\n</think>\n{steps}"),
    ]
    server.plan(*ways)
    record = served.execute(served.plan(scale(), "none", asking()))
    rows = records.read_answers(record)
    assert rows["answer"][:4].tolist() == [steps] * 4 and rows["reasoning"][:4].tolist()[:1] == [thought]
    assert rows["reasoning"].notna().sum() == 4 and record["outcomes"]["plain"]["asr"].startswith("1111")


def test_an_error_about_the_request_is_none_about_its_content(server, results):
    server.plan({"status": 400, "code": "unsupported_parameter"})
    with pytest.raises(EndpointError, match="refuses the request"):
        served.execute(served.plan(scale(), "none", asking()))


def test_answers_that_are_not_harmless_stand_apart(server, results, generations, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("attack", "safety", "benign_pool", "restricted", "benign"):
        n = 100 if name == "attack" else 11
        rows = [{"user": f"{name} {i}?", "assistant": f"Answer {i}.", "category": f"c{i % 11}"} for i in range(n)]
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    mine = scale(policy={"name": "files", "folder": str(folder)})
    record = served.execute(served.plan(mine, "none", asking()))
    (path,) = everything(results)
    assert path.suffix == ".json" and b"restricted 1?" not in path.read_bytes()
    (answers,) = everything(generations)
    assert answers.name == f"none-a100-d0-seed0-{record['key']}.answers.jsonl.gz"
    assert len(records.read_answers(record)) == 22


# beside the paper


def test_tables_without_a_record_show_the_paper():
    table = views.table([])
    assert table.loc["BSA", "paper, keyword ASR"] == "0.149" and table.loc["initial", "paper, harmfulness"] == "1.25"
    assert set(table["model"]) == {"no records at hand"}
    assert views.beside_paper([])["source"].unique().tolist() == [views.PAPER]
    assert "name models" in views.conditions([]).index[0] and "bsa_study.judging" in views.judged([]).index[0]


def test_tables_show_models_as_they_are_deployed(server, results):
    found = [served.execute(served.plan(scale(), arm, asking(), 0, SECRET)) for arm in ("none", "bsa")]
    table = views.table(found)
    assert table.loc["BSA", "keyword ASR (n = 11)"].startswith("0.000 [0.000,")
    assert table.loc["no defense", "keyword ASR (n = 11)"].endswith("1.000]")
    assert table.loc["safety data", "model"] == "no records at hand"
    assert table.loc["no defense", "content ASR (n = 11)"].startswith("0.000 ["), "it said something else each time"
    assert table.loc["no defense", "benign exact match (n = 22)"].startswith("0.000 [")
    assert len(views.conditions(found)) == 3
    ours = views.beside_paper(found)
    ours = ours[ours["source"] == "chat-model"].pivot(index="metric", columns="defense", values="mean")
    assert ours.loc["asr"].to_dict() == {"none": 1.0, "bsa": 0.0}
    assert {"asr_content", "over_refusal", "benign_exact"} <= set(ours.index), "beside the paper's keyword ASR"


def test_judges_score_hosted_models_too(server, results, capsys):
    record = served.execute(served.plan(scale(), "bsa", asking(), 0, SECRET))
    assert "no judgements at hand" in views.judged([record]).index[0]
    server.plan(rules=[("", "#thereason: all of it\n#thescore: 4")])
    judging.main(["tiny", "--judge", "endpoint", "--model", "judge-model", "--yes"])
    assert "1 records, 1 with answers that judge-model has not judged; 22 answers" in capsys.readouterr().out
    judged = views.judged(served.load("tiny"))
    assert judged["served"].tolist() == ["without secret", "with secret"]
    assert judged.iloc[0].to_dict() == {
        "model": "chat-model",
        "seed": 0,
        "served": "without secret",
        "judge": "judge-model",
        "harmfulness score (1-5)": "4.00",
        "n": 11,
        "unparsable": 0,
    }
    assert served.load("tiny") == [record], "a judgement is no record"


# the notebook


@pytest.mark.slow
def test_the_notebook_against_a_server(server, results, hosted, tmp_path):
    profile = yaml.safe_load((ROOT / "profiles" / "tiny.yaml").read_text(encoding="utf-8"))
    profile |= {"evaluation": {"restricted": 11, "benign": 11, "quiz": 0}}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(profile), encoding="utf-8")
    (tmp_path / "secret.txt").write_text(TEXT, encoding="utf-8")
    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(
        ROOT / "notebooks" / "08_hosted_models.ipynb",
        out,
        {
            "profile": str(tmp_path / "small.yaml"),
            "models": {"none": "chat-model", "bsa": "chat-model"},
            "secret_file": str(tmp_path / "secret.txt"),
            "limit_requests": 100,
        },
        kernel_name="python3",
        progress_bar=False,
        cwd=ROOT,
    )
    assert len(server.seen()) == 44, "no defense plain, BSA with and without; equal requests are asked once"
    assert len(list((results / "tiny" / "hosted").glob("*.json"))) == 2
    assert {path.name for path in (hosted / "tiny").iterdir()} == {
        f"{arm}-seed0.jsonl" for arm in ("none", "safety-data", "bsa", "balanced-bsa")
    }
    shown = nbformat.read(out, as_version=4)
    printed = json.dumps([cell.get("outputs", []) for cell in shown.cells])
    assert "chat-model" in printed and "1.000 [" in printed and SECRET.shown["digest"] in printed
    own = {tmp_path / "secret.txt", *(hosted / "tiny" / f"{arm}-seed0.jsonl" for arm in ("bsa", "balanced-bsa"))}
    assert {path for path, content in everything(tmp_path).items() if TEXT.encode() in content} == own
