"""prunec.tools."""
