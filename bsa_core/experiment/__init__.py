"""Runs: described, found again by their key, computed once, written as records."""

from bsa_core.experiment.chain import execute, gather
from bsa_core.experiment.lookup import found, possible
from bsa_core.experiment.runs import describe

__all__ = ["describe", "execute", "found", "gather", "possible"]
