"""What a job asks a cluster for: memory, minutes and GPUs, by the estimate of its profile and with room to spare.

Too little costs another try, which asks for more (`sweeps/slurm/config.yaml`); too much only a longer wait.
"""

import math
from collections.abc import Sequence

from bsa_core.profiles import Profile
from bsa_study.sweeps import cost
from bsa_study.sweeps.jobs import Job

BESIDE = 3.0  # GB of a process beside its model: Python, PyTorch, CUDA's libraries
SPARE = 1.5  # memory asked for, by what is estimated
CARD = 72.0  # GB of a GPU of 80 GB that a model may take
SLACK = 4  # time asked for, by what is estimated
LEAST = 15  # minutes of any job: to start, to read weights from a slow file system
UNKNOWN = 240  # minutes where nothing is known
NODE = 1e14, 1e12  # operations and bytes a second of a GPU that is not here: a quarter of an H100


def of(job: Job, known: Sequence[dict]) -> dict[str, int]:
    """mem_mb, runtime in minutes, and gpu, the number of GPUs. known: records of the scale.

    A profile with `compute.device: auto` gets a GPU where a run needs a GB or more. ValueError where the profile names
    a model that cannot be had.
    """
    profile = job.profile
    if not cost.shaped(profile):
        gpu = int(profile.compute.device != "cpu")
        return {"mem_mb": megabytes(BESIDE), "runtime": UNKNOWN, "gpu": gpu}
    gpus, gb = memory(job, profile)
    return {"mem_mb": megabytes(BESIDE + SPARE * gb), "runtime": minutes(job, profile, known, gpus), "gpu": gpus}


def memory(job: Job, profile: Profile) -> tuple[int, float]:
    """How many GPUs, and GB of the CPU's memory: of the whole run without a GPU, of the weights on their way to one."""
    from bsa_core.models.estimate import QUIET, estimate

    asked = cost.works(job.runs, profile)
    here = max(estimate(profile, work, "cpu").total for work in asked)
    if profile.compute.device == "cpu" or (profile.compute.device == "auto" and here < QUIET):
        return 0, here
    there = [estimate(profile, work, "cuda") for work in asked]
    return math.ceil(max(need.least for need in there) / CARD), max(need.weights + need.aside for need in there)


def minutes(job: Job, profile: Profile, known: Sequence[dict], gpus: int) -> int:
    """By records of this scale where it needs no GPU, else by arithmetic on one."""
    from bsa_core.models.estimate import Speed, seconds

    if gpus:
        times = [seconds(profile, work, Speed(*NODE)) for work in cost.works(job.runs, profile)]
        took = max(train for train, _ in times) + sum(decode for _, decode in times)
    else:
        took = (cost.seconds(job.runs, profile, known) or (0.0, ""))[0]
    return LEAST + math.ceil(SLACK * took / 60)


def megabytes(gb: float) -> int:
    """Of 2^20 bytes, as SLURM counts them."""
    return math.ceil(gb * 1e9 / 2**20)
