"""The testbed model with a deeper alignment: the aligned stage with more steps, from the same helpful-only model.

    python -m bsa_study.testbed.deeper           makes those that are not here, in a folder that git ignores
    python -m bsa_study.testbed.deeper 10        makes one of them

On a GPU the deepest takes minutes, on one core more than an hour. They do not ship. The records of their runs do
(`bsa_study.explain`), and are shown without them.
"""

import sys
from dataclasses import replace

from bsa_core.paths import CHECKPOINTS, ROOT
from bsa_core.profiles import Chat, ModelSource, Profile
from bsa_core.progress import report

DEPTHS = (1, 3, 10)  # times the steps of the aligned stage; 1 is the model that ships
FOLDER = "regenerated"  # in the project's root: where a model lies is in the keys of its runs, so not in a user's cache


def deeper(profile: Profile, times: int) -> Profile:
    """The profile with the model of so many times the steps."""
    if times == 1:
        return profile
    model = ModelSource("local", f"{FOLDER}/tiny-deep{times}")
    return replace(profile, name=f"{profile.name}-deep{times}", model=model)


def make(times: int) -> None:
    """Train one of them, on one thread or on a GPU."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from bsa_study.testbed import training

    torch.set_num_threads(1)
    helpful, recipe = CHECKPOINTS / "tiny-helpful", training.RECIPES["tiny"]
    model, tok = AutoModelForCausalLM.from_pretrained(helpful), AutoTokenizer.from_pretrained(helpful)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    *_, aligned = recipe["stages"]
    recipe = {**recipe, "stages": [{**aligned, "steps": times * aligned["steps"]}]}
    for _ in training.train(model, tok, Chat(), recipe, seed=0):
        training.save(ROOT / FOLDER / f"tiny-deep{times}", model, tok)


if __name__ == "__main__":
    for depth in [int(times) for times in sys.argv[1:]] or DEPTHS[1:]:
        if (ROOT / FOLDER / f"tiny-deep{depth}").exists():
            report(f"{FOLDER}/tiny-deep{depth} is here; delete it to make it again")
        else:
            make(depth)
