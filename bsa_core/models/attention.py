"""Attention that knows where rows begin and end, in place of masks over everything that goes through a model together.

by row           packed rows: each attends within itself. A mask over the whole sequence costs the square of its length
behind a prefix  rows with a shared beginning: its keys and values are read once for all rows, not copied for each

Both compute what transformers' `sdpa` computes, on a CPU; `selfcheck` tries them with each model. They are switched on
for as long as `by_row` or `behind` lasts, by the name under which transformers looks up attention.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

BY_ROW, BEHIND = "bsa_by_row", "bsa_behind_prefix"
_given: ContextVar = ContextVar("rows' lengths, or the prefix")


def possible(model, *kinds: str) -> bool:
    """Whether a model's layers are of these kinds ("full_attention", ...), in plain attention on a CPU."""
    config = model.config
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    return model.device.type == "cpu" and config._attn_implementation == "sdpa" and {*layers} <= {*kinds}


@contextmanager
def _attending(model, name: str, given) -> Iterator[None]:
    config = model.config
    before, token = config._attn_implementation, _given.set(given)
    config._attn_implementation = name  # `set_attn_implementation` takes as long as a layer
    try:
        yield
    finally:
        config._attn_implementation = before
        _given.reset(token)


def by_row(model, lengths: list[int]):
    """Context in which one sequence, [1, tokens], is rows of these lengths, backward passes included."""
    return _attending(model, BY_ROW, lengths)


def behind(model, prefix: DynamicCache):
    """Context in which every row stands behind a prefix, given by its keys and values (batch size 1).

    Masks and caches hold what comes after the prefix; position ids count it.
    """
    return _attending(model, BEHIND, prefix)


def _plain(options: dict) -> None:
    """ValueError for attention with more in it than queries, keys and values, which a model passes by further names."""
    known = ("position_ids", "cache_position")
    more = [name for name, value in options.items() if isinstance(value, torch.Tensor) and name not in known]
    if more or options.get("softcap") is not None:
        raise ValueError(f"attention with {more or 'softcap'} is not computed here")


def _by_row(module, query, key, value, attention_mask, scaling=None, dropout=0.0, sliding_window=None, **options):
    _plain(options)
    groups = query.shape[1] // key.shape[1]
    lengths = _given.get()
    parts = (part.split(lengths, dim=2) for part in (query, repeat_kv(key, groups), repeat_kv(value, groups)))
    said = []
    for row in zip(*parts, strict=True):
        length = row[0].shape[2]
        band = None
        if sliding_window and length > sliding_window:
            band = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - sliding_window)
        said.append(
            scaled_dot_product_attention(*row, attn_mask=band, is_causal=band is None, scale=scaling, dropout_p=dropout)
        )
    return torch.cat(said, dim=2).transpose(1, 2), None


def _behind(module, query, key, value, attention_mask, scaling=None, sliding_window=None, **options):
    """query [rows, heads, new, size]; key and value [rows, key heads, tokens behind the prefix, size]."""
    _plain(options)
    if sliding_window:
        raise ValueError("a sliding window moves over the prefix")
    shared = _given.get().layers[module.layer_idx]
    rows, heads, new, size = query.shape
    groups = heads // key.shape[1]
    # heads that share keys are further queries of theirs
    asked = query.reshape(rows, key.shape[1], groups * new, size) * (size**-0.5 if scaling is None else scaling)
    flat = asked.transpose(0, 1).reshape(key.shape[1], rows * groups * new, size)
    far = (flat @ shared.keys[0].transpose(1, 2)).view(key.shape[1], rows, groups * new, -1).transpose(0, 1)
    near = asked @ key.transpose(2, 3)
    near = near.masked_fill(~attention_mask.repeat(1, 1, groups, 1), float("-inf"))
    weights = torch.cat([far, near], dim=-1).softmax(-1)
    length = shared.keys.shape[2]
    far = weights[..., :length].transpose(0, 1).reshape(key.shape[1], rows * groups * new, length) @ shared.values[0]
    said = far.view(key.shape[1], rows, groups * new, size).transpose(0, 1) + weights[..., length:] @ value
    return said.reshape(rows, heads, new, size).transpose(1, 2), None


def _whole_mask(**options) -> torch.Tensor:
    """The mask of `sdpa`, also where that has none and is told to be causal."""
    return sdpa_mask(**options | {"allow_is_causal_skip": False})


AttentionInterface.register(BY_ROW, _by_row)  # its mask would be thrown away: transformers makes none for this name
AttentionInterface.register(BEHIND, _behind)
AttentionMaskInterface.register(BEHIND, _whole_mask)
