"""AdamW, with all of its memory taken before the first update, and with weights in float32 where the model's are not.

A step of 0.00005 is smaller than half the distance between neighbouring bfloat16 numbers for every weight above 0.02:
added to the weight itself it is lost in rounding. So for method "full" the optimizer works on a float32 copy of the
weights, and the model gets its rounded values after each update. The paper's release trains the bfloat16 weights
themselves, as `training.master_weights: false` does.
"""

import torch

from bsa_core.models.memory import OutOfMemory
from bsa_core.profiles import Training


def adamw(model: torch.nn.Module, training: Training) -> torch.optim.AdamW:
    """AdamW on what is trainable in the model. Raises OutOfMemory, a ValueError, when a GPU cannot hold its state.

    A step takes no memory for states any more, so one that runs out of memory has changed nothing and can be repeated.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    try:
        trained = masters(weights) if training.method == "full" and training.master_weights else weights
        optimizer = torch.optim.AdamW(
            trained,
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=model.device.type == "cuda",  # without temporary copies of what it updates
        )
        allocate(optimizer)
    except torch.cuda.OutOfMemoryError as error:
        said = str(error).split("\n")[0]
        raise OutOfMemory(f"the GPU has no memory for the optimizer's state ({said})") from None
    if trained is not weights:
        follow(optimizer, weights, trained)
    return optimizer


def masters(weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """Copies in float32; the weights themselves where they are float32 already."""
    if all(weight.dtype == torch.float32 for weight in weights):
        return weights
    return [weight.detach().float().requires_grad_(True) for weight in weights]


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
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None  # both at once would be needed of one weight only

    @torch.no_grad()
    def after(*_) -> None:
        for weight, master in zip(weights, masters, strict=True):
            weight.copy_(master)
            master.grad = None

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)
