"""Batches of runs over grids, as jobs that any number of processes or machines share.

    sweeps/*.yaml ──> grid: the file, its points ──> jobs: points that share a training ──> results: what is there

A job is one execution of `sweeps/job.ipynb`, which `Snakefile.sweep` starts; `tools/sweep.py` is `make sweep`.
"""
