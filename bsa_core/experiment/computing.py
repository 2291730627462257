"""The runs of one training, or of several in a stack: trained, and each evaluated when its last epoch is reached."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from bsa_core.arms import secret_prompt
from bsa_core.engine import evaluate, finetune, lora
from bsa_core.experiment import assembly, limits, provenance
from bsa_core.experiment.runs import Material, Rows, Run
from bsa_core.keys import content
from bsa_core.models import loading
from bsa_core.profiles import Profile


def alike(run: Run, other: Run) -> bool:
    """Whether two runs can be trained in one stack: with the same layers adapted, in batches of the same size."""

    def layers(of: Run):
        return (of.task, replace(of.training, epochs=1, learning_rate=1.0, decay_per_epoch=1.0, weight_decay=0.0))

    return None not in (run.training, other.training) and layers(run) == layers(other) and run.training.method == "lora"


def room(run: Run, profile: Profile, sizes: tuple) -> int:
    """How many runs like this one are trained at once. sizes: (tokens, answer tokens) of each training row."""
    if run.training is None or run.training.method != "lora":
        return 1
    tokens = run.training.micro_batch_size * sum(tokens for tokens, _ in sizes) / len(sizes)
    return lora.at_once(loading.load(profile, run.training).model, tokens)


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

    def finished(some: list[Run], loaded, secret, training: list, progress) -> Iterator[tuple[Run, dict, list]]:
        for run in some:
            if run not in known:
                trained_on = replace(rows[run], training=training)
                yield (run, *_evaluated(run, trained_on, loaded, profile, of, secret, progress))
            keep(run, loaded, secret)

    if first.training is None:
        yield from finished(groups[0], loaded, secret_of(first), [], None)
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
        for job, progress in finetune.together(adapted, jobs):
            group, secret, training = trained[job.name]
            reached = [run for run in group if run.training.epochs == progress.epoch]
            yield from finished(reached, replace(loaded, model=adapted), secret, training, progress)
    finally:
        finetune.discard(adapted)


def _evaluated(run: Run, rows: Rows, loaded, profile: Profile, of: Material, secret, progress) -> tuple[dict, list]:
    """The record of a run, without its key, and the answers it rests on."""
    started = time.perf_counter()
    said, known = {}, {}
    for condition, text in secret_prompt.conditions(secret).items():
        said[condition] = evaluate.answers(loaded, profile, rows.restricted + rows.benign, text)
        known[condition] = evaluate.knowledge(loaded, profile, of.policy, text)
        if run.task:
            said[condition] += evaluate.answers(loaded, profile, rows.task, text, run.task.max_new_tokens)
    # memory was too short for the rows that the profile sends through the model at once
    fewer = progress and progress.micro_batch_size < run.training.micro_batch_size
    outcome, answers = assembly.assemble(run, rows, of, said, secret, known)
    record = {
        "run": content(run),
        **outcome,
        "training": {
            "loss": list(progress.losses) if progress else [],
            "tokens": progress.tokens if progress else 0,
            "answer_tokens": progress.answer_tokens if progress else 0,
        },
        "cost": {
            "train_seconds": progress.seconds if progress else 0.0,
            "evaluate_seconds": time.perf_counter() - started,
            **({"micro_batch_size": progress.micro_batch_size} if fewer else {}),
        },
        "environment": provenance.provenance(str(loaded.model.device), profile.compute.dtype),
    }
    return record, answers
