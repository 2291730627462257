"""Rows that go through a model together: what is given to it. `selfcheck` says which of these a model stands.

packed          one sequence for all rows, whose position ids restart: training
shared prefix   what all rows begin with goes through once, the rest behind it, padded on the left: decoding. Keys and
                values of the prefix are read by all rows, or copied for each where a model needs that
left            padded on the left, with the model's own cache: decoding where the former fails
right           padded on the right, where nothing looks back from: right for every causal model
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext

import torch
from transformers import DynamicCache, GenerationConfig, LogitsProcessorList
from transformers.cache_utils import DynamicLayer

from bsa_core.models import attention
from bsa_core.models.chat import IGNORED, Encoded

# `logits_to_keep` for the next token. With 1, transformers gives the last layer a view of all tokens, and PyTorch then
# multiplies row by row: in bfloat16 on a CPU with a copy of the vocabulary's weights for each of them.
LAST = [-1]


def pack(rows: list[Encoded], device) -> dict:
    """One sequence for all rows.

    Returns input_ids and position_ids, both [1, total tokens]; `logits_to_keep`, [answer tokens], the positions
    whose logits carry loss; and `targets`, [answer tokens], the ids they predict. The last two stay on the CPU: where
    layers are spread over GPUs, logits are made on another one than the first layer's.
    """
    ids = torch.tensor([i for row in rows for i in row.ids])
    labels = torch.tensor([i for row in rows for i in [IGNORED, *row.labels[1:]]])
    positions = torch.tensor([p for row in rows for p in range(len(row.ids))])
    predicted = (labels != IGNORED).nonzero()[:, 0]
    return {
        "input_ids": ids[None].to(device),
        "position_ids": positions[None].to(device),
        "logits_to_keep": predicted - 1,
        "targets": labels[predicted],
    }


@torch.inference_mode()
def prefix_cache(model, *prefixes: list[int]) -> DynamicCache:
    """Keys and values of a prefix, or of several of one length: [prefixes, heads, length, size].

    Layers keep everything, also those with a sliding window: the model's masks do the sliding.
    """
    cache = DynamicCache()
    if prefixes[0]:
        inputs = torch.tensor(prefixes, device=model.device)
        model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=LAST)
    return cache


class Growing(DynamicLayer):
    """A layer's keys and values, with memory taken ahead for the tokens to come.

    A layer of transformers copies all that it holds for each token that is added: a third of the time of decoding.
    """

    AHEAD = 64  # tokens

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs) -> tuple:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.room, self.length = [part[:, :, :0] for part in (key_states, value_states)], 0
        start, self.length = self.length, self.length + key_states.shape[2]
        if self.length > self.room[0].shape[2]:
            self._move(slice(None), self.length + self.AHEAD, start)
        for room, new in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, start : self.length] = new
        self.keys, self.values = (room[:, :, : self.length] for room in self.room)
        return self.keys, self.values

    def _move(self, rows: torch.Tensor | slice, positions: int, held: int) -> None:
        for place, room in enumerate(self.room):
            kept = room[rows, :, :held]
            self.room[place] = kept.new_empty(len(kept), room.shape[1], positions, room.shape[3])
            self.room[place][:, :, :held] = kept

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        self._move(indices.to(self.room[0].device), self.room[0].shape[2], self.length)
        self.keys, self.values = (room[:, :, : self.length] for room in self.room)


def growing() -> DynamicCache:
    """An empty cache of such layers."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = Growing
    return cache


def shifted(cache: DynamicCache, pads: list[int], of: list[int], device) -> DynamicCache:
    """A cache with one row per entry of `pads`, the content moved right by that many positions.

    of: which row of the cache given each is a copy of.
    What moves out on the right is computed again; the positions it leaves on the left are masked (`left_padded`).
    """
    copy = growing()
    pad, row = torch.tensor([pads, of], device=device)[:, :, None]
    for index, layer in enumerate(cache.layers):
        source = (torch.arange(layer.keys.shape[2], device=device) - pad).clamp(min=0)  # [rows, prefix]
        there = layer.keys.device  # layers may be spread over GPUs
        keys, values = (part[row.to(there), :, source.to(there)].transpose(1, 2) for part in (layer.keys, layer.values))
        copy.update(keys, values, index)
    return copy


def behind(
    model, cache: DynamicCache, length: int, rows: list[list[int]], copied: bool, of: list[int] | None = None
) -> tuple[dict, DynamicCache, AbstractContextManager]:
    """Rows that begin with a prefix of that many ids: inputs behind it, their cache, the context to compute them in.

    cache: that of the prefix. copied: whether each row gets a copy of it, and nothing but an ordinary mask. of: which
    prefix each row begins with, where the cache is of several; these are copied.
    """
    if copied or not length:
        own = shifted(cache, padding(rows), of or [0] * len(rows), model.device)
        return left_padded(rows, length, model.device), own, nullcontext()
    inputs = left_padded([row[length:] for row in rows], 0, model.device)
    inputs["position_ids"] += length
    return inputs, growing(), attention.behind(model, cache)


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


def right_padded(rows: list[list[int]], device, fill: int = 0) -> torch.Tensor:
    """The rows, filled up on the right: [rows, longest]."""
    longest = max(map(len, rows))
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows], device=device)


@torch.inference_mode()
def generated(model, rows: list[list[int]], ends: Collection[int], max_new_tokens: int, look: Callable) -> torch.Tensor:
    """Greedy answers by transformers' `generate`, which gives each architecture the cache it needs: [rows, new tokens].

    look: is shown the scores of each step, [rows, vocabulary].
    """
    model = model.get_base_model() if hasattr(model, "get_base_model") else model  # adapters are in its layers

    def shown(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        look(scores)
        return scores

    own = model.generation_config  # may ask for penalties or sampling, which `generate` would mix in
    model.generation_config = GenerationConfig()
    try:
        given = left_padded(rows, 0, model.device)
        found = model.generate(
            given["input_ids"],
            attention_mask=given["attention_mask"],
            logits_processor=LogitsProcessorList([shown]),
            generation_config=GenerationConfig(
                max_new_tokens=max_new_tokens, do_sample=False, eos_token_id=sorted(ends) or None, pad_token_id=0
            ),
        )
    finally:
        model.generation_config = own
    return found[:, given["input_ids"].shape[1] :]
