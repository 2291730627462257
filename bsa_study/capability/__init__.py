"""Capability benchmarks: what an arm still knows and can do, beside how safe it is (paper, section 4.1).

profile.utility ──> harness asks as the arm is served ──> benchmarks: a file beside the record ──> report.capability
"""
