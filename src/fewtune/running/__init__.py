"""A study's trials made ready, and one trial from its draw to its record."""
