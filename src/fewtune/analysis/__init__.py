"""What the records say; imports no torch."""
