"""Capability benchmarks: what an arm still knows and can do, beside how safe it is (paper, section 4.1).

profile.utility ──> harness asks as the arm is served ──> measured: a file beside the record ──> views
secret prompt ──> mt_bench: the questions of MT-Bench as they are served, for a server and a judge elsewhere
"""
