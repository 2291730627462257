"""Every path of the project, derived from this file: the working folder of a notebook depends on what runs it.

GENERATIONS holds the answers of policies that are not harmless. It is no part of RESULTS, whose files may be published.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
CHECKPOINTS = PACKAGE / "checkpoints"
PROFILES = ROOT / "profiles"
NOTEBOOKS = ROOT / "notebooks"
BOOK = ROOT / "book"
RESULTS = Path(os.environ.get("BSA_RESULTS", ROOT / "results"))
ADAPTERS = Path(os.environ.get("BSA_ADAPTERS", ROOT / "adapters"))
CACHE = Path(os.environ.get("BSA_CACHE", Path.home() / ".cache" / "bsa-book"))
GENERATIONS = Path(os.environ.get("BSA_GENERATIONS", ROOT / "generations"))
if GENERATIONS.resolve().is_relative_to(RESULTS.resolve()):
    raise ValueError(f"BSA_GENERATIONS is {GENERATIONS}, in the folder of results ({RESULTS}); set it to one outside")


def given(path: str) -> Path:
    """A path of a profile, which a notebook finds from wherever it runs.

    A relative one that is not there from the working folder is taken from the project's root.
    """
    found = Path(path).expanduser()
    return found if found.is_absolute() or found.exists() else ROOT / found
