"""prunec.passes."""
