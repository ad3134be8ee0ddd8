"""The machinery of ``prune-channels``: which groups, how much each unit matters, which go, and the cut."""
