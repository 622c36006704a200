"""A study told to an experiment tracker; `base` is what a tracker must do, `follow` and `fill` are who tells it."""
