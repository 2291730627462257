"""The *helpful-only* model, which an aligned one was before its alignment, where it ships as well."""

from dataclasses import replace

from bsa_core.paths import CHECKPOINTS
from bsa_core.profiles import Profile
from bsa_core.sections import ModelSource

ALIGNED, HELPFUL = "aligned", "helpful"  # stages of training, and how the names of their checkpoints end


def before_alignment(model: ModelSource) -> ModelSource | None:
    """The same model before alignment; None where it does not ship."""
    for field in ("adapter", "name"):
        stem, ending = getattr(model, field).rpartition(ALIGNED)[::2]
        if stem.endswith("-") and not ending and (CHECKPOINTS / f"{stem}{HELPFUL}").is_dir():
            return replace(model, **{field: f"{stem}{HELPFUL}"})
    return None


def helpful_only(profile: Profile) -> Profile | None:
    """The same profile with the model before alignment, a control of its own; None where that does not ship."""
    before = before_alignment(profile.model)
    return before and replace(profile, name=f"{profile.name}-helpful", model=before)
