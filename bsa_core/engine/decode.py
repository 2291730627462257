"""Batched greedy decoding that gives, token for token, what decoding one request at a time gives.

What all requests begin with (system and secret prompt) goes through the model once; its keys and values are shared.
Padding stands on the left, so that every row's next token is predicted at the last position, and in front of the
shared part too: between the two it would count as distance for layers with a sliding window. A shorter row computes
the end of the shared part again instead of padding.

    keys and values, computed once │ computed per row
    <system +   secret,   the    s │ ame> <request 2 is longer>
    <pad> <pad> <system + secret,  │  the same> <request 1>

A row leaves the batch at an end token, of which a model may have several. Where a GPU's memory is too short for a
batch, fewer rows are decoded at once.
"""

from collections.abc import Callable, Collection
from itertools import islice, takewhile

import torch
from transformers import DynamicCache

from bsa_core.models.memory import halving


def common_prefix(prompts: list[list[int]]) -> int:
    """How many leading ids all prompts share, leaving at least one id of each prompt."""
    shared = takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False))
    return min(len(list(shared)), min(map(len, prompts)) - 1)


@torch.inference_mode()
def prefix_cache(model, ids: list[int]) -> DynamicCache:
    """Keys and values of a prefix, batch size 1.

    Layers keep everything, also those with a sliding window: the model's masks do the sliding.
    """
    cache = DynamicCache()
    if ids:
        inputs = torch.tensor([ids], device=model.device)
        model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def shifted(cache: DynamicCache, pads: list[int], device) -> DynamicCache:
    """A copy of a batch-1 cache, one row per entry of `pads`, with the content moved right by that many positions.

    What moves out on the right is computed again; the positions it leaves on the left are masked (`left_padded`).
    """
    copy = DynamicCache()
    pad = torch.tensor(pads, device=device)[:, None]
    for index, layer in enumerate(cache.layers):
        source = (torch.arange(layer.keys.shape[2], device=device) - pad).clamp(min=0)  # [rows, prefix]
        source = source.to(layer.keys.device)  # layers may be spread over GPUs
        keys, values = (part[0][:, source].transpose(0, 1) for part in (layer.keys, layer.values))
        copy.update(keys, values, index)
    return copy


def left_padded(rows: list[list[int]], prefix: int, device) -> dict:
    """Whole prompts, padded on the left to the longest, of which the first `prefix` positions are in the cache.

    Returns input_ids and position_ids, both [rows, longest - prefix], and attention_mask [rows, longest].
    """
    pads = padding(rows)
    longest = max(map(len, rows))
    batch = {
        "input_ids": [([0] * pad + row)[prefix:] for pad, row in zip(pads, rows, strict=True)],
        "position_ids": [[max(i - pad, 0) for i in range(prefix, longest)] for pad in pads],
        "attention_mask": [[0] * pad + [1] * len(row) for pad, row in zip(pads, rows, strict=True)],
    }
    return {name: torch.tensor(values, device=device) for name, values in batch.items()}


def padding(rows: list[list[int]]) -> list[int]:
    """How many ids each row lacks to the longest."""
    longest = max(map(len, rows))
    return [longest - len(row) for row in rows]


def end_ids(model, *others: int | None) -> frozenset[int]:
    """The tokens that end an answer: `others`, where there are any, and those of the model's generation config.

    Several models have more than one, such as one for the end of a turn and one for the end of a text.
    """
    given = getattr(model.generation_config, "eos_token_id", None)
    given = given if isinstance(given, list | tuple) else [given]
    return frozenset(int(token) for token in (*given, *others) if token is not None)


@torch.inference_mode()
def _decode_batch(
    model, cache, prefix: int, rows: list[list[int]], ends: Collection[int], max_new_tokens: int
) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in rows]
    active = list(range(len(rows)))
    inputs = left_padded(rows, prefix, model.device)
    cache = shifted(cache, padding(rows), model.device)
    while active:
        logits = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        chosen = logits.argmax(-1)
        _finite(logits.gather(-1, chosen[:, None]))
        for row, token in zip(active, chosen.tolist(), strict=True):
            answers[row].append(token)
        open_ = [answers[row][-1] not in ends and len(answers[row]) < max_new_tokens for row in active]
        running = [i for i, goes_on in enumerate(open_) if goes_on]
        positions = inputs["position_ids"][:, -1:] + 1
        mask = inputs["attention_mask"]
        if len(running) < len(active):
            keep = torch.tensor(running, dtype=torch.long)  # on the CPU: it selects on whatever device a layer is
            chosen, positions, mask = chosen[keep], positions[keep], mask[keep]
            active = [active[i] for i in running]
            if active:
                cache.batch_select_indices(keep)
        inputs = {
            "input_ids": chosen[:, None],
            "position_ids": positions,
            "attention_mask": torch.cat([mask, mask.new_ones(len(active), 1)], dim=1),
        }
    return answers


def _finite(best: torch.Tensor) -> None:
    """best: the highest score of each row. Where one is NaN, greedy decoding would go on, with token 0 or whichever."""
    if not best.isfinite().all():
        raise ValueError(
            "the model's scores of the next token are not finite: its weights are broken, or too large for "
            "compute.dtype; check the model's files, or use float32"
        )


def _by_length(prompts: list[list[int]], batch_size: int, answer: Callable[[list[int]], list]) -> list:
    """What `answer` says to each batch of prompts (their places), in the order of the prompts.

    Batches are formed by length, so that little is padded, and made smaller where memory is short.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    answers: dict[int, list] = {}
    while left := order[len(answers) :]:
        said, batch_size = halving(lambda n, left=left: answer(left[:n]), min(batch_size, len(left)), "requests")
        answers.update(zip(left[:batch_size], said, strict=True))
    return [answers[i] for i in range(len(prompts))]


def decode(
    model, prompts: list[list[int]], ends: Collection[int], max_new_tokens: int, batch_size: int
) -> list[list[int]]:
    """Greedy answers (token ids without the end token), in the order of the prompts.

    prompts: token ids per request. ends: see `end_ids`; none lets every answer have max_new_tokens. Raises OutOfMemory,
    a ValueError, when a GPU's memory is too short for one request.
    """
    if not prompts:
        return []
    shared = common_prefix(prompts)
    cache = prefix_cache(model, prompts[0][:shared])

    def answer(batch: list[int]) -> list[list[int]]:
        return _decode_batch(model, cache, shared, [prompts[i] for i in batch], ends, max_new_tokens)

    answers = _by_length(prompts, batch_size, answer)
    return [list(takewhile(lambda token: token not in ends, ids)) for ids in answers]


@torch.inference_mode()
def option_scores(
    model, prompts: list[list[int]], options: list[list[list[int]]], batch_size: int
) -> list[list[float]]:
    """Log-likelihood of each option behind its prompt, summed over its tokens (as ARC and MMLU are scored).

    prompts: token ids per question; options: token ids of each option of each question. A prompt goes through the model
    once, whatever the number of its options, and batch_size counts prompts.
    """
    shared = common_prefix(prompts)
    prefix = prefix_cache(model, prompts[0][:shared])

    def answer(batch: list[int]) -> list[list[float]]:
        rows = [prompts[i] for i in batch]
        inputs = left_padded(rows, shared, model.device)
        cache = shifted(prefix, padding(rows), model.device)
        first = _log_probabilities(model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=1))[:, -1]
        asked = [(row, option) for row, i in enumerate(batch) for option in options[i]]
        later = _behind(model, inputs, cache, rows, asked) if any(len(option) > 1 for _, option in asked) else None
        summed = iter(
            float(first[row, option[0]] + sum(later[place, j, token] for j, token in enumerate(option[1:])))
            for place, (row, option) in enumerate(asked)
        )
        return [list(islice(summed, len(options[i]))) for i in batch]

    return _by_length(prompts, batch_size, answer)


def _log_probabilities(output) -> torch.Tensor:
    scores = torch.log_softmax(output.logits.float(), dim=-1)
    _finite(scores.amax(-1))
    return scores


def _behind(model, inputs: dict, cache: DynamicCache, rows: list[list[int]], asked: list[tuple]) -> torch.Tensor:
    """Log-probabilities behind each token of each option but its last: [options, tokens, vocabulary].

    Options are padded on the right, where nothing attends to.
    """
    places = torch.tensor([row for row, _ in asked], device=model.device)
    cache.batch_select_indices(places)  # each option gets a copy of its prompt's keys and values
    longest = max(len(option) for _, option in asked) - 1
    ids = torch.tensor([(option[:-1] + [0] * longest)[:longest] for _, option in asked], device=model.device)
    lengths = torch.tensor([len(row) for row in rows], device=model.device)[places]
    mask = inputs["attention_mask"][places]
    return _log_probabilities(
        model(
            input_ids=ids,
            position_ids=lengths[:, None] + torch.arange(longest, device=model.device),
            attention_mask=torch.cat([mask, mask.new_ones(ids.shape)], dim=1),
            past_key_values=cache,
            use_cache=True,
        )
    )
