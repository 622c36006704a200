"""Compares texts of rows whatever their case, punctuation and spacing."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache

from fewtune.tasks.base import Example


class _Apart(dict[int, str]):
    """What stands in a character's place: a space for what separates words, a word of its own for a symbol."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        # Sk are accents that stand alone: a grave is written as a quote. Cc and Cf are controls and joiners.
        looks = unicodedata.name(character, "").startswith("VARIATION SELECTOR")  # a heart in black or in red
        if category[0] in "PZ" or category in {"Sk", "Cc", "Cf"} or character in "<>" or looks:
            self[code] = " "
        else:
            self[code] = f" {character} " if category[0] == "S" else character
        return self[code]


_APART = _Apart()


@lru_cache(1 << 16)
def normalise_text(text: str) -> str:
    """A text without case, punctuation and spacing, for telling whether two rows are the same.

    Canonically equal texts (an accent composed or apart) are the same. Vowel signs, emoji and signs such as + or $ tell
    texts apart; < and > are brackets.
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    return " ".join(folded.translate(_APART).split()) or text.strip()


def leave_words(text: str) -> str:
    """A text's letters and digits alone, without case: what splits and published hashes go by, and stays as it is."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip() or text.strip()


def text_key(row: Example) -> str:
    """What two rows share when their texts are the same: every field, normalised."""
    return "\x1f".join(normalise_text(text) for text in row.fields.values())


def text_fraction(row: Example) -> float:
    """A number in [0, 1) that depends on the letters and digits of the row's text alone: it splits a task's rows."""
    words = "\x1f".join(map(leave_words, row.fields.values()))
    digest = hashlib.sha256(words.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
