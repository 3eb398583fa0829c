"""Data, training, evaluation and export of a model bundle (extra `[train]`); never imported by the roles."""
