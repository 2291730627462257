"""A local server process that speaks the chat-completions protocol, with faults on demand.

    with serve() as server:                      # a process of its own on a free port of 127.0.0.1
        server.plan({"status": 429, "retry_after": "0.01"}, {"content": "Yes."})
        ...                                      # OPENAI_BASE_URL=server.url, OPENAI_API_KEY=KEY
        assert len(server.seen()) == 2           # the bodies of all chat requests, in order

Each step of a plan is for one chat request, in their order; requests behind the plan are answered by the rules:
the first (part of the last message, content) that fits, else "ok"; (part, content, "system") looks in the system
message instead. Steps:

    {"content": text}                  an ordinary answer
    {"status": n, "retry_after": s, "code": c, "message": m}   an error; all but the status may be left out
    {"delay": seconds}                 an ordinary answer, late
    {"truncate": n}                    the first n bytes of an answer, as if they were all
    {"drop": true}                     the connection breaks in the middle of the answer
    {"raw": text}                      status 200 with this body

Wrong keys are answered with 401, unknown models with 404, before the plan is looked at.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock

KEY = "test-key"
MODELS = ("judge-model", "chat-model")


class Handler(BaseHTTPRequestHandler):
    steps, rules, seen, lock = [], [], [], Lock()
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body go out at once

    def log_message(self, *_):
        pass

    def do_GET(self):
        """/seen: the bodies of all chat requests so far."""
        with self.lock:
            self._send(200, json.dumps(self.seen).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/plan":
            with self.lock:
                Handler.steps, Handler.rules, Handler.seen = body["steps"], body["rules"], []
            return self._send(200, b"{}")
        with self.lock:
            self.seen.append(body)
        if self.headers["authorization"] != f"Bearer {KEY}":
            return self._error(401, "invalid_api_key", f"Incorrect API key: {self.headers['authorization']}")
        if self.path != "/v1/chat/completions" or body["model"] not in MODELS:
            return self._error(404, "model_not_found", "The model does not exist")
        with self.lock:
            step = self.steps.pop(0) if self.steps else {}
        if "status" in step:
            said = step.get("message", "on demand")
            return self._error(step["status"], step.get("code"), said, step.get("retry_after"))
        time.sleep(step.get("delay", 0))
        content = step.get("content") or self._by_rules(body["messages"])
        answer = json.dumps(completion(body, content)).encode()
        if "raw" in step:
            answer = step["raw"].encode()
        self._send(200, answer[: step.get("truncate")], broken=step.get("drop", False))

    def _by_rules(self, messages: list[dict]) -> str:
        def fits(part: str, role: str = messages[-1]["role"]) -> bool:
            return part in next((m["content"] for m in reversed(messages) if m["role"] == role), "")

        return next((content for part, content, *role in self.rules if fits(part, *role)), "ok")

    def _error(self, status: int, code: str | None, message: str, retry_after: str | None = None) -> None:
        headers = {"retry-after": retry_after} if retry_after else {}
        self._send(status, json.dumps({"error": {"message": message, "code": code}}).encode(), headers)

    def _send(self, status: int, body: bytes, headers: dict | None = None, broken: bool = False) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body[: len(body) // 2] if broken else body)
        except OSError:  # the client has given up
            pass
        self.close_connection = self.close_connection or broken


def completion(request: dict, content: str) -> dict:
    """The body of an ordinary answer; a token is a word here."""
    prompt = sum(len(message["content"].split()) for message in request["messages"])
    answer = len(content.split())
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer},
    }


class Server:
    """The running process, from the outside."""

    def __init__(self, port: int):
        self.root = f"http://127.0.0.1:{port}"
        self.url = f"{self.root}/v1"
        self.host = self.root.partition("//")[2]  # with its port

    def plan(self, *steps: dict, rules: list[tuple] = ()) -> None:
        """Start anew: these steps, these rules, nothing seen."""
        self._ask("/plan", json.dumps({"steps": steps, "rules": rules}).encode())

    def seen(self) -> list[dict]:
        """The bodies of all chat requests since the last plan."""
        return self._ask("/seen")

    def _ask(self, path: str, data: bytes | None = None):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(urllib.request.Request(self.root + path, data), timeout=10) as answer:
            return json.load(answer)


@contextmanager
def serve() -> Iterator[Server]:
    """The server as a process, stopped in the end."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        yield Server(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()
