"""Every path of the project, derived from this file: papermill runs a notebook in the caller's folder, nbval does not."""

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
