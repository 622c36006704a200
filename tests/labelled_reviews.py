"""A file of labelled rows as a user has one: sixty of three labels of several words."""

from __future__ import annotations

import csv
from pathlib import Path

LABELS = ("late delivery", "broken, on arrival", "praise")
WORDS = {"late delivery": "late", "broken, on arrival": "broken", "praise": "lovely"}
"""The word that tells of each label."""


def write_reviews(path: Path) -> Path:
    """Columns `review` and `kind`, with quotes, commas, CRLF and emoji."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["review", "kind"])
        for number in range(20):
            for label in LABELS:
                writer.writerow([f'it was "{WORDS[label]}", order {number} 📦', label])
    return path
