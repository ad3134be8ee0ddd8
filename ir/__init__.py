"""The representation: models whose ops have rules, read, run, compared and written; it knows nothing of pruning."""
