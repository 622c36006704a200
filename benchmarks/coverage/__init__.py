"""How often intervals hold the truth, and how often a verdict finds a difference where there is none (`__main__`)."""
