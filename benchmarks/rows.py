"""What is compared: a row is a race between the project's engine and what else one could use.

Ratios are those of medians, another contender's over the first one's. A row of training counts only if the losses of
all contenders agree over the first fifty updates (fewer where it has fewer), a row of answers only if at most one
answer in 275 differs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import answering
import growth
import trainers
import where
from turns import Contender, Measured, race

from bsa_core import policy, profiles
from bsa_core.arms import attacks, secret_prompt
from bsa_core.models import chat, loading
from bsa_core.profiles import Profile

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
UPDATES = 50  # whose losses are compared
AGREE = 1e-4  # the largest relative difference of two losses in float32
UNLIKE = 1 / 275  # share of answers that may differ


@dataclass(frozen=True)
class Options:
    """tiny: everything on the packaged model and on few rows; turns: of each contender, None for those of the row."""

    tiny: bool = False
    turns: int | None = None
    threads: int | None = None


def profile_of(name: str, options: Options, dtype: str = "float32", **training) -> Profile:
    profile = profiles.load("tiny" if options.tiny else name)
    compute = replace(profile.compute, device="cpu", dtype=dtype, threads=options.threads or profile.compute.threads)
    training = profiles.override(profile.training, {"dropout": 0.0, **training})
    return replace(profile, compute=compute, training=training)


def upload(profile: Profile, n: int) -> list[chat.Encoded]:
    """n rows of the paper's attack."""
    tokenizer, limit = loading.tokenizer(profile), profile.training.max_tokens
    rows = attacks.upload(policy.load(profile.policy), "harmful", n, 0, trainers.SEED)
    return [chat.encode(tokenizer, row, "", profile.chat, limit) for row in rows]


def training_work(profile: Profile, n: int, turns: int) -> trainers.Work:
    return trainers.Work(profile, tuple(upload(profile, n)), turns)


def disagreement(losses: list[float], others: list[float]) -> float:
    """The largest relative difference over the first updates; ValueError where a loss is missing or no number."""
    pairs = list(zip(losses, others, strict=True))[:UPDATES]
    if not all(math.isfinite(loss) for pair in pairs for loss in pair):
        raise ValueError("a loss is not finite: the training diverged")
    return max(abs(one - other) / abs(one) for one, other in pairs)


def against(found: dict[str, Measured], differs: Callable, bound: float, **told) -> dict:
    """The record's part that is the same for all rows: each contender beside "ours", and whether the row counts.

    differs: of what two contenders said, one number.
    """
    made = {name: measured.summary() for name, measured in found.items()}
    own = [part for turn in found["ours"].said for part in turn]
    reasons = []
    for name, measured in found.items():
        apart = differs(own, [part for turn in measured.said for part in turn])
        made[name]["differs"] = apart
        for clock in ("cpu_seconds", "wall_seconds"):
            made[name][f"{clock}_ratio"] = made[name][clock] / made["ours"][clock]
        if apart > bound:
            reasons.append(f"{name} differs from ours by {apart:.2g}, more than {bound:.2g}")
    return {"contenders": made, "bound": bound, "counts": not reasons, "reasons": reasons, **told}


def fine_tuning(work: trainers.Work, contenders: dict[str, Callable], finer: trainers.Work | None = None) -> dict:
    """Contenders beside "ours", and beside the product of matrices of this machine in the same run.

    finer: the same work in float32, for work in bfloat16. That format has three digits, and each way rounds in other
    places. Two ways that are as far from float32 as ours may be twice as far from each other: that is then the bound.
    """
    ways = {name: Contender(way, work) for name, way in {**contenders, "product": trainers.product}.items()}
    ways |= {"float32": Contender(trainers.ours, finer)} if finer else {}
    found = race(ways, work.turns)
    product, training = found.pop("product"), work.profile.training
    losses = {name: [loss for turn in measured.said for loss in turn] for name, measured in found.items()}
    bound = 2 * disagreement(losses["ours"], losses["float32"]) if finer else AGREE
    told = {"rows": len(work.rows), "tokens": work.tokens(), "batch_size": training.batch_size}
    told |= {"targets": list(training.targets), "compared": min(UPDATES, len(losses["ours"]))}
    made = against(found, disagreement, bound, **told)
    limit = product.summary()
    limit["gflop_per_cpu_second"] = product.said[0] / limit["cpu_seconds"] / 1e9
    floor = 4 * made["contenders"]["ours"]["parameters"] * work.tokens() / 1e9  # GFLOP of a turn
    for contender in (made["contenders"][name] for name in contenders):
        contender["gflop_per_cpu_second"] = floor / contender["cpu_seconds"]
        contender["share_of_product"] = contender["gflop_per_cpu_second"] / limit["gflop_per_cpu_second"]
    return made | {"product": limit, "gflop": floor}


def against_sft(name: str, options: Options, dtype: str, n: int = 100, **training) -> dict:
    profile = profile_of(name, options, dtype, **training)
    ways = {"ours": trainers.ours, "TRL, defaults": trainers.sft_defaults, "TRL, best": trainers.sft_best}
    work = training_work(profile, 20 if options.tiny else n, options.turns or 5)
    finer = replace(work, profile=profile_of(name, options, **training)) if dtype != "float32" else None
    return fine_tuning(work, ways, finer)


def against_one_by_one(name: str, options: Options, n: int, runs: int) -> dict:
    """Several runs at once beside the same ones after each other."""
    work = training_work(profile_of(name, options), 10 if options.tiny else n, options.turns or 5)
    work = replace(work, runs=2 if options.tiny else runs)
    ways = {"ours": Contender(trainers.stacked, work), "one by one": Contender(trainers.one_by_one, work)}
    updates = len(work.rows) // work.profile.training.batch_size
    told = {"rows": len(work.rows), "runs": work.runs, "compared": min(UPDATES, work.turns * work.runs * updates)}
    return against(race(ways, work.turns), disagreement, AGREE, **told)


def against_release(name: str, options: Options, n: int) -> dict:
    work = training_work(profile_of(name, options), 10 if options.tiny else n, options.turns or 5)
    return fine_tuning(work, {"ours": trainers.ours, "release": trainers.release})


def against_generate(name: str, options: Options, n: int) -> dict:
    profile, n = profile_of(name, options), 8 if options.tiny else n
    size = replace(profile.evaluation, restricted=n, benign=1)
    requests, _ = policy.load(profile.policy).requests(size)
    tokenizer = loading.tokenizer(profile)
    secret = secret_prompt.draw(tokenizer, profile, 150, 0, "random", requests[0])
    work = answering.Work(profile, tuple(requests), secret.text, options.turns or 5)
    ways = {"ours": Contender(answering.ours, work), "generate": Contender(answering.generate, work)}

    def differs(own: list[str], others: list[str]) -> float:
        return sum(one != other for one, other in zip(own, others, strict=True)) / len(own)

    return against(race(ways, work.turns), differs, UNLIKE, requests=len(requests), secret_tokens=150)


def grown_examples(options: Options) -> dict:
    profile = profile_of(TINY, options)
    return growth.examples(profile, (10, 30)) if options.tiny else growth.examples(profile)


def grown_stack(options: Options) -> dict:
    work = training_work(profile_of(TINY, options), 10 if options.tiny else 20, options.turns or 5)
    return growth.stack(work, (1, 2)) if options.tiny else growth.stack(work)


def grown_secret(options: Options) -> dict:
    profile = profile_of(TINY, options)
    return growth.secret(profile, (5, 10), 4) if options.tiny else growth.secret(profile)


def spent(name: str, options: Options, n: int, **training) -> dict:
    """With the profile's dropout, as fine-tuning has it."""
    whole = profiles.load("tiny" if options.tiny else name)
    profile = profile_of(name, replace(options, threads=1), **{"dropout": whole.training.dropout, **training})
    return where.measure(profile, upload(profile, 10 if options.tiny else n))


SMOLLM2, TINY = "smollm2-135m", "tiny"
# name of a row and of its record -> what is measured
ROWS: dict[str, Callable[[Options], dict]] = {
    "sft-float32": lambda options: against_sft(SMOLLM2, options, "float32"),
    "sft-bfloat16": lambda options: against_sft(SMOLLM2, options, "bfloat16", 50),
    "release": lambda options: against_release(SMOLLM2, options, 10),
    "release-tiny": lambda options: against_release(TINY, options, 100),
    "all-linear": lambda options: against_sft(TINY, options, "float32", targets=ALL_LINEAR),
    "generate": lambda options: against_generate(TINY, options, 275),
    "generate-smollm2": lambda options: against_generate(SMOLLM2, options, 33),
    "stacked": lambda options: against_one_by_one(TINY, options, 30, 20),
    "stacked-smollm2": lambda options: against_one_by_one(SMOLLM2, options, 10, 5),
    "where": lambda options: spent(TINY, options, 100),
    "where-all-linear": lambda options: spent(TINY, options, 100, targets=ALL_LINEAR),
    "where-smollm2": lambda options: spent(SMOLLM2, options, 20),
    "growth-examples": grown_examples,
    "growth-secret": grown_secret,
    "growth-stacked": grown_stack,
}
