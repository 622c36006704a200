"""Calibration: the log prior over labels after a context, which is subtracted from the scores.

Owns the kinds and how each prior is estimated. Contextual calibration: Zhao et al. 2021,
https://arxiv.org/abs/2102.09690; domain-context calibration: Fei et al. 2023, https://arxiv.org/abs/2305.19148; batch
calibration: Zhou et al. 2023, https://arxiv.org/abs/2309.17249; public codes of it average probabilities or
log-probabilities, fewtune the latter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from fewtune.prompts.unspaced import is_unspaced
from fewtune.tasks.base import Draw, Example

Calibration = Literal["none", "contextual", "domain", "batch"]

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts that say nothing, over which contextual calibration averages (Zhao et al. 2021)."""
RANDOM_TEXTS = 20
"""Texts of random words that domain-context calibration averages over (Fei et al. 2023)."""


def estimate_prior(
    score: Callable[[Sequence[Example]], np.ndarray], calibration: Calibration, draw: Draw, rng: np.random.Generator
) -> np.ndarray | None:
    """The log prior over labels, (labels,), that calibration subtracts behind a context; None where it has none.

    `score(rows)` gives log-probabilities (rows, labels) behind that context.
    """
    match calibration:
        case "none":
            return None
        case "batch":
            return centre(score(draw.pool))
        case "contextual":
            fields = draw.support[0].fields
            asked = [Example(f"content-free:{text}", dict.fromkeys(fields, text), None) for text in CONTENT_FREE]
        case "domain":
            asked = write_random_texts(draw.support, rng)
    prior: np.ndarray = np.log(np.exp(score(asked)).mean(axis=0))
    return prior


def centre(scores: np.ndarray) -> np.ndarray:
    """The mean log-probabilities (labels,) over rows (rows, labels), which batch calibration subtracts."""
    prior: np.ndarray = scores.mean(axis=0)
    return prior


def write_random_texts(rows: Sequence[Example], rng: np.random.Generator) -> list[Example]:
    """Rows of words drawn from all words of the given ones, field by field, as many as those have on average.

    Where most of the texts is in scripts without spaces, signs are drawn.
    """
    written: list[dict[str, str]] = [{} for _ in range(RANDOM_TEXTS)]
    for field in rows[0].fields:
        texts = [row.fields[field] for row in rows]
        unspaced = is_unspaced(texts)
        words = [word for text in texts for word in ("".join(text.split()) if unspaced else text.split())]
        length = round(len(words) / len(rows))
        for text in written:
            # Places and not words are drawn: an array of words is as wide as the longest of them.
            places = rng.integers(len(words), size=length) if words else ()
            text[field] = ("" if unspaced else " ").join(words[place] for place in places)
    return [Example(f"random-words:{number}", fields, None) for number, fields in enumerate(written)]
