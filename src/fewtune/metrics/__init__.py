"""Each metric once, over plain arrays: for trials that score, and for analyses that resample. Knows no task."""
