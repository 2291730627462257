"""Every run whose record ships with the project, once each: those that the chapters show, for so many seeds."""

import yaml

from bsa_core import paths
from bsa_core.experiment.runs import Run
from bsa_core.profiles import Profile
from bsa_study.grids import ablations, curve, headline, mixed, region


def runs(profile: Profile, main: list[int], rest: list[int]) -> list[Run]:
    """main: seeds of the main table's arms at the pressure of the paper; rest: of the other pressures and grids."""
    chapters = yaml.safe_load((paths.ROOT / "notebooks" / "parameters.yaml").read_text(encoding="utf-8"))
    sizes = chapters["01_fjattack"]["sizes"]
    grids = [
        headline.headline(profile, main, [profile.paper]),
        headline.headline(profile, rest, headline.pressures(profile)),
        region.defended(profile, rest),
        *(mixed.runs(profile, task, rest) + mixed.mismatched(profile, task, rest) for task in profile.tasks),
        *([run for _, run in ablations.grid(name, profile, rest)] for name in ablations.SECTIONS),
        *(curve.runs(profile, schedule, sizes, rest) for schedule in curve.SCHEDULES),
    ]
    return list(dict.fromkeys(run for grid in grids for run in grid))
