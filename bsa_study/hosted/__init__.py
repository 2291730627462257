"""Fine-tuning as a hosted service: the paper's GPT-3.5 rows, on a service that trains on files and serves models.

rows of an arm ──> upload: JSON Lines files ──> the service fine-tunes ──> served: requests, answers, record
                     └── secret prompt, kept to yourself ─────────────────────┘        └──> report.hosted
secret prompt ──> mt_bench: the questions of MT-Bench as they are served, for a server and a judge elsewhere
"""
