"""What asking a served model costs: estimated before, counted on the way, and never beyond a limit."""

from dataclasses import dataclass
from threading import Lock

BYTES_PER_TOKEN = 3  # of English it is about four, so that an estimate is seldom too low
PER_MESSAGE = 8  # tokens a chat format puts around a message


class OverBudget(ValueError):
    """The next request could go beyond a limit, so it was not sent."""


@dataclass(frozen=True)
class Usage:
    """Requests sent, those that failed included, and tokens of prompts and answers."""

    requests: int = 0
    tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.requests + other.requests, self.tokens + other.tokens)

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.requests - other.requests, self.tokens - other.tokens)


def estimate(messages: list[dict], max_tokens: int) -> int:
    """Tokens that one request takes at most, estimated: its text by its bytes, and the longest answer allowed."""
    text = sum(len(message["content"].encode()) for message in messages)
    return -(-text // BYTES_PER_TOKEN) + PER_MESSAGE * len(messages) + max_tokens


class Budget:
    """Counts, and refuses what could go beyond a limit (None: no limit). Threads may share one."""

    def __init__(self, requests: int | None = None, tokens: int | None = None):
        self.limits = {"requests": requests, "tokens": tokens}
        for name, limit in self.limits.items():
            if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
                raise ValueError(f"the limit of {name} is {limit!r}; expected a whole number from 1")
        self.used = Usage()
        self._lock = Lock()

    def reserve(self, tokens: int) -> None:
        """Count a request of so many tokens before it is sent; OverBudget when it does not fit."""
        with self._lock:
            after = self.used + Usage(1, tokens)
            for name, limit in self.limits.items():
                if limit is not None and (wanted := getattr(after, name)) > limit:
                    raise OverBudget(
                        f"stopped at the limit of {limit} {name}: {self.used.requests} requests and "
                        f"{self.used.tokens} tokens are used, the next request could bring {name} to {wanted}. "
                        "Every answer so far is kept; start again with a higher limit to go on"
                    )
            self.used = after

    def settle(self, reserved: int, tokens: int) -> None:
        """Put what a request took in place of what was reserved for it."""
        with self._lock:
            self.used += Usage(0, tokens - reserved)
