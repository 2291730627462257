"""Backdoor Enhanced Safety Alignment (BSA): the core behind the notebooks of this book.

A run is a pure function of a small, hashable description (`experiment.Run`); notebooks are views over runs.

    profile ──> model + tokenizer ─────────────┐
    policy  ──> attack, safety, held-out rows ─┤
                                               v
            defense: training set + serving prompt ──> finetune ──> evaluate ──> record (JSON)
                                                                                     │
                                                  table, figure, claim <── statistics <──┘
"""

__version__ = "0.1.0"
