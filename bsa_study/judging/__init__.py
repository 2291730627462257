"""Judging: a later, separate step over the answers of finished runs. A run's record is never changed by it.

    answers of a record ──> judge: score(requests, answers) ──> judgement (JSON beside the record)
                              │                                        │
                              ├ rubric: an OpenAI-compatible endpoint   └──> agreement between judges
                              └ local: a classifier, a causal model

`python -m bsa_study.judging PROFILE --help` judges all records of a profile.
"""
