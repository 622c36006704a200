"""A fitted method as a value: it scores rows, is saved and loaded, and outlives the trial that made it."""
