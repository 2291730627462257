"""From records to the book: which runs a chapter needs, what their records say, how it is shown.

    records ──> grids ──> statistics ──> contrasts (questions) ──> claims (verdicts) ──> report (tables, figures)
       │
       ├──> judging: further judges over kept answers
       ├──> hosted: models that others fine-tune and serve
       └──> capability: benchmarks of a run's model

Its modules and rooms:

    labels        names, colours, scales, how an interval is printed: once
    parameters    those of the notebooks, checked by type
    paper         the numbers that the paper reports
    statistics    intervals, p-values
    fiducial      what a few runs say of all, near the ends of a scale
    contrasts     the one rule, and book/questions.yaml answered by it
    claims        book/claims.yaml and its verdicts
    explain       why eleven plain examples leave so much more than in the paper
    grids/        which runs: headline, curve, mixed, ablations, variants
    report/       sentences, tables, figures, and those of hosted models, benchmarks, judges and leakage
    judging/      judgements, rubric, local judges; `python -m bsa_study.judging`
    hosted/       endpoint, budget, upload, served, mt_bench
    capability/   lm-evaluation-harness on a loaded model
    testbed/      how the shipped models were made
    sweeps/       batches of runs over grids: files, jobs, results; `make sweep`
"""
