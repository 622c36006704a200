"""Reports a study to an experiment tracker; `base` has the protocol, `follow` and `fill` send the runs."""
