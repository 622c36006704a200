"""Runs studies: prepares their trials, and runs each one from its draw to its record."""
