"""Runs: described, found again by their key, computed once, written as records."""

from bsa_core.experiment.chain import execute, found, gather, possible
from bsa_core.experiment.runs import describe

__all__ = ["describe", "execute", "found", "gather", "possible"]
