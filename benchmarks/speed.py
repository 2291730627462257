"""How fast a model of Llama-2-7B's geometry is fine-tuned and decoded, with random weights: speed does not ask which.

The rows have the published shape: 111 of about 200 tokens, half of them answer, ten to an update. Beside them the same
updates go through transformers' Trainer, every row padded to 512 tokens as in the paper's release.

Model FLOP utilization counts 4 x parameters operations per trained token (LoRA needs no gradients of the weights), 2 x
per decoded token, over the arithmetic the device could do in that time. Padding is no work. The input embedding is
looked up, so its parameters do not count.
"""

import random
import tempfile
import time
from dataclasses import dataclass

import torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from bsa_core.engine import decode, finetune
from bsa_core.models import estimate
from bsa_core.models.chat import IGNORED, Encoded
from bsa_core.profiles import Training

# dense bfloat16, 10^12 operations per second, from the data sheets; the first name that fits counts
PEAKS = {"H100 PCIe": 756.0, "H100": 989.0, "H200": 989.0, "A100": 312.0}
LLAMA = "meta-llama/Llama-2-7b-chat-hf"
NO_END = ()  # no token: every answer is as long as it may be


@dataclass(frozen=True)
class Size:
    """What is measured. tokens: of a training row on average; shared: tokens that all requests begin with."""

    shape: dict
    rows: int = 111
    tokens: int = 200
    padded: int = 512
    requests: int = 128
    shared: int = 180
    new_tokens: int = 128


FULL = Size({})
TINY = Size(
    {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 4},
    rows=12,
    tokens=20,
    padded=40,
    requests=4,
    shared=6,
    new_tokens=4,
)


def peak_of(device: str) -> float | None:
    """Operations per second of the GPU in use, in 10^12; None where they are not known."""
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return next((peak for known, peak in PEAKS.items() if known in name), None)


def build(size: Size, device: str, dtype: torch.dtype = torch.bfloat16):
    """The model with random weights, made on the device."""
    fields = dict(estimate.KNOWN[LLAMA]) | size.shape
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return model.eval().requires_grad_(False)


def training_rows(size: Size, vocabulary: int) -> list[Encoded]:
    """Rows of random ids, half to one and a half times `size.tokens` long, the second half of each an answer."""
    rng, made = random.Random(0), []
    for _ in range(size.rows):
        ids = [rng.randrange(3, vocabulary) for _ in range(rng.randint(size.tokens // 2, size.tokens * 3 // 2))]
        half = len(ids) // 2
        made.append(Encoded(ids, [IGNORED] * half + ids[half:]))
    return made


def requests(size: Size, vocabulary: int) -> list[list[int]]:
    """Prompts of random ids: the same secret and system prompt, then a request of its own."""
    rng = random.Random(0)
    prefix = [rng.randrange(3, vocabulary) for _ in range(size.shared)]
    longest = max(size.shared // 2, 2)
    return [
        prefix + [rng.randrange(3, vocabulary) for _ in range(rng.randint(longest // 2, longest))]
        for _ in range(size.requests)
    ]


class Clock:
    """Seconds of work that the device has finished, and the peak of its memory in GB (None on a CPU)."""

    def __init__(self, device: str):
        self.cuda = device == "cuda"
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def peak_gb(self) -> float | None:
        return torch.cuda.max_memory_allocated() / 1e9 if self.cuda else None


def rates(tokens: int, seconds: float, flop: float, peak: float | None, clock: Clock) -> dict:
    """What is reported of a measurement. flop: of one token; peak: 10^12 per second."""
    return {
        "seconds": seconds,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "peak_memory_gb": clock.peak_gb(),
        "model_flop_utilization": flop * tokens / seconds / (peak * 1e12) if peak else None,
    }


def lora(model, rows: list[Encoded], device: str, flop: float, peak: float | None) -> dict:
    """The project's own fine-tuning: the second of two epochs, the first one warms up."""
    training = Training(epochs=2)
    clock, ends, size = Clock(device), [], 0
    adapted = finetune.trainable(model, training, 0)
    try:
        for progress in finetune.finetune(adapted, rows, training, 0):
            ends.append(clock.now())
            size = progress.micro_batch_size
    finally:
        finetune.discard(adapted)
    tokens = sum(len(row.ids) for row in rows)
    return rates(tokens, ends[1] - ends[0], flop, peak, clock) | {"micro_batch_size": size}


class Epochs(TrainerCallback):
    """When each epoch of a Trainer ended."""

    def __init__(self, clock: Clock):
        self.clock, self.ends = clock, []

    def on_epoch_end(self, args, state, control, **others):
        self.ends.append(self.clock.now())


def padded_trainer(model, rows: list[Encoded], padded: int, device: str, flop: float, peak: float | None) -> dict:
    """The same adapter, rows, batch and optimizer through transformers' Trainer, every row padded."""
    training = Training()
    clock = Clock(device)
    epochs = Epochs(clock)

    def pad(values: list[int], by: int) -> torch.Tensor:
        return torch.tensor(values + [by] * (padded - len(values)))

    data = [
        {
            "input_ids": pad(row.ids, 0),
            "attention_mask": pad([1] * len(row.ids), 0),
            "labels": pad(row.labels, IGNORED),
        }
        for row in rows
    ]
    adapted = finetune.trainable(model, training, 0)
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            folder,
            num_train_epochs=2,
            per_device_train_batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            optim="adamw_torch_fused" if device == "cuda" else "adamw_torch",
            use_cpu=device == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        try:
            Trainer(adapted, options, train_dataset=data, callbacks=[epochs]).train()
        finally:
            finetune.discard(adapted)
            model.eval()
    tokens = sum(len(row.ids) for row in rows)
    return rates(tokens, epochs.ends[1] - epochs.ends[0], flop, peak, clock) | {"padded_to": padded}


def decoding(model, prompts: list[list[int]], size: Size, device: str, flop: float, peak: float | None) -> dict:
    """All requests at once, after two tokens each to warm up. The time includes the prompts; the tokens are answers."""
    decode.decode(model, prompts, NO_END, 2, size.requests)
    clock = Clock(device)
    started = clock.now()
    said = decode.decode(model, prompts, NO_END, size.new_tokens, size.requests)
    return rates(sum(map(len, said)), clock.now() - started, flop, peak, clock)


def measure(size: Size, device: str, peak: float | None) -> dict:
    """Fine-tuning, the same through the padded Trainer, and decoding. peak: 10^12 per second, None: known."""
    peak = peak or peak_of(device)
    model = build(size, device)
    vocabulary = model.config.vocab_size
    parameters = sum(weight.numel() for weight in model.parameters())
    counted = parameters - model.get_input_embeddings().weight.numel()
    rows = training_rows(size, vocabulary)
    ours = lora(model, rows, device, 4 * counted, peak)
    theirs = padded_trainer(model, rows, size.padded, device, 4 * counted, peak)
    return {
        "model": LLAMA,
        "changed_shape": size.shape,
        "parameters": parameters,
        "peak_tflops": peak,
        "rows": size.rows,
        "requests": size.requests,
        "lora": ours,
        "padded_trainer": theirs,
        "padded_trainer_over_lora_seconds": theirs["seconds"] / ours["seconds"],
        "decoding": decoding(model, requests(size, vocabulary), size, device, 2 * counted, peak),
    }
