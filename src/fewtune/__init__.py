"""fewtune: adapt a language model with few labelled examples, every way side by side, and say which to use."""

__version__ = "0.1.0"
