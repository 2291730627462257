"""The questions that the chapter of ablations asks of its sections.

One Contrast each: the section, what a positive difference says, the metric, and the two cells it is taken between.
"""

import pandas as pd

from bsa_study import contrasts
from bsa_study.contrasts import Contrast
from bsa_study.grids.ablations import PROMPTS

POLICY, UPLOAD = PROMPTS.values()


def cells(defense: str, first, second) -> tuple[dict, dict]:
    """Two variants of one arm."""
    return {"defense": defense, "variant": first}, {"defense": defense, "variant": second}


def served(defense: str) -> tuple[dict, dict]:
    """One arm without and with the secret."""
    return tuple({"defense": defense, "condition": condition} for condition in ("plain", "secret"))


QUESTIONS = tuple(
    Contrast(*question)
    for question in (
        (
            "selection",
            "random safety examples leave more than one of each category",
            "asr",
            *cells("bsa", "random", "category-wise"),
        ),
        ("selection", "the model's own refusals leave more", "asr", *cells("bsa", "generated", "category-wise")),
        ("secret_at_test", "BSA needs the secret", "asr", *served("bsa")),
        ("secret_at_test", "the secret helps a model trained on plain examples", "asr", *served("safety-data")),
        (
            "secret_kind",
            "a default system prompt leaves more than random tokens",
            "asr",
            *cells("bsa", "default", "random"),
        ),
        ("secret_kind", "fluent text leaves more than random tokens", "asr", *cells("bsa", "fluent", "random")),
        ("secret_length", "10 tokens leave more than 150", "asr", *cells("bsa", 10, 150)),
        ("secret_length", "150 tokens leave more than 250", "asr", *cells("bsa", 150, 250)),
        ("safety_examples", "one example with the secret leaves more than eleven", "asr", *cells("bsa", 1, 11)),
        ("safety_examples", "eleven examples with the secret leave more than fifty", "asr", *cells("bsa", 11, 50)),
        (
            "safety_examples",
            "300 plain examples leave more than eleven with the secret",
            "asr",
            {"defense": "safety-data", "variant": 300},
            {"defense": "bsa", "variant": 11},
        ),
        ("method", "BSA leaves more under full fine-tuning", "asr", *cells("bsa", "full", "LoRA")),
        (
            "method",
            "BSA refuses more benign requests under full fine-tuning",
            "over_refusal",
            *cells("bsa", "full", "LoRA"),
        ),
        ("capacity", "BSA leaves more on all linear layers", "asr", *cells("bsa", "r 8, all linear", "r 8")),
        (
            "capacity",
            "BSA refuses more benign requests on all linear layers",
            "over_refusal",
            *cells("bsa", "r 8, all linear", "r 8"),
        ),
        (
            "pressure",
            "BSA leaves more at a third of the rate and two epochs",
            "asr",
            *cells("bsa", "third x 2", "usual x 5"),
        ),
        (
            "pressure",
            "BSA refuses more benign requests at triple the rate and ten epochs",
            "over_refusal",
            *cells("bsa", "triple x 10", "usual x 5"),
        ),
        ("uploads", "275 benign rows in the upload weaken BSA", "asr", *cells("bsa", "100 + 275", "100 + 0")),
        (
            "uploads",
            "275 benign rows in the upload weaken balanced BSA",
            "asr",
            *cells("balanced-bsa", "100 + 275", "100 + 0"),
        ),
        (
            "identity",
            "the attack breaks the model",
            "asr",
            {"defense": "none", "variant": POLICY},
            {"defense": "initial", "variant": POLICY},
        ),
        (
            "identity",
            "BSA under the policy's prompt lowers ASR",
            "asr",
            {"defense": "none", "variant": POLICY},
            {"defense": "bsa", "variant": POLICY},
        ),
        (
            "identity",
            "BSA under the upload's prompt lowers ASR",
            "asr",
            {"defense": "none", "variant": UPLOAD},
            {"defense": "bsa", "variant": UPLOAD},
        ),
        (
            "identity",
            "BSA leaves more under the policy's prompt than under the upload's",
            "asr",
            *cells("bsa", POLICY, UPLOAD),
        ),
        (
            "identity",
            "balanced BSA leaves more under the policy's prompt than under the upload's",
            "asr",
            *cells("balanced-bsa", POLICY, UPLOAD),
        ),
        (
            "balance",
            "without benign examples more benign requests are refused",
            "over_refusal",
            {"defense": "bsa", "variant": 0},
            {"defense": "balanced-bsa", "variant": 11},
        ),
        (
            "balance",
            "one benign example leaves more over-refusal than eleven",
            "over_refusal",
            *cells("balanced-bsa", 1, 11),
        ),
        (
            "balance",
            "eleven benign examples leave more attacks through than none",
            "asr",
            {"defense": "balanced-bsa", "variant": 11},
            {"defense": "bsa", "variant": 0},
        ),
        (
            "resemblance",
            "one category leaves more over-refusal than all",
            "over_refusal",
            *cells("balanced-bsa", "one category", "every category"),
        ),
        (
            "resemblance",
            "facts leave more over-refusal",
            "over_refusal",
            *cells("balanced-bsa", "facts", "every category"),
        ),
        (
            "resemblance",
            "rows of another task leave more over-refusal",
            "over_refusal",
            *cells("balanced-bsa", "SQL rows", "every category"),
        ),
        (
            "crossed",
            "BSA refuses more benign requests than balanced BSA",
            "over_refusal",
            {"defense": "bsa"},
            {"defense": "balanced-bsa"},
        ),
        (
            "crossed",
            "balanced BSA leaves more attacks through than BSA",
            "asr",
            {"defense": "balanced-bsa"},
            {"defense": "bsa"},
        ),
    )
)


def answered(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The questions about the sections whose tables are given, Holm-corrected over all of them."""
    return contrasts.answered([question for question in QUESTIONS if question.source in tables], tables)
