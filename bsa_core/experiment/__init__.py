"""Runs: described, found again by their key, computed once, written as records."""

from bsa_core.experiment.chain import at_hand, execute, gather
from bsa_core.experiment.lookup import found, possible
from bsa_core.experiment.runs import describe

__all__ = ["at_hand", "describe", "execute", "found", "gather", "possible"]
