"""Predictors: fitted methods as values that score rows and can be saved and loaded."""
