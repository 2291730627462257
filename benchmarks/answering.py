"""Ways to answer the same requests greedily with the same model.

ours        the project's own engine: what all requests begin with goes through the model once
generate    transformers' `generate`, batched by length and padded on the left, with whichever number of rows and cache
            is fastest on a part of the requests
"""

import time
from dataclasses import dataclass, replace

import torch

from bsa_core.engine import decode, evaluate
from bsa_core.examples import Example
from bsa_core.models import chat, loading
from bsa_core.profiles import Profile

BATCHES = (16, 32, 64)
CACHES = ("dynamic", "static")


@dataclass(frozen=True)
class Work:
    """A turn is one answer to each request. secret: text in front of every system prompt."""

    profile: Profile
    requests: tuple[Example, ...]
    secret: str
    turns: int

    def small(self) -> "Work":
        return replace(self, requests=self.requests[:4], turns=1)


def ours(work: Work, turns) -> None:
    loaded = loading.load(work.profile)
    turns.begin(batch_size=work.profile.decoding.batch_size)
    for _ in range(work.turns):
        turns([str(answer) for answer in evaluate.answers(loaded, work.profile, list(work.requests), work.secret)])


def generate(work: Work, turns) -> None:
    loaded = loading.load(work.profile)
    tokenizer, profile = loaded.tokenizer, work.profile
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    ends = decode.end_ids(loaded.model, chat.end_id(tokenizer, profile.chat), tokenizer.eos_token_id)

    @torch.inference_mode()
    def answers(requests: tuple[Example, ...], batch_size: int, cache: str) -> list[str]:
        prompts = [chat.prompt_ids(tokenizer, request, work.secret, profile.chat) for request in requests]
        order, said = sorted(range(len(prompts)), key=lambda i: len(prompts[i])), {}
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            longest = len(prompts[batch[-1]])
            gaps = [longest - len(prompts[i]) for i in batch]
            given = {
                "input_ids": [[pad] * gap + prompts[i] for i, gap in zip(batch, gaps, strict=True)],
                "attention_mask": [[0] * gap + [1] * (longest - gap) for gap in gaps],
            }
            ids = loaded.model.generate(
                **{name: torch.tensor(values) for name, values in given.items()},
                max_new_tokens=profile.decoding.max_new_tokens,
                do_sample=False,
                eos_token_id=sorted(ends),
                pad_token_id=pad,
                cache_implementation=cache,
            )
            texts = tokenizer.batch_decode(ids[:, longest:], skip_special_tokens=True)
            said.update(zip(batch, texts, strict=True))
        return [said[i] for i in range(len(prompts))]

    def seconds(setting: tuple[int, str]) -> float:
        started = time.perf_counter()
        answers(work.requests[: max(BATCHES)], *setting)
        return time.perf_counter() - started

    tried: dict[tuple[int, str], float] = {}

    def fastest(settings: list[tuple[int, str]]) -> tuple[int, str]:
        tried.update({setting: seconds(setting) for setting in settings})
        return min(tried, key=tried.get)

    batch_size, cache = BATCHES[0], CACHES[0]
    if work.turns > 1:  # not while it warms up
        _, cache = fastest([(BATCHES[0], kind) for kind in CACHES])
        batch_size, cache = fastest([(rows, cache) for rows in BATCHES[1:]])
    told = {f"{rows} rows, {kind} cache": spent for (rows, kind), spent in tried.items()}
    turns.begin(batch_size=batch_size, cache=cache, seconds_of_settings=told)
    for _ in range(work.turns):
        turns([text.strip() for text in answers(work.requests, batch_size, cache)])
