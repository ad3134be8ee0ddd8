"""The machinery of ``fold-norm``: patterns in the graph, the algebra on arrays, and the rewrite."""
