"""Detects the languages of texts, without a network.

Owns how many texts are looked at and when a guess counts. Guessing is py3langid's (Lui and Baldwin 2012,
https://aclanthology.org/P12-3005); where it is not installed, nothing is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MOST_TEXTS, MOST_CHARACTERS = 200, 500
"""Texts that are looked at, evenly spread, and the beginning of each: both say enough of a whole file."""
SURE = 0.9
"""Probability from which on a guess counts: of a few words, as in 'great stuff', nobody knows."""
LEAST_SHARE = 0.05
"""Share of the guesses that count from which on a language is named."""
_NO_LANGUAGE = "zxx"
"""What py3langid says of numbers, markup and codes."""
_NAMES = {
    "ar": "Arabic",
    "bg": "Bulgarian",
    "bn": "Bengali",
    "ca": "Catalan",
    "cs": "Czech",
    "da": "Danish",
    "de": "German",
    "el": "Greek",
    "en": "English",
    "es": "Spanish",
    "et": "Estonian",
    "fa": "Persian",
    "fi": "Finnish",
    "fr": "French",
    "he": "Hebrew",
    "hi": "Hindi",
    "hr": "Croatian",
    "hu": "Hungarian",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "lt": "Lithuanian",
    "lv": "Latvian",
    "nl": "Dutch",
    "no": "Norwegian",
    "pl": "Polish",
    "pt": "Portuguese",
    "ro": "Romanian",
    "ru": "Russian",
    "sk": "Slovak",
    "sl": "Slovenian",
    "sr": "Serbian",
    "sv": "Swedish",
    "th": "Thai",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "ur": "Urdu",
    "vi": "Vietnamese",
    "zh": "Chinese",
}
"""Names of languages that many write, by ISO 639 code."""


@dataclass(frozen=True)
class Language:
    """A language of some texts: its ISO 639 code, and its share of the texts whose language is clear."""

    code: str
    share: float

    @property
    def name(self) -> str:
        """In English; the code where fewtune has no name for it."""
        return _NAMES.get(self.code, f"{self.code!r}")


def find_languages(texts: Sequence[str]) -> tuple[Language, ...]:
    """The languages of texts, commonest first; none where no text is clear or py3langid is not installed.

    Where no text is clear by itself, all of them together may be.
    """
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:  # an extra
        return ()

    step = max(1, -(-len(texts) // MOST_TEXTS))
    looked = [text[:MOST_CHARACTERS] for text in texts[::step]]
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    guesses = [identifier.classify(text) for text in looked] or [(_NO_LANGUAGE, 1.0)]
    if not any(_counts(*guess) for guess in guesses):
        guesses = [identifier.classify("\n".join(looked))]
    clear = Counter(code for code, sure in guesses if _counts(code, sure))
    total = clear.total()
    return tuple(Language(code, n / total) for code, n in clear.most_common() if n / total >= LEAST_SHARE)


def _counts(code: str, sure: float) -> bool:
    return sure >= SURE and code != _NO_LANGUAGE
