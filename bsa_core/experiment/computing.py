"""The runs of one training, or of several in a stack: trained, and each evaluated when its last epoch is reached."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain

from bsa_core.arms import secret_prompt
from bsa_core.arms.secret_prompt import Secret
from bsa_core.engine import decode, evaluate, finetune, lora
from bsa_core.experiment import assembly, limits, provenance
from bsa_core.experiment.runs import Material, Rows, Run
from bsa_core.keys import content
from bsa_core.models import estimate, loading, memory
from bsa_core.profiles import Profile


def alike(run: Run, other: Run) -> bool:
    """Whether two runs can be trained in one stack: with the same layers adapted, in batches of the same size."""

    def layers(of: Run):
        return (of.task, replace(of.training, epochs=1, learning_rate=1.0, decay_per_epoch=1.0, weight_decay=0.0))

    return None not in (run.training, other.training) and layers(run) == layers(other) and run.training.method == "lora"


def room(run: Run, profile: Profile, sizes: tuple) -> int:
    """How many runs like this one are trained at once: as many as do not keep the device busy, and as fit in memory.

    sizes: (tokens, answer tokens) of each training row.
    """
    if run.training is None or run.training.method != "lora":
        return 1
    tokens = run.training.micro_batch_size * sum(tokens for tokens, _ in sizes) / len(sizes)
    busy = lora.at_once(loading.load(profile, run.training).model, tokens)
    device = memory.device_of(profile.compute)
    need = estimate.estimate(profile, estimate.Work(run.training, sizes), device)
    fit = (memory.available(device)[0] - need.weights) / (need.optimizer + need.training)  # the weights are there once
    return max(1, min(busy, int(fit)))


def computed(groups: list[list[Run]], rows: dict, profile: Profile, of: Material, results: dict, keep: Callable):
    """Yields each run with its record, without its key, and the answers it rests on.

    groups: runs that share a training each. results: records of runs by now; those in it are trained only for what is
    kept of their model. keep(run, loaded, secret) gets the model of each run, once what was yielded is dealt with.

    Where a stack fails, its runs are computed one after the other: one that diverges takes no other with it.
    """
    loading.load(profile, groups[0][0].training)  # what that takes is no run's
    try:
        yield from _compute(groups, rows, profile, of, set(results), keep)
    except ValueError:
        if len(groups) == 1:
            raise
        for group in groups:
            if left := [run for run in group if run not in results]:
                yield from _compute([left], rows, profile, of, set(results), keep)


def _compute(
    groups: list[list[Run]], rows: dict[Run, Rows], profile: Profile, of: Material, known: set[Run], keep: Callable
) -> Iterator[tuple[Run, dict, list]]:
    """Train once for each group, all groups in one stack; known: runs that need no record."""
    first = groups[0][0]
    loaded = loading.load(profile, first.training)

    def secret_of(run: Run):
        if not (choice := run.secret):
            return None
        request = rows[run].restricted[0]
        return secret_prompt.draw(loaded.tokenizer, profile, choice.length, choice.seed, choice.kind, request)

    def finished(reached: list[_Reached], loaded) -> Iterator[tuple[Run, dict, list]]:
        at_once = len(reached) if decode.mixes(loaded.model) else 1
        while some := reached[:at_once]:
            reached = reached[at_once:]
            yield from _evaluated([one for one in some if one.run not in known], loaded, profile, of)
            for one in some:
                lora.only(loaded.model, one.adapter)
                keep(one.run, loaded, one.secret)

    if first.training is None:
        none = [_Reached(run, replace(rows[run], training=[]), secret_of(run)) for run in groups[0]]
        yield from finished(none, loaded)
        return
    trained, jobs = {}, []
    for name, group in zip(lora.names(len(groups)), groups, strict=True):
        run = max(group, key=lambda run: run.training.epochs)
        secret, training = secret_of(run), evaluate.answered(loaded, profile, rows[run].training)
        encoded = [
            limits.encoded(loaded.tokenizer, profile, row, secret, run.training.max_tokens, row.named(number))
            for number, row in enumerate(training, start=1)
        ]
        jobs.append(finetune.Job(name, encoded, run.training, run.seed))
        trained[name] = group, secret, training
    adapted = finetune.trainable(loaded.model, first.training, *(job.seed for job in jobs))
    try:
        for done in finetune.together(adapted, jobs):
            reached = []
            for job, progress in done:
                group, secret, training = trained[job.name]
                for run in (run for run in group if run.training.epochs == progress.epoch):
                    reached.append(_Reached(run, replace(rows[run], training=training), secret, job.name, progress))
            yield from finished(reached, replace(loaded, model=adapted))
    finally:
        finetune.discard(adapted)


@dataclass(frozen=True)
class _Reached:
    """A run whose model is ready to be asked. rows: with what it was trained on."""

    run: Run
    rows: Rows
    secret: Secret | None
    adapter: str = ""
    progress: finetune.Progress | None = None


def _evaluated(some: list[_Reached], loaded, profile: Profile, of: Material) -> Iterator[tuple[Run, dict, list]]:
    """Each run with its record, without its key, and the answers it rests on. Several runs are asked together."""
    started = time.perf_counter()
    said: dict[Run, dict] = {one.run: {} for one in some}
    known: dict[Run, dict] = {one.run: {} for one in some}
    texts = {one.run: secret_prompt.conditions(one.secret) for one in some}
    for condition in dict.fromkeys(chain(*texts.values())):
        served = [(one, texts[one.run][condition]) for one in some if condition in texts[one.run]]
        lots = [(one.adapter, one.rows.restricted + one.rows.benign, text) for one, text in served]
        answers = evaluate.together(loaded, profile, lots)
        if task := served[0][0].run.task:
            lots = [(one.adapter, one.rows.task, text) for one, text in served]
            more = evaluate.together(loaded, profile, lots, task.max_new_tokens)
            answers = [of_requests + of_items for of_requests, of_items in zip(answers, more, strict=True)]
        for (one, text), given in zip(served, answers, strict=True):
            said[one.run][condition] = given
            lora.only(loaded.model, one.adapter)
            known[one.run][condition] = evaluate.knowledge(loaded, profile, of.policy, text)
    made = [assembly.assemble(one.run, one.rows, of, said[one.run], one.secret, known[one.run]) for one in some]
    seconds = (time.perf_counter() - started) / max(len(some), 1)
    for one, (outcome, answers) in zip(some, made, strict=True):
        yield one.run, _record(one, outcome, seconds, str(loaded.model.device), profile), answers


def _record(one: _Reached, outcome: dict, seconds: float, device: str, profile: Profile) -> dict:
    run, progress = one.run, one.progress
    # memory was too short for the rows that the profile sends through the model at once
    fewer = progress and progress.micro_batch_size < run.training.micro_batch_size
    return {
        "run": content(run),
        **outcome,
        "training": {
            "loss": list(progress.losses) if progress else [],
            "tokens": progress.tokens if progress else 0,
            "answer_tokens": progress.answer_tokens if progress else 0,
        },
        "cost": {
            "train_seconds": progress.seconds if progress else 0.0,
            "evaluate_seconds": seconds,
            **({"micro_batch_size": progress.micro_batch_size} if fewer else {}),
        },
        "environment": provenance.provenance(device, profile.compute.dtype),
    }
