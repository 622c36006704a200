"""Twelve rows of two labels that any method tells apart, for tests that need some rows and not which."""

TEXTS = [f"{word} {noun}" for noun in ("box", "lamp", "kettle", "parcel", "cable", "chair") for word in ("good", "bad")]
LABELS = ["praise", "complaint"] * 6
