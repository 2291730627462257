"""Chat completions of one model at any OpenAI-compatible endpoint: cached, retried, within a budget.

Base URL and key come from the environment (OPENAI_BASE_URL, OPENAI_API_KEY) and are stored nowhere. Answers are kept
in the cache folder by a hash of what was asked, so that what was interrupted goes on and nothing is paid twice.
"""

import json
import os
import re
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor

from bsa_core import paths, reasoning
from bsa_core.keys import digest_of
from bsa_core.progress import once
from bsa_core.reasoning import Answer
from bsa_core.writing import write_whole
from bsa_study.hosted.budget import Budget, Usage, estimate

LONGEST_WAIT = 120.0  # seconds that a server may ask for before the run stops
LONGEST_BACKOFF = 30.0
LONGEST_ERROR = 3000  # letters of a server's message that are looked at
ECHO = 12  # letters in a row that are shown as […] where they stand in the request too

# How services say that they blocked a prompt or an answer: finish reasons, codes of errors, words of their messages.
STOPPED = ("content_filter", "safety", "prohibited_content", "blocklist", "spii", "refusal", "sensitive")
STOPPED += ("content_moderation", "moderation", "guardrail_intervened")
FLAGGED = re.compile(
    "content_filter|invalid_prompt|content_policy|moderation|responsibleaipolicy|data_inspection|guardrail", re.I
)
FLAGGED_WORDS = re.compile(
    r"\bflagged\b|usage (?:policy|policies|guidelines)|content ?(?:management )?policy|content filter|was filtered|"
    r"(?:by|requires)(?: \w+)? moderation|safety (?:system|model|filter)|guardrail|content exists risk|"
    "(?:sensitive|unsafe|prohibited)[ _](?:content|words)|responsible ai|敏感内容",
    re.I,
)
UNSUPPORTED = re.compile(
    r"unsupported|not support|not allowed|not permitted|unrecognized|unknown|unexpected|use '?max_c"
)
# A temperature that the model does not take at 0. Of a length it would say how long an answer may be.
FIXED = re.compile(r"\bonly\b|must be|deprecated|invalid|cannot be (?:set|specified)")


class EndpointError(ValueError):
    """The endpoint cannot be used, or failed too often; the message says what to do."""


class Malformed(Exception):
    """What came back is not a chat completion."""


class Endpoint:
    """A model behind an endpoint, asked at temperature 0, or at its own where it takes none.

    max_tokens: of one answer. timeout: seconds for one request. retries: further attempts after rate limits, server
        errors, time-outs, broken connections and answers that are no JSON. backoff: seconds before the first of them,
        doubled each time; a server's Retry-After takes precedence. workers: requests in flight at once.
    """

    def __init__(
        self,
        model: str,
        budget: Budget | None = None,
        max_tokens: int = 800,
        timeout: float = 120.0,
        retries: int = 5,
        backoff: float = 1.0,
        workers: int = 4,
    ):
        try:
            import openai
        except ImportError:
            raise EndpointError("the openai client is not installed: .venv/bin/pip install -e '.[judge]'") from None
        self.openai = openai
        if not (key := os.environ.get("OPENAI_API_KEY")):
            raise EndpointError("OPENAI_API_KEY is not set; export your key (any text for a server that asks for none)")
        if odd := [letter for letter in key if not "!" <= letter <= "~"]:
            what = "a line break or space" if odd[0].isspace() else "a letter outside of ASCII"
            raise EndpointError(f"OPENAI_API_KEY holds {what}; export the key alone, as the service shows it")
        self.client = self.openai.OpenAI(max_retries=0, timeout=timeout)
        if self.client.base_url.scheme not in ("http", "https"):
            raise EndpointError("OPENAI_BASE_URL does not begin with http:// or https://")
        url = self.client.base_url
        self.host = url.host if url.port is None else f"{url.host}:{url.port}"
        self.fields = {"temperature": 0, "max_tokens": max_tokens}
        self.model, self.budget, self.max_tokens = model, budget or Budget(), max_tokens
        self.timeout, self.retries, self.backoff, self.workers = timeout, retries, backoff, workers

    def expected(self, conversations: list[list[dict]]) -> Usage:
        """What `complete` takes at most without retries, estimated; what is in the cache takes nothing."""
        missing = [messages for key, messages in self._by_key(conversations).items() if _cached(key) is None]
        return Usage(len(missing), sum(estimate(messages, self.max_tokens) for messages in missing))

    def complete(self, conversations: list[list[dict]]) -> list[Answer]:
        """One answer per conversation (a list of `{"role", "content"}`), in their order.

        Where there is none it is "" and says why: the service blocked prompt or answer, the model gave reasoning only,
        or nothing. Reasoning is kept apart. Equal conversations are asked once. Raises OverBudget, EndpointError, or
        RecordError where the cache cannot be written; answers up to there stay in the cache.
        """
        asked = self._by_key(conversations)
        said = {key: _cached(key) for key in asked}
        missing = [key for key in asked if said[key] is None]
        # the first goes alone: a wrong key or model costs one request, not one of each worker
        said |= {key: self._ask(key, asked[key]) for key in missing[:1]}
        with ThreadPoolExecutor(self.workers) as pool:
            futures = {key: pool.submit(self._ask, key, asked[key]) for key in missing[1:]}
            try:
                said |= {key: future.result() for key, future in futures.items()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [said[self._key(messages)] for messages in conversations]

    def _key(self, messages: list[dict]) -> str:
        """Two servers may give one name to two models, so the server counts: its host, for a service at its usual
        address, else the whole base URL."""
        url = str(self.client.base_url).rstrip("/")
        host = self.client.base_url.host
        server = host if url == f"https://{host}/v1" else url
        return digest_of([server, self.model, self.max_tokens, messages], digits=64)

    def _by_key(self, conversations: list[list[dict]]) -> dict[str, list[dict]]:
        return {self._key(messages): messages for messages in conversations}

    def _ask(self, key: str, messages: list[dict]) -> Answer:
        """One answer, kept in the cache before it is returned."""
        reserved, problem = estimate(messages, self.max_tokens), ""
        for attempt in range(self.retries + 1):
            wait = min(self.backoff * 2**attempt, LONGEST_BACKOFF)
            self.budget.reserve(reserved)
            try:
                answer, tokens = self._send(messages)
            except self.openai.APIStatusError as error:
                self.budget.settle(reserved, 0)  # turned away, so not charged
                if error.status_code in (400, 403, 422, 451) and _flagged(error.body):
                    return _keep(key, Answer("", blocked=True))
                if error.status_code in (400, 422) and self._without(error.body):
                    return self._ask(key, messages)
                problem, wait = f"status {error.status_code}", self._wait(error, wait, messages)
            except self.openai.APITimeoutError:
                problem = f"no answer within {self.timeout:g} s"
            except self.openai.APIConnectionError:
                problem = "no connection, or one that broke off"
            except Malformed:
                problem = "an answer that is not a chat completion"
            else:
                self.budget.settle(reserved, reserved if tokens is None else tokens)
                return _keep(key, answer)
            if attempt < self.retries:
                time.sleep(wait)
        fix = "Every answer so far is kept; check OPENAI_BASE_URL and the server, and start again"
        raise EndpointError(f"{self.host} failed {self.retries + 1} times in a row, at last with {problem}. {fix}")

    def _without(self, error) -> bool:
        """Whether the model refuses one of the fields; further requests are sent without it, and this is said once."""
        said = json.dumps(error).lower()
        sent = dict(self.fields)
        field = next((name for name in sent if re.search(rf"\b{name}\b", said)), None)
        if field is None or not (UNSUPPORTED.search(said) or (field == "temperature" and FIXED.search(said))):
            return False
        del sent[field]
        told = "it is asked at its own"
        if field == "max_tokens":
            told, sent["max_completion_tokens"] = "max_completion_tokens takes its place", self.max_tokens
        elif field == "max_completion_tokens":
            told = "its answers may be as long as it likes"
        self.fields = sent
        once(f"{self.model} at {self.host} takes no {field}: {told}")
        return True

    def _send(self, messages: list[dict]) -> tuple[Answer, int | None]:
        """The answer, and tokens of prompt and answer if the server counts them."""
        raw = self.client.chat.completions.with_raw_response.create(model=self.model, messages=messages, **self.fields)
        return answered(raw.content)

    def _wait(self, error, backoff: float, messages: list[dict]) -> float:
        """Seconds before the next attempt; EndpointError where another would not help."""
        status = error.status_code
        if status == 401:
            raise EndpointError(f"{self.host} refuses the key (401); set OPENAI_API_KEY to one of that host") from None
        if status == 404:
            raise EndpointError(
                f"{self.host} knows no model {self.model!r} (404); check the model's name, and that OPENAI_BASE_URL "
                "has the path that the server wants, usually /v1"
            ) from None
        if error.code == "insufficient_quota":
            spent = f"the account at {self.host} has no quota left (429)"
            raise EndpointError(f"{spent}; top it up and start again") from None
        if status not in (408, 409, 429) and status < 500:
            said = _unquoted(str(error.message)[:LONGEST_ERROR].replace(self.client.api_key, "***"), messages)[:300]
            raise EndpointError(f"{self.host} refuses the request ({status}): {said}") from None
        asked = error.response.headers.get("retry-after", "")
        if not re.fullmatch(r"\d+(\.\d+)?", asked):
            return backoff
        if float(asked) > LONGEST_WAIT:
            raise EndpointError(f"{self.host} asks to wait {asked} s; every answer so far is kept, start again then")
        return float(asked)


def answered(content: bytes) -> tuple[Answer, int | None]:
    """The answer of a chat completion, and its tokens if they are counted; Malformed where it is none."""
    try:
        body = json.loads(content)
        answer = _said(body)
        tokens = (body.get("usage") or {}).get("total_tokens")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Malformed from None
    return answer, tokens if type(tokens) is int and tokens >= 0 else None


def _said(body: dict) -> Answer:
    """What a chat completion says; LookupError, TypeError or AttributeError where it is none.

    One that has no choice, but an identifier, is whole: services send it for a prompt that they block.
    """
    choice = (body.get("choices") or [{}])[0]
    if failed := body.get("error") or choice.get("error"):
        if _flagged(failed):
            return Answer("", blocked=True)
        raise TypeError
    if not choice and "id" in body and "choices" in body:
        return Answer("", blocked="prompt_filter_results" in body)
    return _answer(choice)


def _answer(choice: dict) -> Answer:
    if str(choice.get("finish_reason")).lower().partition(":")[0] in STOPPED:
        return Answer("", blocked=True)
    message = choice["message"]
    content, thought = message.get("content") or "", message.get("reasoning_content") or message.get("reasoning") or ""
    if isinstance(content, list):  # in parts, of which only those of text are the answer
        content = "".join(part["text"] for part in content if part.get("type") in ("text", "output_text"))
    if not isinstance(content, str):
        raise TypeError
    if message.get("refusal") and not content.strip():
        return Answer("", blocked=True)
    answer = reasoning.split(_whole(content))
    return Answer(answer, answer.reasoning or (_whole(thought) if isinstance(thought, str) else ""))


def _whole(text: str) -> str:
    """The text with a question mark for half of a character, which an answer that was cut off may end with."""
    return text.encode(errors="replace").decode()


def _unquoted(said: str, messages: list[dict]) -> str:
    """A server's message without what it repeats of a conversation, however it is spelled or cut."""
    said = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), said)
    said = unicodedata.normalize("NFKC", re.sub(r"\\[nrtbf]", " ", said))
    places = [place for place, letter in enumerate(said) if letter.isalnum()]
    letters, hidden = "".join(said[place].lower()[0] for place in places), set()
    for message in messages:
        text = unicodedata.normalize("NFKC", message["content"])
        text = "".join(letter.lower()[0] for letter in text if letter.isalnum())
        size = min(ECHO, len(text))
        for start in range(len(letters) - size + 1 if size >= 4 else 0):
            if letters[start : start + size] in text:
                hidden.update(range(places[start], places[start + size - 1] + 1))
    shown = "".join("\0" if place in hidden else letter for place, letter in enumerate(said))
    return re.sub("\0+", "[…]", shown)


def _flagged(error) -> bool:
    """Whether a service turned a prompt away for what it says, and not for how it is sent.

    error: what stands under "error" in the body, or the body: an object or a text.
    """
    body = error if isinstance(error, dict) else {"message": error}
    codes = " ".join(str(body.get(name)) for name in ("code", "type", "innererror", "inner_error"))
    said = str(body.get("message") or body.get("detail"))
    return bool(FLAGGED.search(codes) or FLAGGED_WORDS.search(said) or "flagged_input" in str(body.get("metadata")))


def _path(key: str):
    return paths.CACHE / "endpoint" / f"{key}.json"


def _cached(key: str) -> Answer | None:
    """The kept answer; None where there is none, or where the file is damaged: then it is asked for again."""
    try:
        kept = json.loads(_path(key).read_text(encoding="utf-8"))
        answer = reasoning.split(kept["text"])  # files of earlier versions hold reasoning and answer as one
        return Answer(answer, kept.get("reasoning") or answer.reasoning, kept.get("blocked", False))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _keep(key: str, answer: Answer) -> Answer:
    """Readable to its owner only: a judge may quote what it judges."""
    ignore = _path(key).with_name(".gitignore")
    if not ignore.exists():
        write_whole(ignore, b"*\n", "BSA_CACHE")
    more = {"reasoning": answer.reasoning, "blocked": answer.missing == "blocked"}
    kept = {"text": answer} | {name: value for name, value in more.items() if value}
    write_whole(_path(key), json.dumps(kept).encode(), "BSA_CACHE")
    return answer
