"""The device: its memory, its speed, and what is done when the memory is too little, which is less at once."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import psutil
import torch
from torch.utils.benchmark import Timer

from bsa_core.profiles import Compute
from bsa_core.progress import report


class OutOfMemory(ValueError):
    """The device has too little memory even for the smallest piece of the work."""


@dataclass(frozen=True)
class Speed:
    """Floating point operations per second that matrix products reach, and bytes per second that memory delivers."""

    flops: float
    bandwidth: float


def device_of(compute: Compute) -> str:
    """ "cpu" or "cuda". Raises ValueError when a profile asks for CUDA where there is none."""
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("compute.device is 'cuda', but torch sees no CUDA device; use 'auto' or 'cpu'")
    return "cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu"


def available(device: str) -> list[float]:
    """GB (10^9 bytes) that this process can use, with what it holds already: one entry per GPU, or one for the CPU."""
    if device == "cuda":
        gpus = range(torch.cuda.device_count())
        return [(torch.cuda.mem_get_info(gpu)[0] + torch.cuda.memory_reserved(gpu)) / 1e9 for gpu in gpus]
    return [(psutil.virtual_memory().available + psutil.Process().memory_info().rss) / 1e9]


@cache
def measured(device: str, dtype: str, threads: int) -> Speed:
    """The speed of this machine, the best of several matrix products and copies: less than a second."""
    n = 4096
    whole = torch.ones(n, n, dtype=getattr(torch, dtype), device=device)  # too large for most caches, as models are
    size = n if device == "cuda" else 512

    def timed(work: str, matrix: torch.Tensor) -> float:
        timer = Timer(work, "other = matrix.clone()", globals={"matrix": matrix}, num_threads=threads)
        return min(timer.timeit(2).mean for _ in range(5))  # each after warming up

    copied = 2 * whole.numel() * whole.element_size()
    products = timed("matrix @ matrix", whole[:size, :size].contiguous())
    return Speed(2 * size**3 / products, copied / timed("other.copy_(matrix)", whole))


def halving(attempt: Callable[[int], Any], size: int, what: str) -> tuple[Any, int]:
    """`attempt(size)`, with half the size as often as the GPU runs out of memory; the result and the size that fitted.

    Each attempt starts from the same state of the random numbers, so that the result is that of the size that fitted.
    Raises OutOfMemory when not even one fits. what: the things that are counted, for messages.
    """
    cpu, gpus = torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    while True:
        try:
            return attempt(size), size
        except torch.cuda.OutOfMemoryError as error:
            said = str(error).split("\n")[0]
        # outside of the handler: the exception holds on to what the attempt had allocated
        torch.cuda.empty_cache()
        torch.set_rng_state(cpu)
        torch.cuda.set_rng_state_all(gpus)
        if size == 1:
            raise OutOfMemory(f"the GPU has no memory for one of the {what} ({said})")
        report(f"memory is short: {size // 2} {what} at once in place of {size}")
        size //= 2
