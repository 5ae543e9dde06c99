"""From recorded ops to a compiled function: a graph, its passes, and what runs it."""
