"""AdamW, with all of its memory taken before the first update, and with weights in float32 where the model's are not.

A step of 0.00005 is smaller than half the distance between neighbouring bfloat16 numbers for every weight above 0.02:
added to the weight itself it is lost in rounding. So for method "full" the optimizer works on a float32 copy of the
weights, and the model gets its rounded values after each update. Copy and moments go to the CPU's memory where the
GPU's is too short. The paper's release trains the bfloat16 weights themselves: `training.master_weights: false`.
"""

import torch

from bsa_core.models.memory import OutOfMemory
from bsa_core.profiles import Training
from bsa_core.progress import report


def adamw(model: torch.nn.Module, runs: dict[str, Training]) -> torch.optim.AdamW:
    """AdamW on what is trainable in the model: one group for each run, by the name of its adapter.

    Raises OutOfMemory, a ValueError, when there is no room for its state.

    A step takes no memory for states any more, so one that runs out of memory has changed nothing and can be repeated.
    """
    training = next(iter(runs.values()))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    copied = training.method == "full" and training.master_weights and model.dtype != torch.float32

    def made(place: str) -> torch.optim.AdamW:
        trained = masters(weights, place) if copied else weights
        on_gpu = model.device.type == "cuda"
        optimizer = torch.optim.AdamW(
            [
                {"params": of, "lr": run.learning_rate, "weight_decay": run.weight_decay}
                for run, of in zip(runs.values(), groups(model, [*runs]) if len(runs) > 1 else [trained], strict=True)
            ],
            fused=on_gpu,  # without temporary copies of what it updates
            foreach=not on_gpu,
        )
        allocate(optimizer)
        if copied:
            follow(optimizer, weights, trained)
        return optimizer

    for place in ("", "cpu") if copied else ("",):
        try:
            return made(place)
        except torch.cuda.OutOfMemoryError as error:
            said = str(error).split("\n")[0]
        # outside of the handler: the exception holds on to what was allocated
        torch.cuda.empty_cache()
        if copied:
            report("memory is short: the float32 weights and the optimizer's state go to the CPU's memory")
    raise OutOfMemory(f"the GPU has no memory for the optimizer's state ({said})")


def groups(model: torch.nn.Module, names: list[str]) -> list[list[torch.Tensor]]:
    """The weights of each adapter."""
    return [[weight for name, weight in model.named_parameters() if f".{of}." in name] for of in names]


def masters(weights: list[torch.Tensor], place: str) -> list[torch.Tensor]:
    """Copies in float32, on the device named or, for "", beside each weight."""
    return [
        weight.detach().to(place or weight.device, torch.float32, copy=True).requires_grad_(True) for weight in weights
    ]


@torch.no_grad()
def allocate(optimizer: torch.optim.Optimizer) -> None:
    """Let the optimizer make its states: a step at rate 0 without gradient changes no weight and does not count."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for state in optimizer.state.values():
        state["step"].zero_()


def follow(optimizer: torch.optim.Optimizer, weights: list[torch.Tensor], masters: list[torch.Tensor]) -> None:
    """Around each step: gradients of the weights go to their float32 copies, and the copies' new values come back."""

    @torch.no_grad()
    def before(*_) -> None:
        for weight, master in zip(weights, masters, strict=True):
            master.grad = None if weight.grad is None else weight.grad.to(master.device, torch.float32)
            weight.grad = None  # so that both are there for one weight at a time only

    @torch.no_grad()
    def after(*_) -> None:
        for weight, master in zip(weights, masters, strict=True):
            weight.copy_(master)
            master.grad = None

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
