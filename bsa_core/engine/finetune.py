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
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy

from bsa_core.engine import lora
from bsa_core.engine.lora import ALONE, add_lora
from bsa_core.engine.optimizer import adamw
from bsa_core.models import attention
from bsa_core.models.chat import IGNORED, Encoded
from bsa_core.models.memory import OutOfMemory, halving
from bsa_core.models.passes import pack, right_padded
from bsa_core.models.selfcheck import manner
from bsa_core.profiles import Training
from bsa_core.progress import report


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


def trainable(model: torch.nn.Module, training: Training, seed: int, *more: int) -> torch.nn.Module:
    """What fine-tuning changes: the model with a fresh adapter (`add_lora`), or for method "full" the model itself.

    `discard` what is returned before the model given is used again. All weights are kept aside in the CPU's memory for
    method "full", so that a GPU holds them once. Raises ValueError when all of 4-bit weights are to be trained.
    """
    if training.method == "lora":
        return add_lora(model, training, seed, *more)
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


def answer_losses(model: torch.nn.Module, batches: list[list[Encoded]]) -> torch.Tensor:
    """Cross-entropy summed over the answer tokens of the rows of each run, in float32: [runs].

    Several runs at once are for a model whose adapters are `lora.shared`, with the names of the runs in its parts.
    """
    rows = [row for batch in batches for row in batch]
    # layers that are computed again during the backward pass do not find the rows' lengths
    by_row = manner(model).by_row and not getattr(model, "is_activation_checkpointing", False)
    if not (manner(model).packs or by_row):
        return _padded_loss(model, rows)[None]
    batch = pack(rows, model.device)
    targets = batch.pop("targets")
    # a list: accelerate moves every tensor to the first GPU, and hidden states of the last layer may be on another one
    kept = batch.pop("logits_to_keep").tolist()
    with attention.by_row(model, [len(row.ids) for row in rows]) if by_row else nullcontext():
        logits = model(**batch, logits_to_keep=kept, use_cache=False).logits[0]
    losses = cross_entropy(logits.float(), targets.to(logits.device), reduction="none")
    return torch.stack([part.sum() for part in losses.split([_answer_tokens(batch) for batch in batches])])


def _answer_tokens(rows: list[Encoded]) -> int:
    return sum(label != IGNORED for row in rows for label in row.labels[1:])


def _padded_loss(model: torch.nn.Module, rows: list[Encoded]) -> torch.Tensor:
    ids = right_padded([row.ids for row in rows], model.device)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    targets = right_padded([row.labels[1:] for row in rows], logits.device, IGNORED)
    return cross_entropy(logits[targets != IGNORED].float(), targets[targets != IGNORED], reduction="sum")


def gradients(model: torch.nn.Module, batches: dict[str, list[Encoded]], micro_batch_size: int) -> dict[str, float]:
    """Set the gradients of each run's mean loss over the answer tokens of its batch; returns these losses.

    batches: by the name of the run's adapter (`ALONE` where there is one run, whatever it trains).
    Micro-batches accumulate gradients of sums, so the result does not depend on how a batch is cut.
    """
    model.zero_grad(set_to_none=True)
    totals = dict.fromkeys(batches, 0.0)
    for start in range(0, max(map(len, batches.values())), micro_batch_size):
        cut = {name: rows[start : start + micro_batch_size] for name, rows in batches.items()}
        parts = {name: rows for name, rows in cut.items() if rows}
        if share := lora.shared(model):
            share.parts = [(name, sum(len(row.ids) for row in rows)) for name, rows in parts.items()]
        counts = torch.tensor([_answer_tokens(batches[name]) for name in parts], device=model.device)
        losses = answer_losses(model, [*parts.values()]) / counts
        losses.sum().backward()
        for name, loss in zip(parts, losses.tolist(), strict=True):
            totals[name] += loss
    return totals


def update(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, batches: dict[str, list[Encoded]], micro_batch_size: int
) -> tuple[dict[str, float], int]:
    """One optimizer step on each run's mean loss over the answer tokens of its batch; returns losses and how many rows.

    That is fewer rows at once than the given number when a GPU's memory was too short for it; the step is taken once,
    on complete gradients. A last resort, for a single row, is gradient checkpointing.
    Raises OutOfMemory, a ValueError, when that does not help or there are several runs, and Diverged when a loss is no
    number.
    """

    def attempt(size: int) -> dict[str, float]:
        losses = gradients(model, batches, size)
        if all(map(math.isfinite, losses.values())):
            optimizer.step()
        return losses

    whole = min(micro_batch_size, max(map(len, batches.values())))
    if len(batches) > 1:
        try:
            losses, size = attempt(whole), whole
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfMemory(f"the GPU has no memory for {len(batches)} runs at once ({error})") from None
    else:
        losses, size = _fitting(model, attempt, whole)
    if bad := [loss for loss in losses.values() if not math.isfinite(loss)]:
        raise Diverged(f"the loss is {bad[0]}")
    return losses, micro_batch_size if size == whole else size


def _fitting(model: torch.nn.Module, attempt: Callable, whole: int) -> tuple[dict[str, float], int]:
    """`attempt` with as many rows at once as memory allows, and how many these are."""
    try:
        return halving(attempt, whole, "training rows")
    except OutOfMemory:
        if model.is_activation_checkpointing:
            raise
        report("memory is short: gradient checkpointing from here on")
        model.activation_checkpointing_enable({"use_reentrant": False})
        return halving(attempt, 1, "training rows")


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


@dataclass(frozen=True)
class Job:
    """One run of a stack. name: its adapter's."""

    name: str
    rows: list[Encoded]
    training: Training
    seed: int


def finetune(model: torch.nn.Module, rows: list[Encoded], training: Training, seed: int) -> Iterator[Progress]:
    """Train the model's trainable parameters in place; yields after each of its epochs, see `together`."""
    for ((_, progress),) in together(model, [Job(ALONE, rows, training, seed)]):
        lora.only(model, ALONE)
        yield progress


def together(model: torch.nn.Module, jobs: list[Job]) -> Iterator[list[tuple[Job, Progress]]]:
    """Train several runs at once, each its own adapter; yields after each epoch the runs that have it.

    The jobs may differ in rows, seeds, learning rates and epochs. Which adapter answers is chosen by `lora.only` or
    `lora.mixed`. Seconds are a run's share of those of all, by its tokens.

    The learning rate of an epoch does not depend on how many follow, so stopping early at epoch k leaves exactly
    the model of a run of k epochs. Raises OutOfMemory when a GPU's memory is too short for a row, and Diverged, with
    the update at which it happened, when a training does not hold; both are ValueErrors.
    """
    if not all(job.rows for job in jobs):
        raise ValueError("the training set is empty: there is nothing to fine-tune on")
    torch.manual_seed(jobs[0].seed)
    if lora.shared(model):
        lora.seed(model, {job.name: job.seed for job in jobs})
    optimizer = adamw(model, {job.name: job.training for job in jobs})
    micro_batch_size = jobs[0].training.micro_batch_size
    losses: dict[str, list[float]] = {job.name: [] for job in jobs}
    done = {job.name: Progress(0, (), 0, 0, 0.0, micro_batch_size) for job in jobs}
    for epoch in range(1, max(job.training.epochs for job in jobs) + 1):
        started = time.perf_counter()
        active = [job for job in jobs if job.training.epochs >= epoch]
        model.train()
        for group, job in zip(optimizer.param_groups, jobs, strict=True):
            group["lr"] = job.training.learning_rate * job.training.decay_per_epoch ** (epoch - 1)
        orders = {job.name: shuffled(job.rows, job.seed, epoch) for job in active}
        try:
            for start in range(0, max(map(len, orders.values())), jobs[0].training.batch_size):
                cut = {name: order[start : start + jobs[0].training.batch_size] for name, order in orders.items()}
                batches = {name: batch for name, batch in cut.items() if batch}
                said, micro_batch_size = update(model, optimizer, batches, micro_batch_size)
                for name, loss in said.items():
                    losses[name].append(loss)
            check_weights(model)
        except Diverged as error:
            longest = max(active, key=lambda job: len(job.rows))
            number = min(len(losses[longest.name]) + 1, epoch * -(-len(longest.rows) // longest.training.batch_size))
            raise Diverged(
                f"the training diverged at update {number} (epoch {epoch} of {longest.training.epochs}): {error}. Ways "
                f"out: a lower training.learning_rate (now {longest.training.learning_rate:g}), or compute.dtype "
                "float32; where it is the first update, the model's files may hold broken weights"
            ) from None
        model.eval()
        seconds = time.perf_counter() - started
        counted = {job.name: sum(len(row.ids) for row in job.rows) for job in active}
        for job in active:
            before, tokens = done[job.name], counted[job.name]
            done[job.name] = Progress(
                epoch,
                tuple(losses[job.name]),
                before.tokens + tokens,
                before.answer_tokens + _answer_tokens(job.rows),
                before.seconds + seconds * tokens / sum(counted.values()),
                micro_batch_size,
            )
        yield [(job, done[job.name]) for job in active]
