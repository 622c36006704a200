"""The engine: one training loop and one scoring loop for every method; knows no method and no task."""
