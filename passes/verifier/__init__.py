"""prunec.passes.verifier."""
