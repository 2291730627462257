"""Attention that knows where rows begin and end, in place of masks over everything that goes through a model together.

by row           packed rows: each attends within itself. A mask over the whole sequence costs the square of its length
behind a prefix  rows with a shared beginning: its keys and values are read once for all rows, not copied for each

Both compute what `sdpa` of transformers does; `selfcheck` tries them with each model. They are switched on for as long
as `by_row` or `behind` lasts, by the name under which transformers looks up attention. `behind` is for CPUs, where what
decoding waits for is memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.integrations.sdpa_attention import repeat_kv
from transformers.masking_utils import sdpa_mask

BY_ROW, BEHIND = "bsa_by_row", "bsa_behind_prefix"
_given: ContextVar = ContextVar("rows' lengths, or the prefix")


def possible(model, *kinds: str) -> bool:
    """Whether a model's layers are of these kinds ("full_attention", ...), in plain attention."""
    config = model.config
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    return config._attn_implementation == "sdpa" and {*layers} <= {*kinds}


@dataclass(frozen=True)
class Rows:
    """Where rows lie in a sequence.

    padded: for each row and place the position in the sequence, [rows, longest]; places behind a row's end repeat it.
    back: for each position of the sequence its place among these, [tokens].
    """

    lengths: list[int]
    padded: torch.Tensor
    back: torch.Tensor

    @classmethod
    def of(cls, lengths: list[int], device) -> "Rows":
        length = torch.tensor(lengths)[:, None]
        place = torch.arange(max(lengths)).expand(len(lengths), -1)
        padded = length.cumsum(0) - length + place.minimum(length - 1)
        return cls(lengths, padded.to(device), (place < length).flatten().nonzero()[:, 0].to(device))


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
    """Context in which one sequence, [1, tokens], is rows of these lengths. What is computed again later is not."""
    return _attending(model, BY_ROW, Rows.of(lengths, model.device))


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
    groups, rows = query.shape[1] // key.shape[1], _given.get()
    on_cpu, dtype = query.device.type == "cpu", query.dtype
    if on_cpu and dtype == torch.bfloat16:  # in which PyTorch's way back takes three times as long
        query, key, value = query.float(), key.float(), value.float()
    parts = query, repeat_kv(key, groups), repeat_kv(value, groups)
    split = _one_by_one if on_cpu else _padded

    def attend(*row):
        length, band = row[0].shape[2], None
        if sliding_window and length > sliding_window:
            band = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - sliding_window)
        options = {"attn_mask": band, "is_causal": band is None, "scale": scaling, "dropout_p": dropout}
        return scaled_dot_product_attention(*row, **options)

    return split(attend, parts, rows).transpose(1, 2).to(dtype), None


def _one_by_one(attend, parts, rows: Rows) -> torch.Tensor:
    """Nothing is computed for padding."""
    each = zip(*(part.split(rows.lengths, dim=2) for part in parts), strict=True)
    return torch.cat([attend(*row) for row in each], dim=2)


def _padded(attend, parts, rows: Rows) -> torch.Tensor:
    """In one call, which is what costs on a GPU. Padding stands behind a row, where nothing of it looks."""
    padded, back = rows.padded.to(parts[0].device), rows.back.to(parts[0].device)
    said = attend(*(part[0][:, padded].transpose(0, 1) for part in parts))  # [rows, heads, longest, size]
    return said.transpose(0, 1).flatten(1, 2)[None, :, back]


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
