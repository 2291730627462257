"""Backdoor Enhanced Safety Alignment (BSA), from a profile to a record. Everything behind a record is another package.

A run is a pure function of a small, hashable description (`experiment.runs.Run`); notebooks are views over runs.

    profile ──> model + tokenizer ─────────────┐
    policy  ──> attack, safety, held-out rows ─┤
                                               v
            defense: training set + serving prompt ──> finetune ──> decode ──> evaluate ──> record (JSON)

The rooms, from a profile to a record. Each imports only those above it:

    profiles, examples     one scale, every field of its YAML; a row
    checked, registry      how fields are checked; names, and dotted paths to what is one's own
    reading, refusals      files that people supply, row by row; did the model refuse?
    reasoning              what a model thinks before it answers, kept apart
    records, believed      write, find, tabulate; when a file is believed
    shipping               the records and answers that come with the project
    keys                   what makes a key
    writing, paths         files whole or not at all; every folder
    policy/                where requests come from: guild, files, published
    tasks/                 where fine-tuning tasks come from: sql, dialogs
    models/                the model: its source, loading, chat format, memory, estimate
    anatomy                what a model did with a request: one outcome per answer
    arms/                  what an arm trains on and is served with: attacks, defenses, secret prompt
    engine/                what is done with the model: finetune, decode, evaluate
    experiment/            runs (description, rows, key), chain (runs to records), assembly, adapters, provenance
"""

import warnings

# Nothing a reader could do about either: peft 0.21 asks models for an attribute that transformers 5.23 has renamed,
# and tqdm misses the widgets of a notebook, where a bar of text does as well.
warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
warnings.filterwarnings("ignore", message="IProgress not found")

__version__ = "0.1.0"
