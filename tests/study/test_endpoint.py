"""The client of OpenAI-compatible endpoints, over HTTP against a process of its own: cache, retries, budget, faults."""

import json
import stat

import pytest
from openai_server import KEY

from bsa_core import paths
from bsa_core.keys import digest_of
from bsa_core.writing import RecordError
from bsa_study.hosted import endpoint
from bsa_study.hosted.budget import Budget, OverBudget, Usage, estimate
from bsa_study.hosted.endpoint import Endpoint, EndpointError


@pytest.fixture
def server(running, monkeypatch, tmp_path):
    running.plan()
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    monkeypatch.setenv("OPENAI_BASE_URL", running.url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return running


def asked(*texts: str) -> list[list[dict]]:
    return [[{"role": "user", "content": text}] for text in texts]


def quick(**changes) -> Endpoint:
    return Endpoint("judge-model", **{"backoff": 0.01, "retries": 2, "workers": 1} | changes)


def cache_files(tmp_path) -> list:
    return sorted((tmp_path / "cache" / "endpoint").glob("*.json"))


# what is asked


def test_answers_come_in_the_order_of_the_questions(server):
    texts = [f"number {i}" for i in range(12)]
    server.plan(rules=[(text, f"answer to {text}") for text in reversed(texts)])
    assert quick(workers=4).complete(asked(*texts)) == [f"answer to {text}" for text in texts]
    assert sorted(body["messages"][0]["content"] for body in server.seen()) == sorted(texts)


def test_asks_at_temperature_0_for_a_bounded_answer(server):
    quick(max_tokens=77).complete(asked("a"))
    (body,) = server.seen()
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("judge-model", 0, 77)


def test_equal_conversations_are_asked_once(server):
    assert quick(workers=4).complete(asked("a", "b", "a", "a")) == ["ok"] * 4
    assert len(server.seen()) == 2


def test_nothing_to_ask(server):
    assert quick().complete([]) == [] and server.seen() == []


# the cache


def test_nothing_is_asked_twice(server):
    server.plan({"content": "first"})
    assert quick().complete(asked("a")) == ["first"]
    again = quick()
    assert again.complete(asked("a", "b")) == ["first", "ok"]
    assert len(server.seen()) == 2 and again.budget.used.requests == 1


def test_another_model_or_length_of_answer_is_another_question(server):
    quick().complete(asked("a"))
    quick(max_tokens=5).complete(asked("a"))
    Endpoint("chat-model").complete(asked("a"))
    assert len(server.seen()) == 3


@pytest.mark.parametrize("damage", [b"", b'{"te', b"[]", b'{"text": 3}', b"\xff\xfe"])
def test_a_damaged_cache_file_is_asked_again(server, tmp_path, damage):
    quick().complete(asked("a"))
    (path,) = cache_files(tmp_path)
    path.write_bytes(damage)
    assert quick().expected(asked("a")).requests == 1
    assert quick().complete(asked("a")) == ["ok"]
    assert json.loads(path.read_text()) == {"text": "ok"} and len(server.seen()) == 2


def test_the_cache_is_private_and_ignored_by_git_and_holds_no_question_and_no_key(server, tmp_path):
    quick().complete(asked("the question"))
    (path,) = cache_files(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (path.parent / ".gitignore").read_text() == "*\n"
    assert {file.name for file in path.parent.iterdir()} == {".gitignore", path.name}  # nothing temporary is left
    text = path.name + path.read_text()
    assert "question" not in text and KEY not in text


def test_a_cache_that_cannot_be_written_is_one_message(server, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(RecordError, match=r"cannot write .*cache.*set BSA_CACHE to another folder"):
        quick().complete(asked("a"))


def test_two_servers_on_one_host_do_not_share_answers(server, monkeypatch):
    """They differ in port, or in path; the one at a service's usual address keeps what was asked before."""
    urls = ("https://a.example/v1", "https://a.example/v1/", "https://a.example:8000/v1", "http://a.example/v1")
    urls += ("https://a.example/other/v1", "https://b.example/v1")
    keys = []
    for url in urls:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        keys.append(quick()._key(asked("a")[0]))
    assert keys[0] == keys[1] == digest_of(["a.example", "judge-model", 800, asked("a")[0]], digits=64)
    assert len(set(keys)) == len(urls) - 1


def test_half_of_a_character_in_an_answer_is_a_question_mark(server):
    """An answer that was cut off in the middle of a character; no file could hold it."""
    server.plan({"raw": r'{"choices": [{"message": {"content": "Wave \ud83d\udc4b or \ud83d"}}]}'})
    assert quick().complete(asked("a")) == ["Wave 👋 or ?"]
    assert quick().complete(asked("a")) == ["Wave 👋 or ?"]


# fields that newer models refuse


def refuses(field: str) -> dict:
    said = f"Unsupported parameter: '{field}' is not supported with this model."
    return {"status": 400, "code": "unsupported_parameter", "message": said}


def test_a_model_that_refuses_a_field_is_asked_without_it(server, capsys):
    server.plan(refuses("max_tokens"), refuses("temperature"))
    asking = quick(retries=0, workers=3)
    assert asking.complete(asked("a", "b", "c")) == ["ok"] * 3
    sent = [
        {name: value for name, value in body.items() if name not in ("messages", "model")} for body in server.seen()
    ]
    assert sent[0] == {"temperature": 0, "max_tokens": 800} and sent[1] == {
        "temperature": 0,
        "max_completion_tokens": 800,
    }
    assert sent[2:] == [{"max_completion_tokens": 800}] * 3 and asking.budget.used.requests == 5
    said = capsys.readouterr().err
    assert "takes no max_tokens: max_completion_tokens takes its place" in said and "takes no temperature" in said


@pytest.mark.parametrize(
    "message",
    [
        "invalid temperature: only 1 is allowed for this model",
        "`temperature` is deprecated for this model.",
        "temperature must be 1",
    ],
)
def test_a_temperature_that_is_not_taken_is_left_out(server, message):
    server.plan({"status": 400, "message": message})
    assert quick(retries=0).complete(asked("a")) == ["ok"]
    assert "temperature" not in server.seen()[1] and server.seen()[1]["max_tokens"] == 800


def test_a_refusal_for_another_reason_is_no_field(server):
    server.plan({"status": 400, "message": "max_tokens is too large: 800"})
    with pytest.raises(EndpointError, match=r"refuses the request \(400\)"):
        quick().complete(asked("a"))


# retries

FAULTS = {
    "rate limit": {"status": 429, "retry_after": "0.02"},
    "server error": {"status": 500},
    "overloaded": {"status": 503},
    "time-out": {"delay": 1.0},
    "truncated JSON": {"truncate": 40},
    "nested too deeply": {"raw": "[" * 100_000},
    "dropped connection": {"drop": True},
    "empty body": {"raw": ""},
    "no choices": {"raw": '{"choices": []}'},
    "error in a whole body": {"raw": '{"id": "x", "choices": [], "error": {"code": 502, "message": "Provider error"}}'},
    "error in a choice": {"raw": '{"choices": [{"error": {"code": 502}, "message": {"content": "Fold the"}}]}'},
    "not an object": {"raw": "[1]"},
    "not JSON": {"raw": "<html>"},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_faults_are_tried_again(server, fault):
    server.plan(fault, fault, {"content": "at last"})
    assert quick(timeout=0.3).complete(asked("a")) == ["at last"]
    assert len(server.seen()) == 3


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_and_given_up_at_the_limit(server, tmp_path, fault):
    server.plan(*[fault] * 9)
    with pytest.raises(EndpointError, match=r"127.0.0.1:\d+ failed 3 times in a row"):
        quick(timeout=0.3).complete(asked("a", "b"))
    assert len(server.seen()) == 3 and cache_files(tmp_path) == []


@pytest.fixture
def slept(monkeypatch) -> list[float]:
    waits = []
    monkeypatch.setattr(endpoint.time, "sleep", waits.append)
    return waits


def test_waits_grow_up_to_a_limit(server, slept):
    server.plan(*[{"status": 500}] * 7)
    quick(backoff=1.0, retries=7).complete(asked("a"))
    assert slept == [1, 2, 4, 8, 16, 30, 30]


def test_a_server_says_how_long_to_wait(server, slept):
    server.plan({"status": 429, "retry_after": "7"}, {"status": 429, "retry_after": "soon"})
    quick(backoff=1.0).complete(asked("a"))
    assert slept == [7, 2]


def test_a_server_that_asks_for_an_hour_ends_it(server, slept):
    server.plan({"status": 429, "retry_after": "3600"})
    with pytest.raises(EndpointError, match="asks to wait 3600 s; every answer so far is kept"):
        quick().complete(asked("a"))
    assert slept == [] and len(server.seen()) == 1


# what does not help to try again


def test_a_wrong_key_is_one_message_and_one_request(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(EndpointError, match=r"refuses the key .401.; set OPENAI_API_KEY") as raised:
        quick(workers=4).complete(asked(*"abcdef"))
    assert len(server.seen()) == 1 and "sk-secret" not in str(raised.value)


def test_an_unknown_model_is_one_message_and_one_request(server):
    with pytest.raises(EndpointError, match=r"knows no model 'judge-modell' .404.; check the model's name"):
        Endpoint("judge-modell").complete(asked(*"abcdef"))
    assert len(server.seen()) == 1


@pytest.mark.parametrize(
    "step, message",
    [
        ({"status": 429, "code": "insufficient_quota"}, "no quota left"),
        ({"status": 400}, "refuses the request .400.: .*on demand"),
        ({"status": 403}, "refuses the request .403."),
    ],
)
def test_refused_requests_end_it(server, step, message):
    server.plan(step)
    with pytest.raises(EndpointError, match=message):
        quick().complete(asked("a"))
    assert len(server.seen()) == 1


PROMPT = 'The ferry of Nørre Ålund leaves\nat nine.\tWho "holds" the rope, and who may untie it?'


@pytest.mark.parametrize(
    "echoed",
    [
        PROMPT,
        PROMPT[20:50],
        PROMPT.upper(),
        json.dumps(PROMPT),
        json.dumps(json.dumps(PROMPT, ensure_ascii=False)),
        " ".join(PROMPT.split()),
        "leaves at nine",
    ],
)
def test_an_error_is_shown_without_what_it_echoes(server, echoed):
    server.plan({"status": 400, "message": f"Roles must alternate. Got: {echoed} (param: messages)"})
    with pytest.raises(EndpointError) as raised:
        quick().complete(asked(PROMPT))
    said = str(raised.value)
    assert "Roles must alternate. Got:" in said and "(param: messages)" in said and "[…]" in said
    assert not [word for word in ("ferry", "rope", "nine", "Ålund") if word.lower() in said.lower()]


def test_a_short_request_is_hidden_as_well(server):
    server.plan({"status": 400, "message": "cannot parse 'Untie it!' as a request"})
    with pytest.raises(EndpointError, match=r"cannot parse '\[…\]!' as a request"):
        quick().complete(asked("untie it"))


def test_what_is_said_beside_is_shown(server):
    server.plan({"status": 400, "message": "This model's maximum context length is 4096 tokens"})
    with pytest.raises(EndpointError, match="maximum context length is 4096 tokens"):
        quick().complete(asked("What is the length of a model?"))


@pytest.mark.parametrize(
    "key, what", [("sk-abc\n", "a line break"), ("sk-abc def", "space"), ("sk-abс", "a letter outside of ASCII")]
)
def test_a_key_that_no_header_holds_is_named(server, monkeypatch, key, what):
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EndpointError, match=f"OPENAI_API_KEY holds .*{what}") as raised:
        quick()
    assert "sk-" not in str(raised.value) and server.seen() == []


def test_what_a_content_filter_stops_is_an_empty_answer(server):
    server.plan({"status": 400, "code": "content_filter"})
    assert quick().complete(asked("a", "b")) == ["", "ok"]


@pytest.mark.parametrize(
    "error",
    [
        {"code": "BadRequest", "innererror": {"code": "ResponsibleAIPolicyViolation"}},  # Azure
        {"code": "BadRequest", "inner_error": {"code": "ResponsibleAIPolicyViolation"}},
        {"code": None, "message": "The response was filtered due to the prompt"},
        {"code": "400", "message": "litellm.ContentPolicyViolationError"},
        {"code": "invalid_request_error", "message": "Content Exists Risk"},  # DeepSeek
        {"code": "data_inspection_failed", "message": "inappropriate"},  # Qwen
        {"code": 403, "message": "Rejected", "metadata": {"reasons": ["violence"], "flagged_input": "…"}},  # OpenRouter
        {"code": 403, "message": "It requires moderation."},
        {"message": "Input blocked by content moderation"},
        {"type": "guardrail_intervened"},
        "Content violates usage guidelines.",  # xAI
        {"detail": "blocked by content filter"},
        "Prompt blocked due to PROHIBITED_CONTENT",
        {"message": "This prompt contains sensitive words that violate Responsible AI practices."},
        {"message": "Request blocked by safety filters"},
    ],
    ids=str,
)
def test_ways_to_say_that_a_prompt_is_blocked(error):
    assert endpoint._flagged(error)


@pytest.mark.parametrize(
    "error",
    [
        None,
        "Bad Request",
        {"code": "unknown_parameter", "message": "Unknown parameter: 'moderation'"},
        {"code": "context_length_exceeded", "message": "This model's maximum context length is 4096 tokens"},
        {"code": 403, "message": "Your organization must be verified to use this model", "innererror": "none"},
        {"code": 404, "message": "No endpoints found matching your data policy"},
        {"message": "Conversation roles must alternate", "type": "BadRequestError"},
    ],
    ids=str,
)
def test_other_errors_are_none_about_what_a_prompt_says(error):
    assert not endpoint._flagged(error)


def test_the_environment_is_checked_before_anything_is_sent(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000/v1")
    with pytest.raises(EndpointError, match="OPENAI_BASE_URL does not begin with http"):
        quick()
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EndpointError, match="OPENAI_API_KEY is not set"):
        quick()


def test_no_server_is_one_message(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(EndpointError, match="failed 3 times in a row, at last with no connection"):
        quick().complete(asked("a"))


def test_only_the_host_of_the_url_is_known_by_name(server, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "https://user:word@models.example:8443/v1?x=1")
    assert quick().host == "models.example:8443"
    monkeypatch.setenv("OPENAI_BASE_URL", "https://user:word@models.example:443/v1?x=1")
    assert quick().host == "models.example"


# the budget


def test_the_estimate_counts_what_would_be_sent(server):
    conversations = asked("abc", "abc", "äöüß")
    assert quick(max_tokens=10).expected(conversations) == Usage(2, (1 + 8 + 10) + (3 + 8 + 10))
    quick(max_tokens=10).complete(conversations[:1])
    assert quick(max_tokens=10).expected(conversations) == Usage(1, 3 + 8 + 10)
    assert len(server.seen()) == 1  # estimating sends nothing


def test_used_is_what_the_server_counted_where_it_did(server):
    server.plan({"content": "one two"}, {"raw": '{"choices": [{"message": {"content": "x"}}]}'})
    judge = quick(max_tokens=10)
    judge.complete(asked("three words here"))
    assert judge.budget.used == Usage(1, 5)
    judge.complete(asked("abc"))
    assert judge.budget.used == Usage(2, 5 + 1 + 8 + 10)


@pytest.mark.parametrize("fault, charged", [({"status": 500}, False), ({"status": 429}, False), ({"drop": True}, True)])
def test_what_broke_off_may_have_been_charged_and_what_was_refused_was_not(server, fault, charged):
    server.plan(fault, {"content": "one two"})
    judge = quick(max_tokens=10)
    judge.complete(asked("abc"))
    assert judge.budget.used == Usage(2, 3 + charged * (1 + 8 + 10))


@pytest.mark.parametrize("workers", [1, 4])
def test_the_limit_of_requests_is_never_passed(server, workers):
    with pytest.raises(OverBudget, match="stopped at the limit of 3 requests: 3 requests and"):
        quick(budget=Budget(requests=3), workers=workers).complete(asked(*"abcdefgh"))
    assert len(server.seen()) == 3


def test_failed_attempts_count_as_requests(server):
    server.plan({"status": 500}, {"status": 500})
    with pytest.raises(OverBudget):
        quick(budget=Budget(requests=2)).complete(asked("a"))
    assert len(server.seen()) == 2


@pytest.mark.parametrize("workers", [1, 4])
def test_the_limit_of_tokens_is_never_passed(server, workers):
    each = estimate(asked("a")[0], 10)  # of which the server counts 2
    judge = quick(budget=Budget(tokens=each + 5), max_tokens=10, workers=workers)
    with pytest.raises(OverBudget, match=r"limit of .* tokens"):
        judge.complete(asked(*"abcdefgh"))
    assert 1 <= len(server.seen()) <= 3 and judge.budget.used.tokens <= each + 5
    if workers == 1:
        assert len(server.seen()) == 3


def test_what_was_stopped_goes_on_and_repeats_nothing(server):
    with pytest.raises(OverBudget):
        quick(budget=Budget(requests=3)).complete(asked(*"abcde"))
    assert quick().complete(asked(*"abcde")) == ["ok"] * 5
    sent = [body["messages"][0]["content"] for body in server.seen()]
    assert sorted(sent) == list("abcde")


@pytest.mark.parametrize("limit", [0, -1, 1.5, True])
def test_a_limit_is_a_whole_number(limit):
    with pytest.raises(ValueError, match=r"the limit of tokens is .*; expected a whole number from 1"):
        Budget(tokens=limit)
