"""Paired differences and what follows from them: intervals, expected loss, bounds, "better". Arrays in, no files."""
