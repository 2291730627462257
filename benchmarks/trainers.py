"""Ways to fine-tune the same model with LoRA on the same rows in the same order, and what this machine could do.

ours       the project's own engine
stacked    the same for several runs at once, each with its own adapter, seed and order of rows
sft        TRL's SFTTrainer with PEFT, with its defaults (padded, gradient checkpointing), or with what is fastest
release    the recipe of the paper's release: every row padded to 512 tokens, logits at every position, a plain loop
product    nothing but the model's products of matrices, forward and backward: the speed that the others could have

All give loss at answer positions only, and have AdamW with the profile's rate. LoRA's dropout is off: each draws its
own random numbers for it, and their losses could not be compared.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from bsa_core.engine import finetune, lora
from bsa_core.models import loading
from bsa_core.models.chat import IGNORED, Encoded
from bsa_core.profiles import Profile

SEED = 0
UPLOAD = 100  # rows of the paper's attack
PADDED = 512  # tokens of every row in the release
SECONDS = 2.0  # of CPU time that a turn of `product` takes about


@dataclass(frozen=True)
class Work:
    """Rows to fine-tune the profile's model on. A turn is one epoch, and the rows are whole batches.

    runs: for `stacked` and `one_by_one`, of which each turn trains that many from the start for an epoch.
    """

    profile: Profile
    rows: tuple[Encoded, ...]
    turns: int
    runs: int = 1

    def __post_init__(self):
        training = self.profile.training
        if training.dropout or len(self.rows) % training.batch_size:
            found = f"{len(self.rows)} rows in batches of {training.batch_size}, dropout {training.dropout}"
            raise ValueError(f"a race takes whole batches and no dropout, not {found}")

    def small(self) -> "Work":
        """One update of one run."""
        return replace(self, rows=self.rows[: self.profile.training.batch_size], turns=1, runs=1)

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, from 1."""
        training = self.profile.training
        return training.learning_rate * training.decay_per_epoch ** (epoch - 1)

    def tokens(self) -> int:
        return sum(len(row.ids) for row in self.rows)


def ours(work: Work, turns) -> None:
    model, training = loading.load(work.profile).model, replace(work.profile.training, epochs=work.turns)
    adapted, seen = finetune.trainable(model, training, SEED), 0
    turns.begin(parameters=sum(weight.numel() for weight in model.parameters() if not weight.requires_grad))
    try:
        for progress in finetune.finetune(adapted, list(work.rows), training, SEED):
            turns(list(progress.losses[seen:]))
            seen = len(progress.losses)
    finally:
        finetune.discard(adapted)


def stacked(work: Work, turns) -> None:
    """All runs of a turn at once; says the losses run by run."""
    model, training = loading.load(work.profile).model, replace(work.profile.training, epochs=1)
    turns.begin(runs=work.runs)
    for _ in range(work.turns):
        names = lora.names(work.runs)
        jobs = [finetune.Job(name, list(work.rows), training, seed) for seed, name in enumerate(names)]
        adapted = finetune.trainable(model, training, *(job.seed for job in jobs))
        try:
            said = {job.name: run.losses for done in finetune.together(adapted, jobs) for job, run in done}
        finally:
            finetune.discard(adapted)
        turns([loss for name in names for loss in said[name]])


def one_by_one(work: Work, turns) -> None:
    """The same runs, one after the other."""
    model, training = loading.load(work.profile).model, replace(work.profile.training, epochs=1)
    turns.begin(runs=work.runs)
    for _ in range(work.turns):
        losses: list[float] = []
        for seed in range(work.runs):
            adapted = finetune.trainable(model, training, seed)
            try:
                for progress in finetune.finetune(adapted, list(work.rows), training, seed):
                    losses += progress.losses
            finally:
                finetune.discard(adapted)
        turns(losses)


@contextmanager
def peft(work: Work) -> Iterator[tuple[PeftModel, object]]:
    """The model with an adapter of PEFT's own, and the tokenizer."""
    loaded, training = loading.load(work.profile), work.profile.training
    torch.manual_seed(SEED)
    config = LoraConfig(
        r=training.rank,
        lora_alpha=training.alpha,
        lora_dropout=0.0,
        target_modules=list(training.targets),
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(loaded.model, config)
    try:
        yield adapted, loaded.tokenizer
    finally:
        adapted.unload().eval()


def sft(work: Work, turns, **settings) -> None:
    """settings: of SFTConfig, beside those that decide what is trained."""
    import datasets
    import trl
    from transformers import TrainerCallback

    training = work.profile.training
    updates = len(work.rows) // training.batch_size
    ordered = [row for epoch in range(work.turns) for row in finetune.shuffled(list(work.rows), SEED, epoch + 1)]
    losses: list[float] = []

    class Trainer(trl.SFTTrainer):
        def compute_loss(self, *given, **named):
            loss = super().compute_loss(*given, **named)
            losses.append(loss.item())
            return loss

        def create_scheduler(self, num_training_steps, optimizer=None):
            by_update = [work.rate(step // updates + 1) / training.learning_rate for step in range(num_training_steps)]
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
                optimizer or self.optimizer, lambda step: by_update[min(step, num_training_steps - 1)]
            )
            return self.lr_scheduler

    class Epochs(TrainerCallback):
        def on_train_begin(self, *given, **named):
            turns.begin(trl=version("trl"), settings=settings)

        def on_step_end(self, args, state, control, **named):
            if state.global_step % updates == 0:
                turns(losses[:])
                losses.clear()

    with peft(work) as (adapted, tokenizer), tempfile.TemporaryDirectory() as folder:
        options = trl.SFTConfig(
            folder,
            num_train_epochs=1,
            per_device_train_batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            weight_decay=training.weight_decay,
            max_grad_norm=0.0,
            train_sampling_strategy="sequential",
            bf16=work.profile.compute.dtype == "bfloat16",
            use_cpu=work.profile.compute.device == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=SEED,
            **settings,
        )
        data = datasets.Dataset.from_list([{"input_ids": row.ids, "labels": row.labels} for row in ordered])
        given = {"args": options, "train_dataset": data, "processing_class": tokenizer, "callbacks": [Epochs()]}
        Trainer(adapted, **given).train()


def sft_defaults(work: Work, turns) -> None:
    sft(work, turns)


def sft_best(work: Work, turns) -> None:
    """Without padding, which takes out the limit on a row's length, and without computing layers a second time."""
    sft(work, turns, padding_free=True, max_length=None, gradient_checkpointing=False)


def release(work: Work, turns) -> None:
    training = work.profile.training

    def padded(batch: list[Encoded]) -> dict[str, torch.Tensor]:
        parts = {
            "input_ids": [row.ids + [0] * (PADDED - len(row.ids)) for row in batch],
            "attention_mask": [[1] * len(row.ids) + [0] * (PADDED - len(row.ids)) for row in batch],
            "labels": [row.labels + [IGNORED] * (PADDED - len(row.ids)) for row in batch],
        }
        return {name: torch.tensor(values) for name, values in parts.items()}

    with peft(work) as (model, _):
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=training.weight_decay)
        model.train()
        turns.begin(padded_to=PADDED)
        for epoch in range(1, work.turns + 1):
            losses, order = [], finetune.shuffled(list(work.rows), SEED, epoch)
            optimizer.param_groups[0]["lr"] = work.rate(epoch)
            for start in range(0, len(order), training.batch_size):
                optimizer.zero_grad(set_to_none=True)
                loss = model(**padded(order[start : start + training.batch_size]), use_cache=False).loss
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            turns(losses)


@torch.inference_mode()
def product(work: Work, turns) -> None:
    """A turn says how many floating-point operations it did."""
    model = loading.load(work.profile).model
    tokens = work.tokens() * work.profile.training.batch_size // len(work.rows)  # of a batch
    output = model.get_output_embeddings()
    weights = [part.weight for part in model.modules() if isinstance(part, torch.nn.Linear) and part is not output]
    given = {size: torch.randn(tokens, size, dtype=model.dtype) for weight in weights for size in weight.shape}

    def one_pass() -> None:
        for weight in weights:
            torch.mm(given[weight.shape[1]], weight.t())
            torch.mm(given[weight.shape[0]], weight)

    one_pass()
    started = time.process_time()
    one_pass()
    passes = max(1, round(SECONDS / (time.process_time() - started)))
    turns.begin(tokens=tokens, passes=passes)
    for _ in range(work.turns):
        for _ in range(passes):
            one_pass()
        turns(passes * 4 * tokens * sum(weight.numel() for weight in weights))
