"""Fine-tuning as a hosted service: the paper's GPT-3.5 rows, on a service that trains on files and serves models.

rows of an arm ──> files: JSONL to upload ──> the service fine-tunes ──> served: requests, answers, record
                     └── secret prompt, kept to yourself ─────────────────────┘        └──> views
"""
