"""Write the records of the long grids (mixed setting, ablations) into the file that ships with the project.

    python tools/ship.py PROFILE SEED...        e.g. python tools/ship.py tiny 0 1 2 3 4

`make book FULL=1` computes them. The grids' records go in, those computed in this folder and those that shipped before,
made with today's weights; what belongs to no grid any more goes out.
"""

import sys

from bsa_core import experiment, profiles, records
from bsa_study.grids import ablations, mixed


def main() -> None:
    profile, seeds = profiles.load(sys.argv[1]), [int(seed) for seed in sys.argv[2:]]
    runs = [run for name in ablations.SECTIONS for _, run in ablations.grid(name, profile, seeds)]
    for task in profile.tasks:
        runs += mixed.runs(profile, task, seeds) + mixed.mismatched(profile, task, seeds)
    runs = list(dict.fromkeys(runs))
    found = [record for record in experiment.found(runs, profile) if record]
    path = records.ship(profile.name, found)
    print(f"{path}: {len(found)} of {len(runs)} runs, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
