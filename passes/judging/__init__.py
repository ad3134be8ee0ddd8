"""Judging: metrics on samples, as a whole and slice by slice, with intervals, thresholds and baselines."""
