"""What a result says, decided once, in every language."""
