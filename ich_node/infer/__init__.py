"""The infer role: from a whole series to published results."""
