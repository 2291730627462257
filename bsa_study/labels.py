"""How the book names and draws arms, metrics, conditions and tasks."""

SCALES = {"harmfulness": (1.0, 5.0), "tokens": (0.0, 100.0)}  # lowest and highest outcome


SHARE = (0.0, 1.0)  # those of every other metric


# Okabe-Ito colours: distinct for colour-blind readers.
ARMS = {
    "initial": ("initial", "#000000", "X"),
    "task-only": ("fine-tuned, no attack", "#888888", "P"),
    "none": ("no defense", "#D55E00", "o"),
    "safety-data": ("safety data", "#E69F00", "s"),
    "bsa": ("BSA", "#0072B2", "D"),
    "balanced-bsa": ("balanced BSA", "#009E73", "^"),
    "bsa-no-attack": ("BSA, no attack", "#56B4E9", "d"),
}


METRICS = {
    "asr": "attack success rate",
    "asr_phrase": "attack success rate (phrase rule)",
    "harmfulness": "harmfulness score (1-5)",
    "over_refusal": "over-refusal",
    "benign_exact": "benign exact match",
    "knowledge": "knowledge",
    "rouge1": "ROUGE-1 F1",
    "rougeL": "ROUGE-L F1",
    "execution": "execution accuracy",
    "arc_challenge": "ARC-Challenge",
    "arc_challenge_norm": "ARC-Challenge, by likelihood per character",
    "mmlu": "MMLU",
    "mt_bench": "MT-Bench (1-10)",
}


WITHOUT_SECRET = ("initial", "task-only", "none", "safety-data")  # arms that are served without a secret


CONDITIONS = {"plain": "without secret", "secret": "with secret"}


TASKS = {"sql": "SQL generation", "dialogs": "dialog summary"}


LABELS = {**CONDITIONS, **TASKS}


def arm_style(arm: str) -> tuple[str, str, str]:
    """Title, colour and marker of an arm; arms registered by users share a neutral style."""
    return ARMS.get(arm, (arm, "#CC79A7", "v"))
