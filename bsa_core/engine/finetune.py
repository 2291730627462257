"""Fine-tuning, LoRA or full, as the paper does it (section 4.1), without the work that changes nothing.

A batch is packed: its rows stand one behind the other in a single sequence, each attending to itself only, so there is
no padding; and logits are computed at answer positions only, the only ones that carry loss. The update is that of
the padded batch with full logits, on CPU and CUDA alike. Where a GPU's memory is too short for a batch, fewer rows go
through the model at once; where it is too short for one row, layers are computed again in place of kept.

A model that does not keep packed rows apart gets them padded (`selfcheck`).

    row 1                      row 2
    <prompt> <answer> <end>    <prompt> <answer> <end>
    0 1 2 3  4 5 6 7  8        0 1 2    3 4 5    6        position ids restart: the model keeps rows apart
             └───────┘ loss             └───────┘ loss
"""

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers.pytorch_utils import Conv1D

from bsa_core.engine.optimizer import adamw
from bsa_core.models.chat import IGNORED, Encoded
from bsa_core.models.memory import OutOfMemory, halving
from bsa_core.models.passes import pack, right_padded
from bsa_core.models.selfcheck import manner
from bsa_core.profiles import Training
from bsa_core.progress import report

ALL_LINEAR = "all-linear"  # PEFT's word for every linear layer but the output's
ADAPTED = (torch.nn.Linear, torch.nn.Embedding, torch.nn.Conv1d, torch.nn.Conv2d, Conv1D)  # what LoRA knows


class Diverged(ValueError):
    """A loss or a weight is no finite number any more: nothing that the model says after it means anything."""


@dataclass(frozen=True)
class Progress:
    """Where fine-tuning stands after an epoch: counts and seconds are totals since the start."""

    epoch: int
    losses: tuple[float, ...]  # one per update: mean over the answer tokens of its batch
    tokens: int
    answer_tokens: int
    seconds: float
    micro_batch_size: int  # rows that went through the model at once: fewer than asked for where memory was short


def add_lora(model: torch.nn.Module, training: Training, seed: int) -> PeftModel:
    """The model with a fresh adapter, a function of the seed. `.unload()` gives the untouched base model back.

    Raises ValueError when one of `training.targets` names no module of the model that LoRA can adapt.
    """
    _check_targets(model, training.targets)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        lora_dropout=training.dropout,
        target_modules=ALL_LINEAR if training.targets == (ALL_LINEAR,) else list(training.targets),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


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


def trainable(model: torch.nn.Module, training: Training, seed: int) -> torch.nn.Module:
    """What fine-tuning changes: the model with a fresh adapter, or for method "full" the model itself.

    `discard` what is returned before the model given is used again. All weights are kept aside in the CPU's memory for
    method "full", so that a GPU holds them once. Raises ValueError when all of 4-bit weights are to be trained.
    """
    if training.method == "lora":
        return add_lora(model, training, seed)
    if getattr(model, "is_loaded_in_4bit", False):
        raise ValueError("training.method 'full' cannot train 4-bit weights; use 'lora', or leave model.quantize out")
    model.aligned = [weight.detach().to("cpu", copy=True) for weight in model.parameters()]
    return model.requires_grad_(True)


@torch.no_grad()
def discard(trained: torch.nn.Module) -> None:
    """Undo `trainable`: take the adapter off the base model, or put back the weights that it had.

    A training that ended in an error left the model in training mode, in which it would answer with dropout.
    """
    if isinstance(trained, PeftModel):
        trained.unload().eval()
        return
    for weight, aligned in zip(trained.parameters(), trained.aligned, strict=True):
        weight.copy_(aligned)
    del trained.aligned
    trained.zero_grad(set_to_none=True)
    trained.eval().requires_grad_(False)


def answer_loss(model: torch.nn.Module, rows: list[Encoded]) -> torch.Tensor:
    """Cross-entropy summed over the answer tokens of the rows, in float32."""
    if not manner(model).packs:
        return _padded_loss(model, rows)
    batch = pack(rows, model.device)
    targets = batch.pop("targets")
    # a list: accelerate moves every tensor to the first GPU, and hidden states of the last layer may be on another one
    kept = batch.pop("logits_to_keep").tolist()
    logits = model(**batch, logits_to_keep=kept, use_cache=False).logits[0]
    return cross_entropy(logits.float(), targets.to(logits.device), reduction="sum")


def _padded_loss(model: torch.nn.Module, rows: list[Encoded]) -> torch.Tensor:
    ids = right_padded([row.ids for row in rows], model.device)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    targets = right_padded([row.labels[1:] for row in rows], logits.device, IGNORED)
    return cross_entropy(logits[targets != IGNORED].float(), targets[targets != IGNORED], reduction="sum")


def gradients(model: torch.nn.Module, batch: list[Encoded], micro_batch_size: int) -> float:
    """Set the gradients of the mean loss over the answer tokens of a batch; returns that loss.

    Micro-batches accumulate gradients of sums, so the result does not depend on how the batch is cut.
    """
    answer_tokens = sum(label != IGNORED for row in batch for label in row.labels[1:])
    model.zero_grad(set_to_none=True)
    total = 0.0
    for start in range(0, len(batch), micro_batch_size):
        loss = answer_loss(model, batch[start : start + micro_batch_size]) / answer_tokens
        loss.backward()
        total += loss.item()
    return total


def update(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, batch: list[Encoded], micro_batch_size: int
) -> tuple[float, int]:
    """One optimizer step on the mean loss over the answer tokens of a batch; returns the loss and the micro-batch size.

    The size is smaller than the one given when a GPU's memory was too short for it; the step is taken once, on
    complete gradients. A last resort, for a single row, is gradient checkpointing.
    Raises OutOfMemory, a ValueError, when that does not help, and Diverged when the loss is no number.
    """

    def attempt(size: int) -> float:
        if math.isfinite(loss := gradients(model, batch, size)):
            optimizer.step()
        return loss

    whole = min(micro_batch_size, len(batch))
    try:
        loss, size = halving(attempt, whole, "training rows")
    except OutOfMemory:
        if model.is_activation_checkpointing:
            raise
        report("memory is short: gradient checkpointing from here on")
        model.activation_checkpointing_enable({"use_reentrant": False})
        loss, size = halving(attempt, 1, "training rows")
    if not math.isfinite(loss):
        raise Diverged(f"the loss is {loss}")
    return loss, micro_batch_size if size == whole else size


def check_weights(model: torch.nn.Module) -> None:
    """Raises Diverged when a weight that is trained is not finite: the last update has no loss behind it."""
    for name, weight in model.named_parameters():
        if weight.requires_grad and not weight.isfinite().all():
            raise Diverged(f"{name} is not finite")


def shuffled(rows: list[Encoded], seed: int, epoch: int) -> list[Encoded]:
    """The rows in the order of an epoch.

    A row's place follows from its own content, so rows that two arms share keep their relative order in both.
    """
    return sorted(rows, key=lambda row: random.Random(f"{seed}/{epoch}/{row.ids}").random())


def finetune(model: torch.nn.Module, rows: list[Encoded], training: Training, seed: int) -> Iterator[Progress]:
    """Train the model's trainable parameters in place; yields after each of `training.epochs` epochs.

    The learning rate of an epoch does not depend on how many follow, so stopping early at epoch k leaves exactly
    the model of a run of k epochs. Raises OutOfMemory when a GPU's memory is too short for a row, and Diverged, with
    the update at which it happened, when the training does not hold; both are ValueErrors.
    """
    if not rows:
        raise ValueError("the training set is empty: there is nothing to fine-tune on")
    torch.manual_seed(seed)
    optimizer = adamw(model, training)
    micro_batch_size = training.micro_batch_size
    losses: list[float] = []
    tokens = answer_tokens = 0
    seconds = 0.0
    for epoch in range(1, training.epochs + 1):
        started = time.perf_counter()
        model.train()
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * training.decay_per_epoch ** (epoch - 1)
        order = shuffled(rows, seed, epoch)
        try:
            for start in range(0, len(order), training.batch_size):
                batch = order[start : start + training.batch_size]
                loss, micro_batch_size = update(model, optimizer, batch, micro_batch_size)
                losses.append(loss)
                tokens += sum(len(row.ids) for row in batch)
                answer_tokens += sum(label != IGNORED for row in batch for label in row.labels[1:])
            check_weights(model)
        except Diverged as error:
            number = min(len(losses) + 1, epoch * -(-len(rows) // training.batch_size))
            raise Diverged(
                f"the training diverged at update {number} (epoch {epoch} of {training.epochs}): {error}. Ways out: a "
                f"lower training.learning_rate (now {training.learning_rate:g}), or compute.dtype float32; where it "
                "is the first update, the model's files may hold broken weights"
            ) from None
        model.eval()
        seconds += time.perf_counter() - started
        yield Progress(epoch, tuple(losses), tokens, answer_tokens, seconds, micro_batch_size)
