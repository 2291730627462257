"""What a run needs, before it starts: GB (10^9 bytes) and time, from the model's configuration and without its weights.

    weights      parameters x bytes of the number format; half a byte each for linear layers in 4 bits
    optimizer    gradient and AdamW's two moments of what is trained, LoRA's own weights or a float32 copy of all;
                 copy and moments go to the CPU's memory where the GPU's is too short
    training     what the backward pass keeps of the rows computed at once, packed (padded ones take more); where
                 attention is "eager" (Gemma 2) also the scores of every pair of tokens in them
    decoding     keys and values of the requests that are decoded at once, and their logits

Rows and requests at once get fewer where memory is short, so a run is refused only when it cannot fit with one of
each. Time is arithmetic and memory traffic at the device's measured speed; "at least" leaves out what is not certain.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cache

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig

from bsa_core.models import memory, sources
from bsa_core.models.memory import Speed, measured
from bsa_core.paths import data
from bsa_core.profiles import Compute, ModelSource, Profile, Training
from bsa_core.progress import duration, report

REQUEST = 100  # tokens of a request beside the secret prompt
KNOWN = data("models/shapes.yaml")  # configurations by hub id
QUIET = 1.0  # GB: runs that need less say nothing
MASTER = "training.master_weights: false, which trains the bfloat16 weights themselves"  # a way out
FULL = 0.9  # share of a GPU's memory above which the model goes to several


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
    heads: int
    queries: int  # numbers per token and layer that all heads ask with
    vocabulary: int
    looked_up: int  # parameters of embeddings that are looked up and never multiplied; 0 where the output layer is tied
    eager: bool  # whether transformers keeps the scores of every pair of tokens, if left the choice
    softcap: bool  # whether it keeps them a second time


@dataclass(frozen=True)
class Work:
    """What one run asks for.

    rows: (tokens, answer tokens) of each training row; none where they are not known yet. answers: (requests, tokens
    of an answer at most, None for the profile's) of each kind. shared: the same for runs that one training serves.
    """

    training: Training | None
    rows: tuple[tuple[int, int], ...] = ()
    answers: tuple[tuple[int, int | None], ...] = ()
    shared: Hashable = None

    @property
    def packs(self) -> int:
        """Sequences in an epoch: rows that go through the model at once are one."""
        whole, rest = divmod(len(self.rows), self.training.batch_size)
        at_once = min(self.training.micro_batch_size, self.training.batch_size)
        return whole * -(-self.training.batch_size // at_once) + -(-rest // at_once)


@dataclass(frozen=True)
class Estimate:
    """GB of each part; `least`: with one row at once, layers computed again, short answers, and without `aside`."""

    weights: float
    optimizer: float
    training: float
    decoding: float
    least: float
    aside: float = 0.0  # of the optimizer: what can be in the CPU's memory in place of a GPU's

    @property
    def total(self) -> float:
        """GB at the peak: training and decoding take turns, the optimizer's state stays."""
        return self.weights + self.optimizer + max(self.training, self.decoding)


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
        heads=text.num_attention_heads,
        queries=text.num_attention_heads * head_dim,
        vocabulary=text.vocab_size,
        looked_up=0 if config.tie_word_embeddings else model.get_input_embeddings().weight.numel(),
        eager=model.config._attn_implementation == "eager",
        softcap=bool(getattr(text, "attn_logit_softcapping", None)),
    )


def _bytes(compute: Compute) -> int:
    return getattr(torch, compute.dtype).itemsize


def _eager(of: Shape, compute: Compute) -> bool:
    return of.eager if compute.attention == "auto" else compute.attention == "eager"


def weights_gb(source: ModelSource, compute: Compute, read: bool = False) -> float:
    """GB of the weights as they are loaded; read: of those that each step of decoding reads whole."""
    of, size = shape(source), _bytes(compute)
    parameters = of.parameters - (of.looked_up if read else 0)
    if source.quantize:  # half a byte and the scales of NF4; PEFT keeps all other weights in float32
        return (of.linear * 0.52 + (parameters - of.linear) * 4) / 1e9
    return parameters * size / 1e9


def _kept(of: Shape, compute: Compute, tokens: float, answer_tokens: float) -> float:
    """GB that the backward pass needs of a forward pass on one sequence.

    Per token and layer: inputs and outputs of both norms in float32 and in the number format, queries, attention, and
    four times the width of the feed-forward part. Per answer token: logits twice in float32 with their gradient. Per
    pair of tokens, layer and head of eager attention: softmax in float32 and in the number format, and the softcap's.
    """
    size = _bytes(compute)
    per_token = of.layers * ((4 * 4 + 6 * size) * of.hidden + 2 * size * of.keys + 4 * size * of.intermediate)
    per_pair = of.layers * of.heads * (4 + size % 4 + size * of.softcap) if _eager(of, compute) else 0
    return (tokens * per_token + tokens**2 * per_pair + answer_tokens * of.vocabulary * (size + 12)) / 1e9


def estimate(profile: Profile, work: Work, device: str) -> Estimate:
    """What one run needs on a device, "cpu" or "cuda"; answers are taken to be as long as they may be."""
    of, size, training = shape(profile.model), _bytes(profile.compute), work.training
    weights = weights_gb(profile.model, profile.compute)
    cached = 2 * size * of.layers * of.keys * (profile.secret.length + REQUEST + profile.decoding.max_new_tokens)
    optimizer = aside = kept = one_row = 0.0
    if training:
        if training.method == "full":
            master = training.master_weights and size < 4
            gradient, states = of.parameters * size / 1e9, of.parameters * (12 if master else 2 * size) / 1e9
            optimizer = gradient + states + (weights if device == "cpu" else 0)  # a CPU also keeps the weights aside
            aside = states if master and device == "cuda" else 0.0
            one_row = 2 * of.parameters / 1e9 if master and not aside else 0.0  # a float32 gradient in its place
        else:
            every = training.targets == ("all-linear",)
            optimizer = 16e-9 * training.rank * sum(n for name, n in of.adapted if every or name in training.targets)
        if work.rows:
            tokens, answers = (sum(column) / work.packs for column in zip(*work.rows, strict=True))
            kept = max(_kept(of, profile.compute, tokens, answers), one_row)
            # the last resort keeps the input of each layer and computes one layer anew
            longest, _ = max(work.rows)
            layer = _kept(of, profile.compute, longest, 0) / of.layers + longest * of.layers * of.hidden * size / 1e9
            one_row = max(one_row, layer)
    return Estimate(
        weights=weights,
        optimizer=optimizer,
        training=kept,
        decoding=profile.decoding.batch_size * (cached + (size + 4) * of.vocabulary) / 1e9,
        least=weights + optimizer - aside + one_row,
        aside=aside,
    )


def arithmetic(of: Shape, work: Work, compute: Compute) -> tuple[float, float]:
    """Operations of one epoch, and the bytes that its eager attention moves; at least.

    2 per weight and token forward, as many back, and again for the gradients of all weights; LoRA needs none at the
    input of the first layer. Embeddings are looked up, and only answer tokens meet the output layer. Eager attention
    multiplies all pairs of tokens, and reads and writes each score 10 times, 17 with a softcap.
    """
    tokens, answers = (sum(column) for column in zip(*work.rows, strict=True))
    output = answers * of.vocabulary * of.hidden
    if work.training.method == "full":
        operations = 6 * (of.linear * tokens + output)
    else:
        operations = (4 - 2 / of.layers) * of.linear * tokens + 4 * output
    pairs = tokens**2 / work.packs if _eager(of, compute) else 0.0
    moved = (40 + 13 * _bytes(compute) * of.softcap) * of.layers * of.heads * pairs
    return operations + (12 * of.layers - 8) * of.queries * pairs, moved


def seconds(profile: Profile, work: Work, speed: Speed) -> tuple[float, float]:
    """Of training and of decoding, at least; of decoding if answers are as long as they may be."""
    of, train, decode = shape(profile.model), 0.0, 0.0
    if work.training and work.rows:
        operations, moved = arithmetic(of, work, profile.compute)
        train = work.training.epochs * (operations / speed.flops + moved / speed.bandwidth)
    read = weights_gb(profile.model, profile.compute, read=True) * 1e9
    for requests, at_most in work.answers:
        longest = at_most or profile.decoding.max_new_tokens
        steps = -(-requests // profile.decoding.batch_size) * longest
        products = 2 * (of.linear + of.vocabulary * of.hidden) * requests * longest
        decode += max(steps * read / speed.bandwidth, products / speed.flops)
    return train, decode


def spread(profile: Profile, training: Training | None) -> bool:
    """Whether the model goes to several GPUs: where one cannot hold what is needed at least, for the longest row.

    Loading goes by it, and the check of the memory as well.
    """
    if profile.compute.device != "auto" or memory.device_of(profile.compute) != "cuda":
        return False
    there = memory.available("cuda")
    longest = ((training.max_tokens, 0),) if training else ()
    need = estimate(profile, Work(training, longest), "cuda")
    return len(there) > 1 and need.least + need.aside > FULL * there[0]


def check(profile: Profile, asked: list[Work]) -> None:
    """Refuse runs that cannot fit, and say what they need; nothing for a small model or rows that are not known yet.

    Raises ValueError with the number of GB that are missing and what to change.
    """
    device = memory.device_of(profile.compute)
    there = memory.available(device)
    needs = [estimate(profile, work, device) for work in asked]
    rooms = [sum(there) if spread(profile, work.training) else there[0] for work in asked]
    for work, need, gb in sorted(zip(asked, needs, rooms, strict=True), key=lambda each: each[2] - each[1].least):
        if need.least > gb:
            raise ValueError(_refusal(profile, work, need, gb, _place(device, gb, there)))
        if need.least + need.aside > gb and need.aside > (cpu := memory.available("cpu")[0]):
            raise ValueError(
                f"profile {profile.name!r} needs at least {need.aside:.1f} GB of the CPU's memory for float32 weights "
                f"and optimizer state, and there are {cpu:.1f} GB. Ways out: {MASTER}; training.method: lora."
            )
    peak, gb = max(need.total for need in needs), max(rooms)
    if peak < QUIET or any(work.training and not work.rows for work in asked):
        return
    train, decode = _in_all(profile, asked, measured(device, profile.compute.dtype, profile.compute.threads), peak > gb)
    fewer = "; fewer rows at once will do, or set micro_batch_size and decoding.batch_size lower" if peak > gb else ""
    if any(need.aside and need.least + need.aside > gb for need in needs):
        fewer += "; optimizer state goes to the CPU's memory"
    report(
        f"{profile.name}: about {peak:.0f} GB of {gb:.0f} GB on {_place(device, gb, there)}{fewer}; {len(asked)} runs, "
        f"at least {duration(train)} to train, and {duration(decode)} to answer if answers are as long as they may be"
    )


def _place(device: str, gb: float, there: list[float]) -> str:
    return "the CPU" if device == "cpu" else "the GPU" if gb in there else f"the {len(there)} GPUs together"


def _in_all(profile: Profile, asked: list[Work], speed: Speed, short: bool) -> tuple[float, float]:
    """Seconds of training and of decoding, a shared training once. short: rows may go through one by one."""
    trained: dict[Hashable, float] = {}
    decode = 0.0
    for number, work in enumerate(asked):
        if short and work.training:
            work = replace(work, training=replace(work.training, micro_batch_size=1))
        train, answering = seconds(profile, work, speed)
        of = number if work.shared is None else work.shared
        trained[of] = max(train, trained.get(of, 0.0))
        decode += answering
    return sum(trained.values()), decode


def _refusal(profile: Profile, work: Work, need: Estimate, gb: float, place: str) -> str:
    whole, short = not profile.model.quantize, profile.compute.dtype == "bfloat16"
    full = work.training is not None and work.training.method == "full"
    ways = {
        "compute.dtype: bfloat16, half of it": whole and not short,
        MASTER: full and short and work.training.master_weights and not need.aside,
        "training.method: lora, which trains a small part of the weights": full,
        "model.quantize: 4bit (on a GPU)": whole and not full,
        "a device with more memory, or a smaller model": True,
    }
    return (
        f"profile {profile.name!r} needs at least {need.least:.1f} GB, and {place} has {gb:.1f} GB to give: "
        f"{need.least - gb:.1f} GB are missing ({need.weights:.1f} GB of weights, {need.optimizer - need.aside:.1f} GB "
        "of optimizer state, already with micro_batch_size and decoding.batch_size 1). "
        f"Ways out: {'; '.join(way for way, helps in ways.items() if helps)}."
    )
