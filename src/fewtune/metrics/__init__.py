"""Each metric once, over plain arrays: for trials that score, and for their analysis. Knows no task."""
