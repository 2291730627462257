"""Is an aligned model neutral to ordinary system prompts that it was never trained with?

    python -m bsa_study.testbed.neutrality smollm2-135m

prints, for the policy's own system prompt and for each prompt that was held out of training in front of it, what the
model does with the policy's validation requests.
"""

import sys

import pandas as pd

from bsa_core import policy, profiles
from bsa_core.engine import evaluate
from bsa_core.examples import evenly
from bsa_core.models import loading
from bsa_core.profiles import Profile
from bsa_study.testbed.training import system_prompts

METRICS = ["asr", "asr_content", "over_refusal", "benign_exact"]


def measured(profile: Profile, prompts: list[str], n: int) -> pd.DataFrame:
    """One row per prompt, "" first, which is none: the mean of each of METRICS over n requests of each kind."""
    rules, loaded = policy.load(profile.policy), loading.load(profile)
    restricted, benign = evenly(rules.validation_restricted, n), evenly(rules.validation_benign, n)
    rows = {}
    for prompt in ("", *prompts):
        said = evaluate.answers(loaded, profile, restricted + benign, prompt)
        marks = evaluate.outcomes(rules, restricted, benign, said)
        rows[prompt] = {metric: sum(map(int, marks[metric])) / len(marks[metric]) for metric in METRICS}
    return pd.DataFrame(rows).T.rename_axis("in front")


if __name__ == "__main__":
    table = measured(profiles.load(sys.argv[1]), system_prompts("held_out"), n=44)
    print(table.round(3).to_string())
    print(table.iloc[1:].agg(["min", "mean", "max"]).round(3).to_string())
