"""Makes the best model of one labelled file within the time given."""
