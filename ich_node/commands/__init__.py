"""The verbs of `ich-node`: wiring."""
