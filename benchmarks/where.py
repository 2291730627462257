"""Where the time of fine-tuning goes: an epoch on one CPU thread by the kind of operation, as torch's profiler has it.

What is between the operations, in Python and in autograd, is what the other kinds leave over. The profiler takes time
as well, most of it there: beside the shares stand the seconds of an epoch without it.
"""

import time
from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile

from bsa_core.engine import finetune
from bsa_core.models import loading
from bsa_core.models.chat import Encoded
from bsa_core.profiles import Profile

# kind -> how the names of torch's operations begin
KINDS = {
    "products of matrices": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "attention": ("aten::_scaled_dot_product",),
    "random numbers of dropout": ("aten::bernoulli",),
    "optimizer": ("aten::_foreach", "aten::_fused_adam", "Optimizer"),
    "other operations": ("aten::",),
}
BETWEEN = "between operations"


def kind(operation: str) -> str | None:
    return next((kind for kind, names in KINDS.items() if operation.startswith(names)), None)


def measure(of: Profile, rows: list[Encoded], seed: int = 0) -> dict:
    """The third of three epochs under the profiler, the second one without it."""
    model, training = loading.load(of).model, replace(of.training, epochs=3)
    adapted = finetune.trainable(model, training, seed)
    try:
        epochs = finetune.finetune(adapted, rows, training, seed)
        next(epochs)
        before = time.process_time()
        next(epochs)
        plain = time.process_time() - before
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            before, began = time.process_time(), time.perf_counter()
            next(epochs)
            whole, lasted = time.process_time() - before, time.perf_counter() - began
    finally:
        finetune.discard(adapted)
    shares = dict.fromkeys(KINDS, 0.0)
    for operation in seen.key_averages():
        if of_operation := kind(operation.key):
            shares[of_operation] += operation.self_cpu_time_total / 1e6 / lasted  # the profiler's clock is the wall's
    shares[BETWEEN] = 1 - sum(shares.values())
    tokens, parameters = sum(len(row.ids) for row in rows), sum(weight.numel() for weight in model.parameters())
    return {
        "cpu_seconds": plain,
        "profiled_cpu_seconds": whole,
        "shares": shares,
        "rows": len(rows),
        "tokens": tokens,
        "targets": list(training.targets),
        "dropout": training.dropout,
        "gflop_per_cpu_second": 4 * parameters * tokens / plain / 1e9,
        "torch_threads": torch.get_num_threads(),
        "counts": True,
    }
