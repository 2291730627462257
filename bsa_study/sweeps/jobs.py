"""The jobs of a sweep: its points of one seed that share a training, each under a name."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bsa_core import keys, paths
from bsa_core.experiment.chain import grouped
from bsa_core.experiment.runs import Run
from bsa_core.profiles import Profile
from bsa_study.sweeps import grid
from bsa_study.sweeps.grid import Point

HERE = ("weights", "device", "rules", "code")  # fields of a run that say where and with what it is computed


@dataclass(frozen=True, eq=False)
class Job:
    """Points whose runs share a training. name: of its notebook, without an ending."""

    name: str
    points: tuple[Point, ...]

    @property
    def profile(self) -> Profile:
        return self.points[0].profile

    @cached_property
    def runs(self) -> list[Run]:
        """Once each: several points may be the same run."""
        return list(dict.fromkeys(point.run for point in self.points))


def read(sweep: str, only: str = "") -> list[Job]:
    """The jobs of a sweep's file, or the one of a name; ValueError where the file is not right or has none of it."""
    path = paths.given(sweep)
    jobs = of_points(grid.points(path))
    chosen = [job for job in jobs if only in ("", job.name)]
    if not chosen:
        raise ValueError(f"{path}: no job is called {only!r}; `tools/sweep.py {sweep} --dry-run` lists them")
    return chosen


def of_points(points: list[Point]) -> list[Job]:
    """The points as jobs, in their order."""
    by_run: dict[Run, list[Point]] = {}
    for point in points:
        by_run.setdefault(point.run, []).append(point)
    groups = grouped(list(by_run))
    return [job([point for run in group for point in by_run[run]]) for group in groups]


def job(points: list[Point]) -> Job:
    """Its name is the same wherever it is computed, and another one for other runs."""
    first, runs = points[0], list(dict.fromkeys(point.run for point in points))
    said = [{name: value for name, value in keys.content(run).items() if name not in HERE} for run in runs]
    common = [part for part in first.name.split(", ") if all(part in point.name.split(", ") for point in points)]
    told = grid.file_name("-".join([first.like, *common]))
    return Job(f"{told}-seed{first.run.seed}-{keys.digest_of(said, 8)}", tuple(points))


def folder(sweep: str) -> Path:
    """Where a sweep's notebooks and logs lie, below the folder in which it is started."""
    return Path("_build", "sweeps", Path(sweep).stem)
