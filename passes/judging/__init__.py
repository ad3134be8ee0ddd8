"""Judging: metrics on samples, as a whole and slice by slice, with intervals, thresholds and baselines.

``quantization_table`` runs a whole pipeline, in parts: what pruning and quantising cost together.
"""
