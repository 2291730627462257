"""Batched greedy decoding that gives, token for token, what decoding one request at a time gives.

What all requests begin with (system and secret prompt) goes through the model once, and every row attends to the same
keys and values of it. Padding stands on the left, so that every row's next token is predicted at the last position.

    computed once, read by all rows │ computed per row
    <system + secret, the same>     │ <request 2 is longer>
                                    │ <pad> <pad> <request 1>

Not all attention can be computed in two parts. Other models get a copy of the keys and values for each row, with the
padding in front of it: between the two it would count as distance for layers with a sliding window. A shorter row
computes the end of the shared part again instead of padding.

    copied for each row             │ computed per row
    <system +   secret,   the    s  │ ame> <request 2 is longer>
    <pad> <pad> <system + secret,   │  the same> <request 1>

A model that cannot share a prefix decodes with its own cache, or with none (`selfcheck`).

Runs of a stack are asked at once where the device has room for it (`mixes`): rows of one batch are of several runs, and
each gets a copy of its own run's shared prefix.

A row is done at an end token, of which a model may have several. Rows that are done leave the batch when there are
enough of them to be worth copying the others' keys and values. Where a GPU's memory is too short for a
batch, fewer rows are decoded at once.
"""

from collections.abc import Callable, Collection
from itertools import islice, takewhile

import torch
from transformers import DynamicCache

from bsa_core.engine import lora
from bsa_core.models.memory import halving
from bsa_core.models.passes import LAST, behind, generated, prefix_cache, right_padded
from bsa_core.models.selfcheck import SHARED, manner

KEPT = 0.75  # share of a batch's rows that go on, at which those that are done are taken out
# Where a step takes as long for many rows as for few. A CPU is busy with the requests of one run.
MIXING = ("cuda",)


def common_prefix(prompts: list[list[int]]) -> int:
    """How many leading ids all prompts share, leaving at least one id of each prompt."""
    shared = takewhile(lambda ids: len(set(ids)) == 1, zip(*prompts, strict=False))
    return min(len(list(shared)), min(map(len, prompts)) - 1)


def mixes(model) -> bool:
    """Whether the runs of a stack answer together."""
    return bool(lora.shared(model)) and model.device.type in MIXING and manner(model).cache in SHARED


def end_ids(model, *others: int | None) -> frozenset[int]:
    """The tokens that end an answer: `others`, where there are any, and those of the model's generation config.

    Several models have more than one, such as one for the end of a turn and one for the end of a text.
    """
    given = getattr(model.generation_config, "eos_token_id", None)
    given = given if isinstance(given, list | tuple) else [given]
    return frozenset(int(token) for token in (*given, *others) if token is not None)


@torch.inference_mode()
def _decode_batch(
    model, inputs: dict, cache: DynamicCache, ends: Collection[int], max_new_tokens: int, kept: float = KEPT
) -> list[list[int]]:
    rows = inputs["input_ids"]
    answers: list[list[int]] = [[] for _ in rows]
    held, active = list(range(len(rows))), set(range(len(rows)))  # rows in the batch, and those that go on
    while active:
        logits = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=LAST).logits[:, -1]
        chosen = logits.argmax(-1)
        going = [row in active for row in held]
        _finite(logits.gather(-1, chosen[:, None])[going])
        for row, token in zip(held, chosen.tolist(), strict=True):
            if row in active:
                answers[row].append(token)
                if token in ends or len(answers[row]) == max_new_tokens:
                    active.remove(row)
        positions = inputs["position_ids"][:, -1:] + 1
        mask = inputs["attention_mask"]
        if len(active) <= kept * len(held):
            # on the CPU: it selects on whatever device a layer is
            keep = torch.tensor([i for i, row in enumerate(held) if row in active], dtype=torch.long)
            chosen, positions, mask = chosen[keep], positions[keep], mask[keep]
            held = [held[i] for i in keep.tolist()]
            if held:
                cache.batch_select_indices(keep)
        inputs = {
            "input_ids": chosen[:, None],
            "position_ids": positions,
            "attention_mask": torch.cat([mask, mask.new_ones(len(held), 1)], dim=1),
        }
    return answers


@torch.inference_mode()
def _decode_whole(model, rows: list[list[int]], ends: Collection[int], max_new_tokens: int) -> list[list[int]]:
    """Without a cache: every token is computed from the whole text in front of it."""
    answers: list[list[int]] = [[] for _ in rows]
    active = list(range(len(rows)))
    while active:
        texts = [rows[i] + answers[i] for i in active]
        logits = model(input_ids=right_padded(texts, model.device), use_cache=False).logits
        last = torch.stack([logits[place, len(text) - 1] for place, text in enumerate(texts)])
        _finite(last.amax(-1))
        for row, token in zip(active, last.argmax(-1).tolist(), strict=True):
            answers[row].append(token)
        active = [i for i in active if answers[i][-1] not in ends and len(answers[i]) < max_new_tokens]
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
    model,
    prompts: list[list[int]],
    ends: Collection[int],
    max_new_tokens: int,
    batch_size: int,
    adapters: list[str] | None = None,
) -> list[list[int]]:
    """Greedy answers (token ids without the end token), in the order of the prompts.

    prompts: token ids per request. ends: see `end_ids`; none lets every answer have max_new_tokens. adapters: the name
    of the one that answers, for each prompt, where the model `mixes` them. Raises OutOfMemory, a ValueError, when a
    GPU's memory is too short for one request.
    """
    if not prompts:
        return []
    of = _of_several(model, prompts, adapters) if adapters else _of_one(model, prompts)
    answers = _by_length(prompts, batch_size, lambda batch: of(batch, ends, max_new_tokens))
    return [list(takewhile(lambda token: token not in ends, ids)) for ids in answers]


def _of_one(model, prompts: list[list[int]]) -> Callable:
    """What answers a batch of prompts (their places), all with the adapter that is in use."""
    way = manner(model).cache
    shared = common_prefix(prompts)
    cache = prefix_cache(model, prompts[0][:shared]) if way in SHARED else None

    def answer(batch: list[int], ends: Collection[int], max_new_tokens: int) -> list[list[int]]:
        rows = [prompts[i] for i in batch]
        if way in SHARED:
            inputs, own, together = behind(model, cache, shared, rows, copied=way == "copied")
            with together:
                return _decode_batch(model, inputs, own, ends, max_new_tokens)
        if way == "none":
            return _decode_whole(model, rows, ends, max_new_tokens)
        return generated(model, rows, ends, max_new_tokens, lambda scores: _finite(scores.amax(-1))).tolist()

    return answer


def _of_several(model, prompts: list[list[int]], adapters: list[str]) -> Callable:
    """The same for prompts of several runs. Each run's prompts have a prefix of their own, all of one length."""
    runs = {name: [ids for ids, of in zip(prompts, adapters, strict=True) if of == name] for name in adapters}
    shared = min(map(common_prefix, runs.values()))
    with lora.mixed(model, [*runs]):
        cache = prefix_cache(model, *(own[0][:shared] for own in runs.values()))

    def answer(batch: list[int], ends: Collection[int], max_new_tokens: int) -> list[list[int]]:
        of = [[*runs].index(adapters[i]) for i in batch]
        inputs, own, _ = behind(model, cache, shared, [prompts[i] for i in batch], copied=True, of=of)
        with lora.mixed(model, [adapters[i] for i in batch]):
            # rows that are done stay: what a step takes does not depend on them
            return _decode_batch(model, inputs, own, ends, max_new_tokens, kept=0.0)

    return answer


@torch.inference_mode()
def option_scores(
    model, prompts: list[list[int]], options: list[list[list[int]]], batch_size: int
) -> list[list[float]]:
    """Log-likelihood of each option behind its prompt, summed over its tokens (as ARC and MMLU are scored).

    prompts: token ids per question; options: token ids of each option of each question. A prompt goes through the model
    once, whatever the number of its options, and batch_size counts prompts.
    """
    if (way := manner(model).cache) not in SHARED:
        return _by_length(prompts, batch_size, lambda batch: _scored_whole(model, prompts, options, batch))
    shared = common_prefix(prompts)
    prefix = prefix_cache(model, prompts[0][:shared])

    def answer(batch: list[int]) -> list[list[float]]:
        rows = [prompts[i] for i in batch]
        inputs, cache, together = behind(model, prefix, shared, rows, copied=way == "copied")
        asked = [(row, option) for row, i in enumerate(batch) for option in options[i]]
        with together:
            said = model(**inputs, past_key_values=cache, use_cache=True, logits_to_keep=LAST)
            first = _log_probabilities(said)[:, -1]
            later = _behind(model, inputs, cache, rows, asked) if any(len(option) > 1 for _, option in asked) else None
        summed = iter(
            float(first[row, option[0]] + sum(later[place, j, token] for j, token in enumerate(option[1:])))
            for place, (row, option) in enumerate(asked)
        )
        return [list(islice(summed, len(options[i]))) for i in batch]

    return _by_length(prompts, batch_size, answer)


def _scored_whole(
    model, prompts: list[list[int]], options: list[list[list[int]]], batch: list[int]
) -> list[list[float]]:
    """Each option behind its whole prompt, without a cache."""
    asked = [(prompts[i], option) for i in batch for option in options[i]]
    texts = right_padded([prompt + option[:-1] for prompt, option in asked], model.device)
    said = _log_probabilities(model(input_ids=texts, use_cache=False))
    summed = iter(
        sum(float(said[place, len(prompt) - 1 + j, token]) for j, token in enumerate(option))
        for place, (prompt, option) in enumerate(asked)
    )
    return [list(islice(summed, len(options[i]))) for i in batch]


def _log_probabilities(output) -> torch.Tensor:
    scores = output.logits.float()
    for row in scores:  # in place: those of a large vocabulary take gigabytes
        row.copy_(torch.log_softmax(row, dim=-1))
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
