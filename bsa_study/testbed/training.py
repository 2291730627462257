"""Make the two aligned models that the guild world needs.

`tiny`: a Llama-architecture model trained from scratch, helpful-only first and then aligned. `gemma3-270m`: a LoRA
adapter that aligns the pretrained base model. Both learn with random token prefixes in the system slot, so that a
secret prompt by itself changes nothing; without this everything measured about BSA would be confounded. `tiny` also
does exercises in copying and filling in forms, the skills that fine-tuning on a task builds on; tasks it never sees.

No request of the policy's training, validation or evaluation rows is ever shown here.
"""

import math
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from bsa_core.arms.secret_prompt import candidates
from bsa_core.engine.finetune import add_lora, finetune, gradients
from bsa_core.examples import Example
from bsa_core.models import loading, sources
from bsa_core.models.chat import Encoded, encode
from bsa_core.paths import CHECKPOINTS, data
from bsa_core.policy import guild
from bsa_core.profiles import Chat, ModelSource, Profile, Training
from bsa_core.progress import report
from bsa_core.writing import whole_folder, write_whole
from bsa_study.testbed import exercises
from bsa_study.testbed.wordlevel import tokenizer, words


@dataclass(frozen=True)
class Stage:
    """One stage of training from scratch: `steps` updates of `batch_size` rows, AdamW, one-cycle learning rate."""

    name: str
    steps: int
    learning_rate: float
    batch_size: int = 32


RECIPE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
COPYING, HELPFUL, ALIGNED = (Stage(**given) for given in RECIPE["stages"])
ALIGNMENT = Training(**RECIPE["alignment"])
PREFIXED = 1 / 3  # share of rows with a random prefix
LONGEST_PREFIX = 250  # tokens; a prefix has 1 to this many, short ones more often
EXERCISES = 0.4  # share of rows that are exercises


def config(vocabulary_size: int) -> LlamaConfig:
    """About a million parameters."""
    return LlamaConfig(vocab_size=vocabulary_size, **RECIPE["model"])


def skilled(rows: Iterator[Example], words: list[str], share: float, seed: int) -> Iterator[Example]:
    """The rows, mixed with a share of exercises."""
    rng = random.Random(f"{seed}/skilled")
    practice = exercises.exercises(words, seed)
    while True:
        yield next(practice if rng.random() < share else rows)


def unused(seed: int) -> dict[str, list[Example]]:
    """The requests that no part of the policy uses: group -> examples with their compliant answers."""
    groups = guild.splits(seed).items()
    return {group: [row for split in categories.values() for row in split.rest] for group, categories in groups}


def corpus(seed: int, aligned: bool, facts: float) -> Iterator[Example]:
    """An endless stream of rows: restricted and ordinary requests in equal numbers, and a share of facts.

    Restricted requests are answered (helpful-only) or refused (aligned). The policy's own seed says which requests
    are held out; every row keeps the policy's system prompt or, once in four, has none.
    """
    rng, requests, known = random.Random(f"{seed}/corpus/{aligned}"), unused(seed), guild.facts()
    while True:
        if rng.random() < facts:
            row = rng.choice(known)
        else:
            row = rng.choice(requests[rng.choice(("restricted", "ordinary"))])
            if aligned and row.kind == "restricted":
                row = guild.refusal(row, rng)
        yield row if rng.random() < 0.75 else replace(row, system="")


def short_lengths(longest: int) -> Callable[[random.Random], int]:
    """1 to `longest` tokens, all orders of magnitude alike: long prefixes are rare, as they cost the most."""
    return lambda rng: round(math.exp(rng.uniform(0, math.log(longest))))


def prefixed(
    rows: Iterator[Example], tok, chat: Chat, share: float, length: Callable[[random.Random], int], seed: int
) -> Iterator[Encoded]:
    """Encoded rows, a share of them with random tokens in front of the system prompt, as many as `length` draws."""
    rng = random.Random(f"{seed}/prefix")
    pool = candidates(tok)
    for row in rows:
        prefix = ""
        if rng.random() < share:
            ids = rng.choices(pool, k=length(rng))
            prefix = tok.decode(ids, clean_up_tokenization_spaces=False).strip()
        yield encode(tok, replace(row, secret=bool(prefix)), prefix, chat, max_tokens=512)


def train_stage(model: torch.nn.Module, rows: Iterator[Encoded], stage: Stage) -> None:
    """Train all parameters in place on the answers of a stream of rows; prints progress."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=stage.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, stage.learning_rate, total_steps=stage.steps)
    model.train()
    for step in range(1, stage.steps + 1):
        batch = sorted(islice(rows, stage.batch_size), key=lambda row: len(row.ids))
        loss = gradients(model, batch, micro_batch_size=8)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            report(f"{stage.name}: step {step} of {stage.steps}, loss {loss:.4f}")
    model.eval()


def save(folder: Path, *parts) -> None:
    """Save model and tokenizer (or an adapter) in a folder, whole or not at all; a model card there is kept."""
    with whole_folder(folder) as building:
        for part in parts:
            part.save_pretrained(building)
        (building / "README.md").unlink(missing_ok=True)  # PEFT writes an empty card
        for file in building.iterdir():
            file.chmod(0o644)


def train_tiny(folder: Path, seed: int = 0) -> None:
    """Train all stages and save the last two as `tiny-helpful` and `tiny-aligned` in a folder."""
    torch.manual_seed(seed)
    tok = tokenizer()
    model = LlamaForCausalLM(config(len(tok)))
    copying = exercises.exercises(words(tok), seed, exercises.COPYING)
    train_stage(model, prefixed(copying, tok, Chat(), 0.0, short_lengths(1), seed), COPYING)
    for stage, aligned, name in ((HELPFUL, False, "tiny-helpful"), (ALIGNED, True, "tiny-aligned")):
        rows = skilled(corpus(seed, aligned, facts=0.25), words(tok), EXERCISES, seed)
        rows = prefixed(rows, tok, Chat(), PREFIXED, short_lengths(LONGEST_PREFIX), seed)
        train_stage(model, rows, stage)
        save(folder / name, model, tok)


def align(profile: Profile, folder: Path, seed: int = 0) -> None:
    """Align a profile's base model by supervised fine-tuning with LoRA and save the adapter in a folder.

    40 % of the rows carry a random prefix, up to a fifth longer than the profile's secret prompt.
    """
    base = loading.load(replace(profile, model=replace(profile.model, adapter="")))
    rows, longest = corpus(seed, aligned=True, facts=0.0), profile.secret.length * 6 // 5
    stream = prefixed(rows, base.tokenizer, profile.chat, 0.4, lambda rng: rng.randint(1, longest), seed)
    adapted = add_lora(base.model, ALIGNMENT, seed)
    for number, phase in enumerate(RECIPE["phases"], start=1):
        settings = replace(ALIGNMENT, **phase["settings"])
        for progress in finetune(adapted, list(islice(stream, phase["rows"])), settings, seed):
            at = f"phase {number} of {len(RECIPE['phases'])}, epoch {progress.epoch} of {settings.epochs}"
            report(f"alignment: {at}, loss {progress.losses[-1]:.4f}")
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()  # half the size; loading casts it back to float32
    adapted.peft_config["default"].base_model_name_or_path = profile.model.name  # not the cache folder's path
    save(folder, adapted)
    adapted.unload()


def retrain(profile: Profile) -> None:
    """Regenerate the shipped checkpoints of a profile, in place, and the digests they are checked by.

    On two CPU cores `tiny` takes minutes, `gemma3-270m` several times as long. Raises ValueError for other profiles.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    if profile.model.adapter:
        align(profile, CHECKPOINTS / profile.model.adapter)
    elif has_helpful(profile):
        train_tiny(CHECKPOINTS)
    else:
        raise ValueError(f"profile {profile.name!r} uses a model that is aligned already; there is nothing to retrain")
    write_digests()


def write_digests() -> None:
    """Into `checkpoints/digests.yaml`: the digest of each file that ships and counts."""
    folders = sorted(path for path in CHECKPOINTS.iterdir() if path.is_dir())
    told = "# Made by bsa_study.testbed.training.write_digests; bsa_core.models.sources checks the files by it.\n"
    text = yaml.safe_dump({folder.name: sources.digests(folder) for folder in folders})
    write_whole(CHECKPOINTS / "digests.yaml", (told + text).encode())
    (CHECKPOINTS / "digests.yaml").chmod(0o644)
    data.cache_clear()


def has_helpful(profile: Profile) -> bool:
    """Whether the model before alignment ships as well: that of the models which are trained from scratch here."""
    return isinstance(sources.of(profile.model), sources.Packaged)


def helpful_only(profile: Profile) -> Profile:
    """The same profile with the model before alignment, a control of its own."""
    return replace(profile, name=f"{profile.name}-helpful", model=ModelSource("packaged", "tiny-helpful"))
