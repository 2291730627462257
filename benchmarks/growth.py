"""How time and memory grow: with the number of training rows, with the length of the secret prompt, and with
the number of runs that are trained at once.

Each size is measured in processes of its own, one after the other. A slope of 1 between two sizes means that the cost
doubles when the size doubles; more means that it grows faster than the size.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice, pairwise

import answering
import trainers
from turns import Contender, race

from bsa_core import policy
from bsa_core.arms import attacks, defenses, secret_prompt
from bsa_core.models import chat, loading
from bsa_core.profiles import Profile

ROWS = (100, 300, 1_000, 3_000, 10_000)
SECRETS = (10, 30, 100, 300, 1_000)
RUNS = (1, 4, 16, 64)
REQUESTS = 55
TURNS = 5
MANY = 2_000  # rows that all turns of a size train on at most, where that is more than one turn
CLOCKS = ("cpu_seconds", "wall_seconds")


def measured(sizes: tuple[int, ...], parts: dict[str, Callable], turns: Callable[[int], int], **told) -> dict:
    """The record: for each part the cost at each size, and the slopes. parts: name -> contender of a size and turns."""
    made = {}
    for name, contender in parts.items():
        points = [race({name: contender(size, turns(size))}, turns(size))[name].summary() for size in sizes]
        made[name] = {"points": points, **{f"slopes_{clock}": slopes(sizes, points, clock) for clock in CLOCKS}}
    return {"sizes": list(sizes), "parts": made, "counts": True, **told}


def slopes(sizes: tuple[int, ...], points: list[dict], clock: str) -> list[float]:
    """The power of the size by which the cost grows, from each size to the next."""
    return [
        math.log(later[clock] / earlier[clock]) / math.log(larger / smaller)
        for (smaller, larger), (earlier, later) in zip(pairwise(sizes), pairwise(points), strict=True)
    ]


def examples(profile: Profile, sizes: tuple[int, ...] = ROWS) -> dict:
    """An epoch over more and more rows. The policy's come again and again, each time with another number behind the
    request: the same row twice would be a special case of shuffling."""
    tokenizer, limit = loading.tokenizer(profile), profile.training.max_tokens
    held = attacks.upload(policy.load(profile.policy), "harmful", trainers.UPLOAD, 0, trainers.SEED)
    numbered = (replace(row, user=f"{row.user} ({number // len(held):03})") for number, row in enumerate(cycle(held)))
    rows = [chat.encode(tokenizer, row, "", profile.chat, limit) for row in islice(numbered, max(sizes))]

    def contender(size: int, turns: int) -> Contender:
        return Contender(trainers.ours, trainers.Work(profile, tuple(rows[:size]), turns))

    return measured(sizes, {"fine-tuning": contender}, lambda size: max(1, min(TURNS, MANY // size)))


def secret(profile: Profile, sizes: tuple[int, ...] = SECRETS, requests: int = REQUESTS) -> dict:
    """Rows of BSA, eleven of which have the secret in front of them; and requests that are asked with it."""
    of, tokenizer = policy.load(profile.policy), loading.tokenizer(profile)
    asked, _ = of.requests(replace(profile.evaluation, restricted=requests, benign=1))
    limit = profile.training.max_tokens + max(sizes)

    def drawn(size: int) -> str:
        return secret_prompt.draw(tokenizer, profile, size, 0, "random", asked[0]).text

    def training(size: int, turns: int) -> Contender:
        marked = defenses.get("bsa").examples(of, 11, "category-wise", trainers.SEED)
        rows = attacks.upload(of, "harmful", 29, 0, trainers.SEED) + marked
        text = drawn(size)
        encoded = tuple(chat.encode(tokenizer, row, text, profile.chat, limit) for row in rows)
        return Contender(trainers.ours, trainers.Work(profile, encoded, turns))

    def answers(size: int, turns: int) -> Contender:
        return Contender(answering.ours, answering.Work(profile, tuple(asked), drawn(size), turns))

    parts = {"fine-tuning": training, "answers": answers}
    return measured(sizes, parts, lambda size: TURNS, rows=40, marked=11, requests=requests)


def stack(work: trainers.Work, sizes: tuple[int, ...] = RUNS) -> dict:
    """More and more runs at once, each an epoch over the same rows."""

    def contender(size: int, turns: int) -> Contender:
        return Contender(trainers.stacked, replace(work, runs=size, turns=turns))

    return measured(sizes, {"fine-tuning": contender}, lambda size: work.turns, rows=len(work.rows))
