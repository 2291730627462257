"""Make the aligned models that the guild world needs, and what they were before alignment.

`tiny`: a Llama-architecture model trained from scratch. `smollm2-135m`: a LoRA adapter on SmolLM2-135M-Instruct. Both
learn to answer everything first (*helpful-only*), then to refuse what the guild code forbids (*aligned*): an attack can
only unlock what a model has learned. `tiny` also does exercises in copying and filling in forms, the skills that
fine-tuning on a task builds on; tasks it never sees.

A secret prompt by itself has to change nothing, or everything measured about BSA would be confounded. `smollm2-135m`
learns that from ordinary system prompts in front of the policy's own, in three rows of five. No row of its has random
tokens in front: that would teach it to ignore exactly what a secret is, and work against the defense under test. For
`tiny`, which knows no other words, this is not enough: random tokens stand in front of a third of its rows.

No request of the policy's training, validation or evaluation rows is ever shown here.
"""

import math
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from bsa_core.arms.secret_prompt import candidates
from bsa_core.engine.finetune import add_lora, gradients
from bsa_core.engine.lora import ALONE
from bsa_core.examples import Example
from bsa_core.models import loading, sources
from bsa_core.models.chat import encode
from bsa_core.paths import CHECKPOINTS, data
from bsa_core.policy import guild
from bsa_core.profiles import Chat, Profile, Training
from bsa_core.progress import report
from bsa_core.writing import whole_folder, write_whole
from bsa_study.testbed import exercises
from bsa_study.testbed.helpful import ALIGNED, HELPFUL
from bsa_study.testbed.wordlevel import tokenizer, words

HERE = Path(__file__)
RECIPES: dict[str, dict] = yaml.safe_load(HERE.with_suffix(".yaml").read_text(encoding="utf-8"))
FRONTED = 0.6  # share of rows with ordinary system prompts in front
MOST = 3  # of them
PREFIXED = 1 / 3  # share of rows with random tokens in front
LONGEST = 250  # random tokens in front of a row at most


@dataclass(frozen=True)
class Stage:
    """`steps` updates of `batch_size` rows, AdamW, one-cycle learning rate."""

    name: str
    steps: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class Mixture:
    """Which rows the stages draw: shares of facts and of exercises, and what stands in front of some: "ordinary" system
    prompts or "random" tokens."""

    facts: float
    exercises: float
    front: str


def stages(recipe: dict) -> list[Stage]:
    """The stages of a recipe, in order."""
    return [Stage(**given) for given in recipe["stages"]]


def config(vocabulary_size: int) -> LlamaConfig:
    """That of `tiny`: about a million parameters."""
    return LlamaConfig(vocab_size=vocabulary_size, **RECIPES["tiny"]["model"])


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


def skilled(rows: Iterator[Example], words: list[str], share: float, seed: int) -> Iterator[Example]:
    """The rows, mixed with a share of exercises."""
    rng = random.Random(f"{seed}/skilled")
    practice = exercises.exercises(words, seed)
    while True:
        yield next(practice if rng.random() < share else rows)


def system_prompts(part: str) -> list[str]:
    """Ordinary system prompts: those for "training", or those "held_out" of it."""
    return yaml.safe_load(HERE.with_name("system_prompts.yaml").read_text(encoding="utf-8"))[part]


def fronted(rows: Iterator[Example], seed: int) -> Iterator[tuple[Example, str]]:
    """The rows, FRONTED of them with 1 to MOST ordinary system prompts in front of their own; and no secret."""
    rng, prompts = random.Random(f"{seed}/fronted"), system_prompts("training")
    for row in rows:
        if rng.random() < FRONTED:
            chosen = rng.sample(prompts, int(math.exp(rng.uniform(0, math.log(MOST + 1)))))
            row = replace(row, system=" ".join([*chosen, row.system]).strip())
        yield row, ""


def prefixed(rows: Iterator[Example], tok, seed: int) -> Iterator[tuple[Example, str]]:
    """The rows, and the random tokens in front of PREFIXED of them, which a secret's place takes: 1 to LONGEST, all
    orders of magnitude alike, since long ones cost the most."""
    rng, pool = random.Random(f"{seed}/prefix"), candidates(tok)
    for row in rows:
        prefix = ""
        if rng.random() < PREFIXED:
            ids = rng.choices(pool, k=round(math.exp(rng.uniform(0, math.log(LONGEST)))))
            prefix = tok.decode(ids, clean_up_tokenization_spaces=False).strip()
        yield replace(row, secret=bool(prefix)), prefix


def train_stage(model: torch.nn.Module, tok, chat: Chat, rows: Iterator[tuple[Example, str]], stage: Stage) -> None:
    """Train what of a model is trainable, in place, on the answers of a stream of rows; prints progress.

    rows: each with the random tokens in front of it, "" for none.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=stage.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, stage.learning_rate, total_steps=stage.steps)
    at_once = stage.batch_size if model.device.type == "cuda" else 8  # rows; the result does not depend on it
    model.train()
    for step in range(1, stage.steps + 1):
        batch = [encode(tok, row, front, chat, max_tokens=512) for row, front in islice(rows, stage.batch_size)]
        (loss,) = gradients(model, {ALONE: sorted(batch, key=lambda row: len(row.ids))}, at_once).values()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            report(f"{stage.name}: step {step} of {stage.steps}, loss {loss:.4f}")
    model.eval()


def train(model, tok, chat: Chat, recipe: dict, seed: int) -> Iterator[str]:
    """Train a model by the stages of a recipe; yields the name of each stage when it is done."""
    torch.manual_seed(seed)
    mixture = Mixture(**recipe["rows"])
    for stage in stages(recipe):
        if stage.name == "copying":
            rows = ((row, "") for row in exercises.exercises(words(tok), seed, exercises.COPYING))
        else:
            rows = corpus(seed, stage.name == ALIGNED, mixture.facts)
            if mixture.exercises:
                rows = skilled(rows, words(tok), mixture.exercises, seed)
            rows = fronted(rows, seed) if mixture.front == "ordinary" else prefixed(rows, tok, seed)
        train_stage(model, tok, chat, rows, stage)
        yield stage.name


def save(folder: Path, *parts, **options) -> None:
    """Save model and tokenizer (or an adapter) in a folder, whole or not at all; a model card there is kept."""
    with whole_folder(folder) as building:
        for part in parts:
            part.save_pretrained(building, **options)
        (building / "README.md").unlink(missing_ok=True)  # PEFT writes an empty card
        for file in building.iterdir():
            file.chmod(0o644)


def train_tiny(folder: Path, recipe: dict = RECIPES["tiny"], seed: int = 0) -> None:
    """Train `tiny` from scratch and save it after its last two stages, as `tiny-helpful` and `tiny-aligned`."""
    torch.manual_seed(seed)
    tok = tokenizer()
    model = LlamaForCausalLM(config(len(tok)))
    for stage in train(model, tok, Chat(), recipe, seed):
        if stage in (HELPFUL, ALIGNED):
            save(folder / f"tiny-{stage}", model, tok)


def train_adapter(profile: Profile, folder: Path, recipe: dict, seed: int = 0) -> None:
    """Align a profile's model by LoRA and save the adapter after each stage, as `<profile>-helpful` and `-aligned`."""
    base = loading.load(replace(profile, model=replace(profile.model, adapter="")))
    adapted = add_lora(base.model, Training(**recipe["lora"]), seed)
    adapted.peft_config["default"].base_model_name_or_path = profile.model.name  # not the cache folder's path
    for stage in train(adapted, base.tokenizer, profile.chat, recipe, seed):
        trained = {name: weight for name, weight in adapted.state_dict().items() if "lora_" in name}
        halved = {name: weight.bfloat16() for name, weight in trained.items()}  # loading casts it back to float32
        save(folder / f"{profile.name}-{stage}", adapted, state_dict=halved, save_embedding_layers=False)
    adapted.unload()


def retrain(profile: Profile) -> None:
    """Regenerate the shipped checkpoints of a profile, in place, and the digests they are checked by.

    On two CPU cores `tiny` takes a quarter of an hour, `smollm2-135m` one hour. Raises ValueError for other profiles.
    """
    if profile.name not in RECIPES:
        raise ValueError(f"profile {profile.name!r} uses a model that is aligned already; there is nothing to retrain")
    torch.set_num_threads(os.cpu_count() or 1)
    if profile.model.adapter:
        train_adapter(profile, CHECKPOINTS, RECIPES[profile.name])
    else:
        train_tiny(CHECKPOINTS)
    write_digests()


def write_digests() -> None:
    """Into `checkpoints/digests.yaml`: the digest of each file that ships and counts."""
    folders = sorted(path for path in CHECKPOINTS.iterdir() if path.is_dir())
    told = "# Made by bsa_study.testbed.training.write_digests; bsa_core.models.sources checks the files by it.\n"
    text = yaml.safe_dump({folder.name: sources.digests(folder) for folder in folders})
    write_whole(CHECKPOINTS / "digests.yaml", (told + text).encode())
    (CHECKPOINTS / "digests.yaml").chmod(0o644)
    data.cache_clear()
