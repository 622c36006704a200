"""From one labelled file to the best model that so many rows and minutes allow."""
