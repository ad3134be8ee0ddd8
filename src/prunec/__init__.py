"""prunec: a compiler for pruning neural networks."""
