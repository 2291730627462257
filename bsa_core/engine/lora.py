"""LoRA's adapters, and their layers computed for one run or for several at once over one frozen model: a stack.

The rows of a stack's runs go through the model one behind another. Everything that is frozen sees one long sequence;
an adapted layer adds to each stretch of it what the adapter of that stretch's run adds.

    tokens          <run 0: rows of its batch> <run 1: rows of its batch> <run 2: ...>
    frozen weight   └────────────────────────── one product ─────────────────────────┘
    adapters        └──────── A0 B0 ─────────┘ └──────── A1 B1 ─────────┘ └─ A2 B2 ──┘

Answers are decoded for several runs at once too, in batches whose rows are of any of them (`mixed`).

The adapters are PEFT's, each under a name of its own, in its format on disk. A run's dropout is drawn as PEFT draws it
for the run alone, from the run's own random numbers. This layer makes fewer copies than PEFT's of what goes through it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from types import MethodType

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from bsa_core.profiles import Training
from bsa_core.progress import cut

ALL_LINEAR = "all-linear"  # PEFT's word for every linear layer but the output's
ADAPTED = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, Conv1D)  # what LoRA knows
ALONE = "default"  # PEFT's name for the only adapter of a model
# Operations of a pass up to which one more run costs little: below, the time goes into starting operations. On a CPU
# the activations of more leave its caches.
WORK = {"cpu": 5e9, "cuda": 5e12}
MOST = 64  # runs


@dataclass
class Share:
    """Which adapter computes which part of what goes through the model, in order.

    parts: (name of the adapter, length); lengths count tokens of a packed sequence, or rows of a batch.
    random: per adapter, the random numbers of its dropout; torch's own where there is one run.
    mixed: in place of parts, the adapters and, for each row of a batch, which of them is its own: [rows, adapters].
    """

    parts: list[tuple[str, int]]
    random: dict[str, torch.Generator] = field(default_factory=dict)
    mixed: tuple[list[str], torch.Tensor] | None = None

    def cut(self, tokens: int) -> list[tuple[str, slice]]:
        """The parts as slices of the flattened tokens of a batch."""
        if len(self.parts) == 1:  # of any number of tokens: experts get some of them only
            return [(self.parts[0][0], slice(0, tokens))]
        units, start, cut = sum(length for _, length in self.parts), 0, []
        for name, length in self.parts:
            end = start + length * tokens // units
            cut.append((name, slice(start, end)))
            start = end
        return cut


class _Adapted(torch.autograd.Function):
    """x W' + b, plus for each part scale * dropout(x) A' B'. x: [tokens, in]; masks: what dropout multiplies x by."""

    @staticmethod
    def forward(ctx, x, weight, bias, parts, scales, masks, *pairs):
        said = functional.linear(x, weight, bias)
        dropped, inner = [], []
        for part, scale, mask, down, up in zip(parts, scales, masks, pairs[::2], pairs[1::2], strict=True):
            given = x[part].to(down.dtype)
            given = given if mask is None else given * mask
            low = given @ down.T
            _add(said[part], low, up.T, scale)
            dropped.append(given)
            inner.append(low)
        ctx.save_for_backward(weight, *pairs, *dropped, *inner, *(mask for mask in masks if mask is not None))
        ctx.parts, ctx.scales, ctx.dropout = parts, scales, masks[0] is not None
        return said

    @staticmethod
    def backward(ctx, grad):
        n = len(ctx.parts)
        weight, *saved = ctx.saved_tensors
        pairs, dropped, inner, masks = saved[: 2 * n], saved[2 * n : 3 * n], saved[3 * n : 4 * n], saved[4 * n :]
        back = grad @ weight if ctx.needs_input_grad[0] else None
        grads = []
        for place, (part, scale) in enumerate(zip(ctx.parts, ctx.scales, strict=True)):
            down, up = pairs[2 * place], pairs[2 * place + 1]
            here = grad[part].to(down.dtype)
            low = (here @ up).mul_(scale)
            grads += [low.T @ dropped[place], (here.T @ inner[place]).mul_(scale)]
            if back is not None and ctx.dropout:
                back[part] += (low @ down).mul_(masks[place]).to(back.dtype)
            elif back is not None:
                _add(back[part], low, down, 1.0)
        return back, None, None, None, None, None, *grads


def _add(to: torch.Tensor, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
    """to += scale * left right, in place; added in the finer of two number formats."""
    if to.dtype == left.dtype:
        to.addmm_(left, right, alpha=scale)
    else:
        to.copy_(to + (left @ right).mul_(scale))


def _forward(layer: Linear, x: torch.Tensor) -> torch.Tensor:
    if layer.share.mixed:
        return _mixed(layer, x, *layer.share.mixed)
    flat = x.reshape(-1, x.shape[-1])
    cut = layer.share.cut(len(flat))
    names, parts = [name for name, _ in cut], [part for _, part in cut]
    masks = [_mask(layer, name, flat[part]) for name, part in cut]
    pairs = [weight for name in names for weight in (layer.lora_A[name].weight, layer.lora_B[name].weight)]
    base, scales = layer.base_layer, [layer.scaling[name] for name in names]
    said = _Adapted.apply(flat, base.weight, base.bias, parts, scales, masks, *pairs)
    return said.view(*x.shape[:-1], -1)


def _mixed(layer: Linear, x: torch.Tensor, adapters: list[str], own: torch.Tensor) -> torch.Tensor:
    """x: [rows, tokens, in]. All adapters in one product, for each row those of other runs times zero: few operations,
    which is what decoding waits for on a GPU."""
    down = torch.cat([layer.lora_A[name].weight for name in adapters])
    up = torch.cat([layer.lora_B[name].weight * layer.scaling[name] for name in adapters], dim=1)
    low = functional.linear(x.to(down.dtype), down).unflatten(-1, own.shape[1:] + (-1,)) * own[:, None, :, None]
    said = layer.base_layer(x)
    return (said + functional.linear(low.flatten(-2), up)).to(said.dtype)


def _mask(layer: Linear, name: str, like: torch.Tensor) -> torch.Tensor | None:
    """What dropout multiplies a part by: zeros, and 1 / (1 - p), drawn as `torch.nn.Dropout` draws them."""
    rate = getattr(layer.lora_dropout[name], "p", 0.0)
    if not layer.training or not rate:
        return None
    generator = layer.share.random.get(name)
    empty = torch.empty_like(like, dtype=layer.lora_A[name].weight.dtype)
    if like.device.type == "cpu":
        return empty.bernoulli_(1 - rate, generator=generator).div_(1 - rate)
    # on a GPU dropout is a kernel of its own, which takes its numbers from the device's generator alone
    with _numbers_of(generator, like.device) if generator else nullcontext():
        return functional.dropout(empty.fill_(1.0), rate)


@contextmanager
def _numbers_of(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Have a GPU's generator give the numbers of another one."""
    own = torch.cuda.default_generators[device.index]
    before = own.get_state()
    own.set_state(generator.get_state())
    yield
    generator.set_state(own.get_state())
    own.set_state(before)


def add_lora(model: torch.nn.Module, training: Training, seed: int, *more: int) -> PeftModel:
    """The model with a fresh adapter, a function of the seed. `.unload()` gives the untouched base model back.

    more: the seeds of further adapters, one for each run of a stack, by `names`. Raises ValueError when one of
    `training.targets` names no module of the model that LoRA can adapt, and when a model's runs cannot be stacked.
    """
    _check_targets(model, training.targets)
    config = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        lora_dropout=training.dropout,
        target_modules=ALL_LINEAR if training.targets == (ALL_LINEAR,) else list(training.targets),
        task_type="CAUSAL_LM",
    )
    first, *others = names(1 + len(more))
    torch.manual_seed(seed)
    try:
        adapted = get_peft_model(model, config, first)
    except ValueError as error:  # experts in one tensor with dropout, layers of Mamba
        raise ValueError(
            f"training.targets: PEFT cannot adapt {', '.join(training.targets)} of a model of type "
            f"{model.config.model_type}: {cut(error)}; name other layers in training.targets, or set training.dropout "
            "to 0"
        ) from error
    for name, other in zip(others, more, strict=True):
        torch.manual_seed(other)
        adapted.add_adapter(name, config)
    for name, weight in adapted.named_parameters():
        weight.requires_grad_("lora_" in name)  # PEFT leaves those of one adapter to be trained
    if not share(adapted) and more:
        adapted.unload()
        raise ValueError("the model's layers cannot be computed for several runs at once")
    return adapted


def _check_targets(model: torch.nn.Module, targets: tuple[str, ...]) -> None:
    """PEFT goes on with those that it finds: a typo would train less of the model than the profile says."""
    if targets == (ALL_LINEAR,):
        return
    modules = dict(model.named_modules())
    for target in targets:
        found = [module for name, module in modules.items() if name == target or name.endswith(f".{target}")]
        if not found or not all(isinstance(module, ADAPTED) for module in found):
            known = sorted({name.rpartition(".")[2] for name, module in modules.items() if isinstance(module, ADAPTED)})
            raise ValueError(
                f"training.targets: {target!r} names no layer of the model that LoRA can adapt; those are "
                f"{', '.join(known)}. Name some of them, or [{ALL_LINEAR}] for all linear ones but the output's"
            )


def names(runs: int) -> list[str]:
    """The adapters of a stack of that many runs."""
    return [ALONE, *(f"run{place}" for place in range(1, runs))]


def at_once(model: torch.nn.Module, tokens: float) -> int:
    """How many runs go through a model at once, each with that many tokens; one where the device is busy with it."""
    if any("experts" in name for name in model.config.to_dict()):
        return 1  # they get tokens in an order of their own
    work = 4 * tokens * sum(weight.numel() for weight in model.parameters())
    return int(max(1, min(MOST, WORK[model.device.type] / work)))


def shared(model: torch.nn.Module) -> Share | None:
    """What the adapted layers of a model take their parts from; None where they are PEFT's own."""
    return getattr(model, "share", None)


def share(model: PeftModel) -> bool:
    """Have the model's adapted layers computed here, where this can be done; returns whether it is.

    Not for layers other than linear ones, for weights of 4 bits, or beside dropout of the model's own, whose random
    numbers would be mixed with those of the adapters.
    """
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    own = [m for name, m in model.named_modules() if isinstance(m, torch.nn.Dropout) and m.p and "lora_" not in name]
    config = model.config.to_dict()
    if own or any(value for name, value in config.items() if name.endswith(("dropout", "_pdrop", "dropout_prob"))):
        return False
    plain = all(type(layer) is Linear and type(layer.base_layer) is torch.nn.Linear for layer in layers)
    if not plain or any(hasattr(layer.base_layer, "_hf_hook") for layer in layers):  # weights that come when called
        return False
    model.share = Share([(ALONE, 1)])
    for layer in layers:
        layer.share = model.share
        layer.forward = MethodType(_forward, layer)
    return True


def only(model: torch.nn.Module, name: str) -> None:
    """Have the adapter of that name compute all; nothing for a model without a stack."""
    if share := shared(model):
        share.parts = [(name, 1)]


@contextmanager
def mixed(model: torch.nn.Module, names: list[str]) -> Iterator[None]:
    """Context in which each row of a batch is computed with the adapter of that name, without dropout: for decoding."""
    adapters = list(dict.fromkeys(names))
    own = torch.tensor([[name == adapter for adapter in adapters] for name in names], device=model.device)
    model.share.mixed = adapters, own
    try:
        yield
    finally:
        model.share.mixed = None


def seed(model: PeftModel, seeds: dict[str, int]) -> None:
    """Start the random numbers of each run's dropout where `torch.manual_seed` starts those of a run alone."""
    if len(seeds) > 1:
        model.share.random = {name: torch.Generator(model.device).manual_seed(number) for name, number in seeds.items()}
