"""prunec.ir."""
