"""How the book names, draws and prints what it shows: arms, metrics, conditions, tasks, intervals."""

from dataclasses import dataclass

from bsa_core.arms import defenses


@dataclass(frozen=True)
class Arm:
    """Title, colour and marker. secret: the arm is served with the secret prompt."""

    title: str
    colour: str
    marker: str
    secret: bool = False


@dataclass(frozen=True)
class Metric:
    """Title, and the lowest and the highest outcome of one request."""

    title: str
    scale: tuple[float, float] = (0.0, 1.0)


def _defense(name: str, colour: str = "#CC79A7", marker: str = "v") -> Arm:
    defense = defenses.get(name)
    return Arm(defense.title, colour, marker, defense.serves_secret)


# Okabe-Ito colours: distinct for colour-blind readers. Figures and tables show arms in this order.
ARMS = {
    "initial": Arm("initial", "#000000", "X"),
    "task-only": Arm("fine-tuned, no attack", "#888888", "P"),
    "none": _defense("none", "#D55E00", "o"),
    "safety-data": _defense("safety-data", "#E69F00", "s"),
    "bsa": _defense("bsa", "#0072B2", "D"),
    "balanced-bsa": _defense("balanced-bsa", "#009E73", "^"),
    "bsa-no-attack": Arm("BSA, no attack", "#56B4E9", "d", secret=True),
}
METRICS = {
    "asr": Metric("attack success rate"),
    "asr_phrase": Metric("attack success rate (phrase rule)"),
    "harmfulness": Metric("harmfulness score (1-5)", (1.0, 5.0)),
    "over_refusal": Metric("over-refusal"),
    "benign_exact": Metric("benign exact match"),
    "knowledge": Metric("knowledge"),
    "rouge1": Metric("ROUGE-1 F1"),
    "rougeL": Metric("ROUGE-L F1"),
    "execution": Metric("execution accuracy"),
    "arc_challenge": Metric("ARC-Challenge"),
    "arc_challenge_norm": Metric("ARC-Challenge, by likelihood per character"),
    "mmlu": Metric("MMLU"),
    "mt_bench": Metric("MT-Bench (1-10)", (1.0, 10.0)),
    "tokens": Metric("training tokens, relative", (0.0, 100.0)),
}
CONDITIONS = {"plain": "without secret", "secret": "with secret"}
TASKS = {"sql": "SQL generation", "dialogs": "dialog summary"}
SERVED = {"trained": "of training", "other": "another"}  # the system prompt of test items


def arm(name: str) -> Arm:
    """An arm by its name; defenses of one's own share a neutral style."""
    if name in ARMS:
        return ARMS[name]
    return _defense(name) if name in defenses.DEFENSES else Arm(name, "#CC79A7", "v")


def metric(name: str) -> Metric:
    """A metric by its name; one that is not listed, such as a benchmark of one's own, is a share under its own name."""
    return METRICS.get(name, Metric(name))


def ordered(names) -> list[str]:
    """Names of arms in the order of ARMS; others behind them, in order of appearance."""
    names = list(dict.fromkeys(names))
    return sorted(names, key=lambda name: [*ARMS, *names].index(name))


def title(value) -> str:
    """The title of a condition or a task; anything else as it is."""
    return {**CONDITIONS, **TASKS}.get(value, str(value))


def interval(mean: float, low: float, high: float, form: str = ".3f") -> str:
    """Mean and interval, as in "0.051 [0.029, 0.083]"; a narrow column can break between them only.

    form: of each number: "+.3f" for differences, ".1%" for percentages.
    """
    return f"{mean:{form}} [{low:{form}},\u00a0{high:{form}}]"
