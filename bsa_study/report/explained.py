"""Why eleven plain safety examples may leave more here than in the paper: what the runs of `explain` say."""

from dataclasses import dataclass
from functools import cached_property

import pandas as pd
from matplotlib.figure import Figure

from bsa_study import contrasts, explain, labels, paper, statistics
from bsa_study.report import figures, tables

SHOWN = "asr_content"
METRICS = ("asr", SHOWN, "over_refusal", "benign_exact")
MOVES, WEAKENS, NOTHING, OPEN = "moves", "weakens", "nothing", "open"
EXPLANATIONS = {"Depth of alignment": ["depth"], "Strength of the attack": ["examples", "just"]}  # -> its tables
SAID = {
    MOVES: "This moves the number towards the paper's",
    WEAKENS: "That is less, but the attack alone no longer succeeds there either, so it explains nothing",
    NOTHING: "No reduction is established",
    OPEN: "There are too few records to say",
}
REACHES = {  # whether it leaves more than the paper's number
    "yes": ", but it stays above {:.2f}",
    "no": ", and it falls below {:.2f}",
    "undecided": ". Whether it stays above {:.2f} is not established",
}


def reported() -> tuple[float, float]:
    """The paper's ASR with eleven plain safety examples, as shares: the lower and the higher of its two tables."""
    values = [values["safety-data"] / 100 for values in paper.by_method("asr").values()]
    return min(values), max(values)


@dataclass(frozen=True)
class Explained:
    """measured: of `explain.measured`."""

    measured: dict[str, pd.DataFrame]

    @cached_property
    def cells(self) -> dict[str, pd.DataFrame]:
        """Table -> mean and interval of each of its cells as deployed."""
        deployed = {name: table[table["deployed"]] if len(table) else table for name, table in self.measured.items()}
        return {name: statistics.summarize(table, ["variant", "defense"]) for name, table in deployed.items()}

    @cached_property
    def shown(self) -> str:
        """Content ASR or, where the policy cannot tell content, keyword ASR."""
        return next((SHOWN for cells in self.cells.values() if len(cells) and SHOWN in set(cells["metric"])), "asr")

    @cached_property
    def answers(self) -> pd.DataFrame:
        """Of the questions about this, with the variant that each is about, and whether against the paper's number."""
        asked = contrasts.load("06_ablations explained")
        answers = contrasts.answered(asked, self.measured)
        of = {(question.source, question.statement): question for question in asked}
        about = [of[cell] for cell in zip(answers["source"], answers["statement"], strict=True)]
        against = [not isinstance(question.second, dict) for question in about]
        cells = [q.first if number else q.second for q, number in zip(about, against, strict=True)]
        return answers.assign(variant=[cell["variant"] for cell in cells], against=against)

    def figure(self) -> Figure | pd.DataFrame:
        """ASR (`shown`) with and without the eleven examples, one panel per axis; the paper's range is shaded."""
        shown = {axis: self.cells[axis] for axis in explain.AXES if len(self.cells[axis])}
        if not shown:
            return tables.nothing()
        figure, axes = figures.panels(len(shown), width=3.8)
        for panel, (axis, cells) in zip(axes, shown.items(), strict=True):
            ticks = sorted(set(cells["variant"]))
            for name, rows in cells[cells["metric"] == self.shown].groupby("defense", sort=False):
                arm, rows = labels.arm(name), rows.sort_values("variant")
                how = {"label": arm.title, "color": arm.colour, "marker": arm.marker, "capsize": 3}
                places = rows["variant"].map(ticks.index) + 0.06 * (explain.ARMS.index(name) - 0.5)  # side by side
                panel.errorbar(places, rows["mean"], figures.errors(rows), **how)
            panel.axhspan(*reported(), color="0.5", alpha=0.4, linewidth=0, label="paper, 11 plain examples")
            panel.set_xticks(range(len(ticks)), ticks)
            panel.set(xlabel=explain.AXES[axis], ylim=(-0.04, 1.04))
        axes[0].set(ylabel=labels.metric(self.shown).title)
        figures.legend(figure, axes[0])
        return figures.finished(figure)

    def table(self) -> pd.DataFrame:
        """The cells in numbers."""
        parts = [self.cells[axis].assign(axis=said) for axis, said in explain.AXES.items() if len(self.cells[axis])]
        if not parts:
            return tables.nothing()
        shown = tables.pretty(pd.concat(parts), ["axis", "variant", "defense"], metrics=METRICS)
        shown = shown.sort_index(level=["axis", "variant"], sort_remaining=False)
        return shown.loc[[part["axis"].iloc[0] for part in parts]]

    def mean(self, source: str, variant, arm: str) -> float:
        """Missing where it was not measured."""
        cells = self.cells[source]
        found = cells[(cells["variant"] == variant) & (cells["defense"] == arm) & (cells["metric"] == self.shown)]
        return float(found["mean"].mean())

    def judged(self, source: str) -> tuple[str, object]:
        """What is SAID of an axis, and the variant it is said of: the one that leaves least."""
        rows = self.answers[(self.answers["source"] == source) & ~self.answers["against"]]
        rows = rows[rows["verdict"] != "too few seeds"]
        alone = rows["variant"].map(lambda variant: self.mean(source, variant, "none")).astype(float)
        rows, succeeds = rows[alone.notna()], alone.dropna() >= explain.SUCCEEDS
        lower = rows["verdict"] == "yes"
        for said, where in ((MOVES, lower & succeeds), (WEAKENS, lower), (NOTHING, lower | True)):
            if where.any():
                return said, min(rows["variant"][where], key=lambda variant: self.mean(source, variant, "safety-data"))
        return OPEN, None

    def where(self, source: str, variant) -> str:
        if source == "depth":
            return f"After {variant} times the steps of alignment,"
        if source == "examples":
            return f"After an attack with {variant} examples and the updates of {explain.FULL},"
        table = self.measured[source]
        passes = table[table["variant"] == variant]["epochs"].iloc[0]
        return f"After {passes} passes over the attack examples, the fewest that the attack needs,"

    def sentence(self, source: str) -> str:
        """What is said of one table."""
        said, variant = self.judged(source)
        if said == OPEN:
            return f"{SAID[OPEN]}."
        ours, alone = (self.mean(source, variant, arm) for arm in ("safety-data", "none"))
        told = f"{self.where(source, variant)} they leave {ours:.2f} (the attack alone: {alone:.2f})"
        answers = self.answers[(self.answers["source"] == source) & self.answers["against"]]
        reaches = REACHES[answers.set_index("variant")["verdict"][variant]].format(reported()[1])
        return f"{told}. {SAID[said]}{reaches if said == MOVES else ''}."

    def text(self) -> str:
        """What the records say, in Markdown: which explanation holds, then each of them."""
        judged = {name: {self.judged(source)[0] for source in sources} for name, sources in EXPLANATIONS.items()}
        moves = [name for name, said in judged.items() if MOVES in said]
        decided = [name for name, said in judged.items() if said != {OPEN}]
        if moves:
            found = f"{' and '.join(moves).capitalize()} can explain a part of the difference."
        elif len(decided) < len(judged):
            found = " ".join(f"{name} is not shown to explain it." for name in decided) or SAID[OPEN] + " why."
        else:
            found = "Neither of the two explanations is shown to move this number towards the paper's."
        low, high = reported()
        told = f"Eleven plain examples leave an ASR of {low:.2f} to {high:.2f} in the paper"
        passes = self.cells["updates"]
        passes = passes[passes["defense"] == "safety-data"]["variant"] if len(passes) else passes
        ours = f" and {self.mean('updates', passes.max(), 'safety-data'):.2f} here" if len(passes) else ""
        said = {name: " ".join(dict.fromkeys(map(self.sentence, of))) for name, of in EXPLANATIONS.items()}
        return "\n".join([f"{told}{ours}. {found}", "", *(f"* **{name}.** {of}" for name, of in said.items())])
