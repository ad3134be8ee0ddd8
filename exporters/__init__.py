"""prunec.exporters."""
