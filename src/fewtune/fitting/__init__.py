"""From one labelled file to the best model of it: its rows looked at, candidates judged on folds of all rows."""
