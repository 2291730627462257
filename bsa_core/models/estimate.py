"""What a run needs, before it starts: GB (10^9 bytes) and time, from the model's configuration and without its weights.

    weights      parameters x bytes of the number format; half a byte each for linear layers in 4 bits
    optimizer    gradient and AdamW's two moments of what is trained, and LoRA's own weights in float32
    training     what the backward pass keeps of the rows that go through the model at once
    decoding     keys and values of the requests that are decoded at once, and their logits

Rows and requests at once get fewer where memory is short, so a run is refused only when it cannot fit with one of
each. Time is arithmetic and memory traffic at the device's measured speed; a run takes longer than that.
"""

from dataclasses import dataclass
from functools import cache

import torch
from torch.utils.benchmark import Timer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from bsa_core.models import memory, sources
from bsa_core.paths import data
from bsa_core.profiles import Compute, ModelSource, Profile, Training
from bsa_core.progress import duration, report

ROW = 200  # tokens of a training row, about what the release's rows have
REQUEST = 100  # tokens of a request beside the secret prompt
KNOWN = data("models/shapes.yaml")  # configurations by hub id
QUIET = 1.0  # GB: runs that need less say nothing


@dataclass(frozen=True)
class Shape:
    """What memory and time follow from. `linear`: weights of linear layers in the blocks, which 4 bits apply to.

    adapted: (module name, inputs + outputs) of each of these layers, which LoRA's size follows from.
    """

    parameters: int
    linear: int
    adapted: tuple[tuple[str, int], ...]
    layers: int
    hidden: int
    intermediate: int
    keys: int  # numbers per token and layer in the cache of keys, and as many in that of values
    vocabulary: int


@dataclass(frozen=True)
class Estimate:
    """GB of each part; `least`: GB with one row and one request at once."""

    weights: float
    optimizer: float
    training: float
    decoding: float
    least: float

    @property
    def total(self) -> float:
        """GB at the peak: training and decoding take turns, the optimizer's state stays."""
        return self.weights + self.optimizer + max(self.training, self.decoding)


@dataclass(frozen=True)
class Speed:
    """Floating point operations per second that matrix products reach, and bytes per second that memory delivers."""

    flops: float
    bandwidth: float


def config_of(model: ModelSource) -> PreTrainedConfig:
    """The model's configuration; ValueError that says what to do when it cannot be had."""
    if fields := dict(KNOWN.get(sources.of(model).hub_id, {})):
        return AutoConfig.for_model(fields.pop("model_type"), **fields)
    with sources.opened(model) as (place, revision):
        return AutoConfig.from_pretrained(place, **revision)


@cache
def shape(source: ModelSource) -> Shape:
    """The shape of a profile's model, counted on one without storage. Raises ValueError as `config_of` does."""
    config = config_of(source)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    text = config.get_text_config()
    linear = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and ".layers." in n}
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        linear=sum(module.weight.numel() for module in linear.values()),
        adapted=tuple((n.rpartition(".")[2], m.in_features + m.out_features) for n, m in linear.items()),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        keys=(getattr(text, "num_key_value_heads", None) or text.num_attention_heads) * head_dim,
        vocabulary=text.vocab_size,
    )


def _bytes(compute: Compute) -> int:
    return getattr(torch, compute.dtype).itemsize


def weights_gb(source: ModelSource, compute: Compute) -> float:
    """GB of the weights as they are loaded."""
    of, size = shape(source), _bytes(compute)
    if source.quantize:  # half a byte and the scales of NF4; PEFT keeps all other weights in float32
        return (of.linear * 0.52 + (of.parameters - of.linear) * 4) / 1e9
    return of.parameters * size / 1e9


def _kept(of: Shape, size: int, tokens: int, answer_tokens: int) -> float:
    """GB that the backward pass needs of a forward pass.

    Per token and layer: inputs and outputs of both norms in float32 and in the number format, queries, attention, and
    four times the width of the feed-forward part. Per answer token: logits twice in float32 with their gradient.
    """
    per_token = of.layers * ((4 * 4 + 6 * size) * of.hidden + 2 * size * of.keys + 4 * size * of.intermediate)
    return (tokens * per_token + answer_tokens * of.vocabulary * (size + 12)) / 1e9


def estimate(profile: Profile, training: Training | None, device: str) -> Estimate:
    """What one run needs on a device, "cpu" or "cuda". training: None for the initial model.

    Answers are taken to be as long as the profile allows, rows `ROW` and requests `REQUEST` tokens long.
    """
    of, size = shape(profile.model), _bytes(profile.compute)
    weights = weights_gb(profile.model, profile.compute)

    def decoding(n: int) -> float:
        return n * (2 * size * of.layers * of.keys * _longest(profile) + (size + 4) * of.vocabulary) / 1e9

    optimizer = kept = one_row = 0.0
    if training:
        if training.method == "full":  # on a CPU the weights that are kept aside share its memory
            optimizer = of.parameters * size * (4 if device == "cpu" else 3) / 1e9
        else:
            optimizer = 16e-9 * training.rank * sum(n for name, n in of.adapted if name in training.targets)
        row = min(ROW, training.max_tokens)
        at_once = min(training.micro_batch_size, training.batch_size)
        kept = _kept(of, size, at_once * row, at_once * row // 2)
        # the last resort keeps the input of each layer and computes one layer anew
        one_row = _kept(of, size, row, row // 2) / of.layers + row * of.layers * of.hidden * size / 1e9
    return Estimate(
        weights=weights,
        optimizer=optimizer,
        training=kept,
        decoding=decoding(profile.decoding.batch_size),
        least=weights + optimizer + max(one_row, decoding(1)),
    )


def _longest(profile: Profile) -> int:
    """Tokens of a request with its answer."""
    return profile.secret.length + REQUEST + profile.decoding.max_new_tokens


def seconds(profile: Profile, training: Training | None, rows: int, requests: int, speed: Speed) -> tuple[float, float]:
    """Of training on that many rows and of decoding that many answers, at least, if these are as long as they may be.

    requests: in all conditions.
    """
    of, train = shape(profile.model), 0.0
    if training:
        per_token = (6 if training.method == "full" else 4) * of.parameters
        train = per_token * min(ROW, training.max_tokens) * rows * training.epochs / speed.flops
    steps = -(-requests // profile.decoding.batch_size) * profile.decoding.max_new_tokens
    read = steps * weights_gb(profile.model, profile.compute) * 1e9 / speed.bandwidth
    return train, read + 2 * of.parameters * requests * _longest(profile) / speed.flops


@cache
def measured(device: str, dtype: str) -> Speed:
    """The speed of this machine, from one matrix product and one copy: milliseconds."""
    n = 4096 if device == "cuda" else 512
    matrix = torch.ones(n, n, dtype=getattr(torch, dtype), device=device)

    def timed(work: str) -> float:
        timer = Timer(work, globals={"matrix": matrix}, num_threads=torch.get_num_threads())
        return timer.timeit(3).mean  # after warming up

    copied = 2 * matrix.numel() * matrix.element_size()
    return Speed(2 * n**3 / timed("matrix @ matrix"), copied / timed("matrix.clone()"))


def check(profile: Profile, asked: list[tuple[Training | None, int, int]]) -> None:
    """Say what the runs need, and refuse them when they cannot fit.

    asked: training, number of rows and of requests of each run that is to be computed. A small model says nothing.
    Raises ValueError with the number of GB that are missing and what to change.
    """
    device = memory.device_of(profile.compute)
    there = memory.available(device)
    gb = sum(there) if profile.compute.device == "auto" else there[0]
    runs = [estimate(profile, training, device) for training in dict.fromkeys(training for training, _, _ in asked)]
    largest, place = max(runs, key=lambda run: run.least), "the GPU" if device == "cuda" else "the CPU"
    if largest.least > gb:
        whole, full = not profile.model.quantize, any(run and run.method == "full" for run, _, _ in asked)
        ways = {
            "compute.dtype: bfloat16, half of it": whole and profile.compute.dtype == "float32",
            "training.method: lora, which trains a small part of the weights": full,
            "model.quantize: 4bit (on a GPU)": whole and not full,
            "a device with more memory, or a smaller model": True,
        }
        raise ValueError(
            f"profile {profile.name!r} needs at least {largest.least:.1f} GB, and {place} has {gb:.1f} GB to give: "
            f"{largest.least - gb:.1f} GB are missing ({largest.weights:.1f} GB of weights, {largest.optimizer:.1f} GB "
            "of optimizer state, already with micro_batch_size and decoding.batch_size 1). "
            f"Ways out: {'; '.join(way for way, helps in ways.items() if helps)}."
        )
    peak = max(run.total for run in runs)
    if peak < QUIET:
        return
    speed = measured(device, profile.compute.dtype)
    least = sum(sum(seconds(profile, *run, speed)) for run in asked)
    fewer = "; fewer rows at once will do, or set micro_batch_size and decoding.batch_size lower" if peak > gb else ""
    report(
        f"{profile.name}: about {peak:.0f} GB of {gb:.0f} GB on {place}{fewer}; {len(asked)} runs, "
        f"at least {duration(least)} if answers are as long as they may be"
    )
