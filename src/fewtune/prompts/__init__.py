"""From an example to what a model reads: templates, tokens, demonstrations before it, calibration after it."""
