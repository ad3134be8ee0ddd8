"""prunec.passes.coupling."""
