"""Kills, stops, full disks and damaged files at random moments, and whether a study ends as an undisturbed one does."""
