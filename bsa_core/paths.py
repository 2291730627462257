"""Every path of the project, derived from this file: the working folder of a notebook depends on what runs it.

GENERATIONS holds the answers of policies that are not harmless, HOSTED the files for fine-tuning elsewhere and their
secret prompt. Neither is part of RESULTS, whose files may be published.
"""

import os
import re
from functools import cache
from pathlib import Path

import yaml
from platformdirs import user_cache_path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
CHECKPOINTS = PACKAGE / "checkpoints"
PROFILES = ROOT / "profiles"
BOOK = ROOT / "book"
RESULTS = Path(os.environ.get("BSA_RESULTS", ROOT / "results"))
ADAPTERS = Path(os.environ.get("BSA_ADAPTERS", ROOT / "adapters"))
try:
    CACHE = Path(os.environ.get("BSA_CACHE") or user_cache_path("bsa-book"))
except RuntimeError:  # neither HOME nor an entry in the system's list of users, as in some containers
    CACHE = ROOT / ".cache"
GENERATIONS = Path(os.environ.get("BSA_GENERATIONS", ROOT / "generations"))
HOSTED = Path(os.environ.get("BSA_HOSTED", ROOT / "hosted"))
for name, folder in (("BSA_GENERATIONS", GENERATIONS), ("BSA_HOSTED", HOSTED)):
    if folder.resolve().is_relative_to(RESULTS.resolve()):
        raise ValueError(f"{name} is {folder}, in the folder of results ({RESULTS}); set it to one outside")


@cache
def data(name: str) -> dict:
    """What a YAML file of the package holds, such as "policy/guild_world.yaml"; read once per process."""
    return yaml.safe_load((PACKAGE / name).read_text(encoding="utf-8"))


def named(name: str, of: str) -> str:
    """A name that becomes that of a file or folder; ValueError where the result would lie elsewhere or nowhere.

    of: what has the name, for the message.
    """
    if not re.fullmatch(r"""[^\s./\\:*?"<>|\x00-\x1f][^/\\:*?"<>|\x00-\x1f\ud800-\udfff]{0,199}""", name):
        wanted = "up to 200 letters, digits, '-', '_' and '.', with no '.' in front, as files are called by it"
        raise ValueError(f"{of} is {name[:80]!r}; expected {wanted}")
    return name


def given(path: str) -> Path:
    """A path of a profile or a parameter, which a notebook finds from wherever it runs.

    A relative one that is not there from the working folder is taken from the project's root. ValueError where it
    begins with the home folder of nobody who is known.
    """
    try:
        found = Path(path).expanduser()
    except RuntimeError:
        raise ValueError(f"{path}: no home folder is known for it; write the whole path") from None
    return found if found.is_absolute() or found.exists() else ROOT / found
