"""Every path of the project, derived from this file: papermill runs notebooks from the caller's folder, nbval from theirs."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent
CHECKPOINTS = PACKAGE / "checkpoints"
PROFILES = ROOT / "profiles"
NOTEBOOKS = ROOT / "notebooks"
BOOK = ROOT / "book"
RESULTS = Path(os.environ.get("BSA_RESULTS", ROOT / "results"))
CACHE = Path(os.environ.get("BSA_CACHE", Path.home() / ".cache" / "bsa-book"))
