"""Shrinking a model that shows a failure to the least that still does: delta debugging on graphs."""
