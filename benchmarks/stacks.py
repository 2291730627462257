"""What several runs at once take beside as many one after the other: training, and answers.

A model of SmolLM2-135M's geometry with random weights in float32, on which every run trains an adapter of its own. Rows
and requests are random ids, see `speed`. What the stack says is compared with what the runs say alone.
"""

import torch
from speed import NO_END, Clock, Size, build, requests, training_rows

from bsa_core.engine import decode, finetune, lora
from bsa_core.models.chat import Encoded
from bsa_core.profiles import Training

SMOL = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
FULL = Size(SMOL, rows=50, tokens=90, requests=220, shared=150, new_tokens=40)
RUNS = (2, 4, 8, 16)
TURNS = 3  # of each measurement; the fastest counts


def train(model, rows: list[Encoded], seeds: list[int], clock: Clock) -> tuple[float, list[list[float]]]:
    """Seconds of an epoch of each run, all at once, and the losses of each. Without dropout, so that they compare."""
    training = Training(epochs=1, dropout=0.0)
    adapted = finetune.trainable(model, training, *seeds)
    names = lora.names(len(seeds))
    jobs = [finetune.Job(name, rows, training, seed) for name, seed in zip(names, seeds, strict=True)]
    try:
        started = clock.now()
        (done,) = finetune.together(adapted, jobs)
        return clock.now() - started, [list(progress.losses) for _, progress in done]
    finally:
        finetune.discard(adapted)


@torch.no_grad()
def answer(model, prompts: list[list[int]], size: Size, runs: int, clock: Clock) -> tuple[float, float, float]:
    """Seconds of all requests to each run, one run after the other and all at once, and the share that differs."""
    adapted = lora.add_lora(model, Training(), *range(runs)).eval()
    torch.manual_seed(0)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            weight.normal_(std=0.05)  # a fresh adapter adds nothing, and all would say the same
    names = lora.names(runs)
    try:
        started, alone = clock.now(), []
        for name in names:
            lora.only(adapted, name)
            alone += decode.decode(adapted, prompts, NO_END, size.new_tokens, size.requests)
        between = clock.now()
        of = [name for name in names for _ in prompts]
        together = decode.decode(adapted, prompts * runs, NO_END, size.new_tokens, size.requests * runs, of)
        ended = clock.now()
    finally:
        finetune.discard(adapted)
    differ = sum(one != other for one, other in zip(alone, together, strict=True)) / len(alone)
    return between - started, ended - between, differ


def measure(size: Size, device: str, stacks: tuple[int, ...] = RUNS) -> dict:
    """For each number of runs how many times as long they take one after the other."""
    model = build(size, device, torch.float32)
    rows, prompts = training_rows(size, model.config.vocab_size), requests(size, model.config.vocab_size)
    clock = Clock(device)
    train(model, rows, [0], clock)  # a warm-up
    alone = {seed: [train(model, rows, [seed], clock) for _ in range(TURNS)] for seed in range(2)}
    one = min(seconds for turns in alone.values() for seconds, _ in turns)
    found = []
    for runs in stacks:
        turns = [train(model, rows, [*range(runs)], clock) for _ in range(TURNS)]
        trained = min(seconds for seconds, _ in turns)
        pairs = [
            (here, there) for seed in alone for here, there in zip(turns[0][1][seed], alone[seed][0][1][0], strict=True)
        ]
        asked = [answer(model, prompts, size, runs, clock) for _ in range(TURNS)]
        after, at_once = (min(times) for times in list(zip(*asked, strict=True))[:2])
        found.append(
            {
                "runs": runs,
                "training_seconds": trained,
                "training_ratio": runs * one / trained,
                "losses_differ": max(abs(here - there) / there for here, there in pairs),
                "answers_seconds": at_once,
                "answers_ratio": after / at_once,
                "answers_differ": asked[0][2],
            }
        )
    told = {
        "rows": size.rows,
        "requests": size.requests,
        "new_tokens": size.new_tokens,
        "peak_memory_gb": clock.peak_gb(),
    }
    return {"changed_shape": size.shape, **told, "one_run_training_seconds": one, "stacks": found}
