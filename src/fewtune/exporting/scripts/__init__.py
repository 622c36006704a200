"""Small programs in an export where no other tool's format holds the model; they need no fewtune.

Each is one file that stands alone, so that what all do stands in each.
"""
