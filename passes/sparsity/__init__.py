"""Zeros in weights: which layers can hold them, in which patterns, and which weights go."""
