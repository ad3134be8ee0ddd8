"""What was done and measured, for people: a page that opens from disk, a model card, the figure of a profile."""
