"""Backdoor Enhanced Safety Alignment (BSA): the core behind the notebooks of this book.

A run is a pure function of a small, hashable description (`experiment.Run`); notebooks are views over runs.

    profile ──> model + tokenizer ─────────────┐
    policy  ──> attack, safety, held-out rows ─┤
                                               v
            defense: training set + serving prompt ──> finetune ──> evaluate ──> record (JSON)
                                                                                     │
                                                  table, figure, claim <── statistics <──┘
"""

import warnings

# Nothing a reader could do about either: peft 0.21 asks models for an attribute that transformers 5.23 has renamed,
# and tqdm misses the widgets of a notebook, where a bar of text does as well.
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"
