"""The first figure of the book: what the attack gets through and what it costs, at every scale, beside the paper."""

from matplotlib.figure import Figure

from bsa_study import labels, paper
from bsa_study.grids import headline
from bsa_study.report import figures
from bsa_study.report.numbers import Number, Scale

PAPER = {"full fine-tuning": "|", "LoRA": "x"}  # of Llama-2-7B-Chat: how it was fine-tuned -> mark


def figure(scales: list[Scale]) -> Figure:
    """Two panels, one row per arm as deployed: content ASR and over-refusal, a filled or hollow point per scale.

    The paper's keyword ASR stands in the first panel as marks. Where a policy cannot tell content, keyword ASR does.
    """
    arms = ["initial", *headline.arms(scales[0].profile)]
    drawn, axes = figures.panels(2, width=4.3, height=0.42 * len(arms) + 1.0, shared="row")
    shown = [("asr_content", "asr"), ("over_refusal",)]
    for axis, metrics in zip(axes, shown, strict=True):
        for place, arm in enumerate(arms):
            for index, scale in enumerate(scales):
                found = next(filter(None, (scale.number(f"{arm} {metric}") for metric in metrics)), None)
                if found:
                    _point(axis, found, place + 0.26 * (index - (len(scales) - 1) / 2), labels.arm(arm), bool(index))
        axis.set(xlabel=labels.metric(metrics[0]).title, xlim=(-0.04, 1.04), ylim=(len(arms) - 0.5, -0.5))
        axis.set_yticks(range(len(arms)), [labels.arm(arm).title for arm in arms])
    for index, scale in enumerate(scales):  # points of no arm, for the legend
        how = {"color": "0.3", "marker": "o", "linestyle": "none", "markerfacecolor": "white" if index else "0.3"}
        axes[0].plot([], [], label=scale.profile.name, **how)
    for how, values in paper.by_method("asr").items():
        at = [arm for arm in arms if arm in values]
        mark = {"color": "0.1", "marker": PAPER[how], "linestyle": "none", "markersize": 9, "markeredgewidth": 1.6}
        axes[0].plot(values[at] / 100, [arms.index(arm) for arm in at], label=f"paper, {how}, keyword ASR", **mark)
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figures.finished(drawn)


def _point(axis, number: Number, place: float, arm: labels.Arm, hollow: bool) -> None:
    ends = [[max(number.mean - number.low, 0)], [max(number.high - number.mean, 0)]]  # rounded, they can be below 0
    face = "white" if hollow else arm.colour
    axis.errorbar([number.mean], [place], xerr=ends, markerfacecolor=face, color=arm.colour, marker="o", capsize=3)
