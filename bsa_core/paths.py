"""Every path of the project, derived from this file: the working folder of a notebook depends on what runs it."""

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
