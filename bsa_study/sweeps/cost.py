"""How long a job will take: by what records of similar runs say, else by arithmetic, else nobody knows."""

from collections.abc import Sequence
from functools import cache
from statistics import median

from bsa_core.experiment.runs import Run
from bsa_core.models import sources
from bsa_core.profiles import Profile

STARTING = 10.0  # seconds until a job's first run begins
ROW, ANSWER = 200, 50  # tokens of a training row and of its answer, where none was read yet


def seconds(runs: Sequence[Run], profile: Profile, known: Sequence[dict]) -> tuple[float, str] | None:
    """Seconds of runs that share a training, and "about" or "roughly"; None where nothing is known.

    known: records of the scale. Those of the same kind of device count; without any, `models.estimate` says it of this
    machine, for weights that are here or a model whose shape is known.
    """
    known = [record for record in known if record["run"].get("device", "cpu") == runs[0].device]
    parts = [trained(run, known) for run in runs], [asked(run, profile, known) for run in runs]
    if None not in parts[0] + parts[1]:
        return STARTING + max(parts[0]) + sum(parts[1]), "about"
    least = at_least(runs, profile)
    return None if least is None else (STARTING + least, "roughly")


def trained(run: Run, known: Sequence[dict]) -> float | None:
    """In proportion to rows and epochs, from records with the same modules, or at least the same method."""
    if run.training is None:
        return 0.0
    of = [(record, record["run"]["training"]) for record in known if record["run"]["training"]]
    of = [(record, training) for record, training in of if training.get("method", "lora") == run.training.method]
    same = [(record, training) for record, training in of if tuple(training["targets"]) == run.training.targets]
    rates = [r["cost"]["train_seconds"] / (r["data"]["n_train"] * training["epochs"]) for r, training in same or of]
    return median(rates) * rows(run) * run.training.epochs if rates else None


def rows(run: Run) -> int:
    """About as many as it trains on: balanced BSA adds as many benign rows as refusals."""
    added = run.n_defense * (2 if run.defense.startswith("balanced") else 1)
    return run.n_attack + run.n_benign + added + (run.task.n if run.task else 0)


def asked(run: Run, profile: Profile, known: Sequence[dict]) -> float | None:
    """In proportion to requests and conditions, from records with the same task."""
    task = run.task and run.task.name
    of = [record for record in known if (record["run"].get("task") or {}).get("name") == task]
    rates = [record["cost"]["evaluate_seconds"] / requests(record) for record in of]
    number = profile.evaluation.restricted + profile.evaluation.benign
    return median(rates) * number * (2 if run.secret else 1) if rates else None


def requests(record: dict) -> int:
    """Answers that a record rests on, those to its task aside."""
    return sum(of[metric]["n"] for of in record["metrics"].values() for metric in ("asr", "over_refusal"))


@cache
def measured(*of):
    from bsa_core.models import memory

    return memory.measured(*of)


def at_least(runs: Sequence[Run], profile: Profile) -> float | None:
    """By arithmetic at the speed that this machine has now, if answers are as long as they may be."""
    from bsa_core.models import estimate, memory

    if not shaped(profile):
        return None
    compute = profile.compute
    speed = measured(memory.device_of(compute), compute.dtype, compute.threads)
    try:
        times = [estimate.seconds(profile, work, speed) for work in works(runs, profile)]
    except (OSError, ValueError):
        return None
    return max(train for train, _ in times) + sum(decode for _, decode in times)


def shaped(profile: Profile) -> bool:
    """Whether the shape of the model is known here; else its configuration would have to be downloaded."""
    from bsa_core.models import estimate

    source = sources.of(profile.model)
    return source.hub_id in estimate.KNOWN or (source.installed and source.pinned)


def works(runs: Sequence[Run], profile: Profile) -> list:
    """What `models.estimate` goes by, with rows of a usual length."""
    from bsa_core.models.estimate import Work

    number, made = profile.evaluation.restricted + profile.evaluation.benign, []
    for run in runs:
        answers = [(number, None)] + ([(profile.task(run.task.name).test, run.task.max_new_tokens)] if run.task else [])
        answers = tuple(((2 if run.secret else 1) * n, longest) for n, longest in answers)
        made.append(Work(run.training, ((ROW, ANSWER),) * rows(run) if run.training else (), answers))
    return made
