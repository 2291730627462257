"""Write the records of a profile's grids, and their answers, into the files that ship with the project.

    python tools/ship.py PROFILE --main SEEDS --rest SEEDS      e.g. python tools/ship.py tiny --main 0..19 --rest 0..9

SEEDS: numbers, or ranges such as 0..4. The runs are those of `bsa_study.campaign`. Their records go in, those computed
in this folder and those that shipped before, made with today's weights; what belongs to no grid any more goes out.
Answers go in where the policy is harmless and they were kept. The controls of a profile have folders of their own.
"""

import argparse
import re
from itertools import chain

from bsa_core import experiment, profiles, records, shipping
from bsa_study import campaign


def seeds(text: str) -> list[int]:
    """'0..4' -> [0, 1, 2, 3, 4]; '7' -> [7]"""
    if not (form := re.fullmatch(r"(\d+)(?:\.\.(\d+))?", text)) or int(form[2] or form[1]) < int(form[1]):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a number or a range such as 0..4")
    return list(range(int(form[1]), int(form[2] or form[1]) + 1))


def main() -> None:
    parser = argparse.ArgumentParser(prog="ship.py", description=__doc__.splitlines()[0])
    parser.add_argument("profile")
    for name, of in (("--main", "the arms of the main table"), ("--rest", "all other grids")):
        parser.add_argument(name, type=seeds, nargs="*", default=[], metavar="SEEDS", help=f"seeds of {of}")
    given = parser.parse_args()
    for of, runs in campaign.runs(profiles.load(given.profile), [*chain(*given.main)], [*chain(*given.rest)]):
        if found := [record for record in experiment.found(runs, of) if record]:
            write(of.name, found, len(runs))


def write(name: str, found: list[dict], asked: int) -> None:
    path, beside = records.ship(name, found), shipping.shipped_answers_path(name)
    print(f"{path}: {len(found)} of {asked} runs, {path.stat().st_size / 1e6:.2f} MB")
    if kept := sum(map(records.shown, found)):
        print(f"{beside}: answers of {kept}, {beside.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
