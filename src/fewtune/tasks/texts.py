"""When two rows have the same text, whatever its case, punctuation and spacing."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from fewtune.tasks.base import Example


@lru_cache(1 << 16)
def normalise_text(text: str) -> str:
    """A text without case, punctuation and spacing, for telling whether two rows are the same."""
    words = re.sub(r"[\W_]+", " ", text.casefold()).strip()
    return words or text.strip()


def text_key(row: Example) -> str:
    """What two rows share when their texts are the same: every field, normalised."""
    return "\x1f".join(normalise_text(text) for text in row.fields.values())


def text_fraction(row: Example) -> float:
    """A number in [0, 1) that depends on the row's normalised text alone."""
    digest = hashlib.sha256(text_key(row).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
