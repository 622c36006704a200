"""Defines each metric once, over plain arrays, for scoring and for analysis. Knows no task."""
