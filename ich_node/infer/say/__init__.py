"""From what the model said to findings with a place, a side and a priority."""
