"""Compensation: what is left of a pruned model is fitted, layer by layer, to what the model computed before the cut."""
