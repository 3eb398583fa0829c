"""What a changed reading order buys, simulated."""
