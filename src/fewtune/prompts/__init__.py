"""Turns an example into a model's input: templates, tokens, demonstrations, calibration."""
