"""The sections of the chapter of ablations: figure, answers and cells of each, as deployed.

Where a section is about numbers, its figure has curves over them; else a bar of outcomes for each variant and arm.
Where nothing was measured, one line stands in the figure's place that says why, and the rest is left out.
"""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure
from pandas.api.types import is_numeric_dtype
from pandas.io.formats.style import Styler

from bsa_core import profiles, records
from bsa_core.experiment import lookup
from bsa_core.profiles import Profile
from bsa_study import contrasts, gates
from bsa_study.grids import ablations
from bsa_study.report import figures, outcomes, tables

CHAPTER = "06_ablations"  # whose questions the sections answer
BOTH = "secret_at_test"  # the section that shows every arm with and without the secret
ROWS = {BOTH: ["defense", "condition"], "crossed": ["defense"]}  # of the cells of others: variant, then arm


@dataclass(frozen=True)
class Sections:
    """What was measured of a profile. measured: section -> `ablations.measured`; answers: of `contrasts.answered`."""

    profile: Profile
    seeds: list[int]
    measured: dict[str, pd.DataFrame]
    answers: pd.DataFrame

    @classmethod
    def of(cls, profile: Profile, seeds: list[int], compute: bool) -> "Sections":
        """All of a profile; compute: see `ablations.measured`."""
        measured = {name: ablations.measured(name, profile, seeds, compute) for name in ablations.SECTIONS}
        answers = contrasts.answered(contrasts.load(CHAPTER), measured)
        return cls(profile, seeds, measured, gates.judged(answers, CHAPTER, profile, seeds))

    @cached_property
    def cells(self) -> dict[str, pd.DataFrame]:
        """Section -> `ablations.summary` of what it shows."""
        summaries = {name: ablations.summary(table) for name, table in self.measured.items()}
        return {name: rows if name == BOTH else rows[rows["deployed"]] for name, rows in summaries.items()}

    @cached_property
    def found(self) -> list[dict]:
        """The records that the tables may be of."""
        return records.load(self.profile.name)

    def missing(self, name: str) -> str:
        """Why a section has no records: what policy or task lack for every run, or the command that computes them."""
        runs = [run for _, run in ablations.grid(name, self.profile, self.seeds)]
        if not runs:
            return "not run for this scale: `ablations` of its profile leaves this section out"
        enough, lacking = lookup.parted(runs, self.profile)
        if enough:
            return f"not computed yet: `make book PROFILE={self.profile.name} FULL=1` computes the long grids"
        return f"not possible: {[*lacking.values()][-1]}"

    def figure(self, name: str) -> Figure | pd.DataFrame:
        """The section's figure, or the line that stands in its place."""
        cells, table, axis = self.cells[name], self.measured[name], ablations.SECTIONS[name].axis
        if cells.empty:
            return tables.nothing(self.missing(name))
        if name == "crossed":
            return figures.crossed(table[table["deployed"]])
        if is_numeric_dtype(cells["variant"]):
            return figures.curves(cells, "variant", axis)
        done = outcomes.of(self.found, table, "variant", "defense")
        if name == BOTH:
            return outcomes.figure(done, "condition")
        return outcomes.figure(done[done["deployed"]], "variant", axis)

    def differences(self, name: str) -> Styler | None:
        """The differences that the section asks for."""
        rows = self.answers[self.answers["source"] == name]
        return tables.differences(rows) if len(rows) else None

    def table(self, name: str) -> pd.DataFrame | None:
        """The section's cells in numbers."""
        cells = self.cells[name]
        rows = ROWS.get(name, ["variant", "defense"])
        return tables.pretty(cells, rows, metrics=ablations.METRICS) if len(cells) else None


def elsewhere(beside: dict[str, list[int]], profile: Profile) -> list[Sections]:
    """Those of other scales, name -> seeds, from their records alone."""
    return [Sections.of(profiles.load(name), seeds, False) for name, seeds in beside.items() if name != profile.name]
