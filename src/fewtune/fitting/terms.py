"""Terms of a fit: how the model is chosen, and the limits of the saved one.

Owns these values. Limits are applied in `candidates` (memory), in `contest` (seconds) and, of several models together,
in `stacking`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fewtune.analysis.decision import WITHIN
from fewtune.errors import FewtuneError
from fewtune.system.durations import parse_latency
from fewtune.system.sizes import parse_bytes


@dataclass(frozen=True)
class ModelLimits:
    """What the saved model may take; infinite: anything."""

    row_seconds: float = math.inf
    """To answer a row, of many answered at once."""
    fit_seconds: float = math.inf
    """Of its fit on all rows."""
    model_bytes: float = math.inf
    """Of the weights that it loads."""


ANYTHING = ModelLimits()


def read_limits(
    max_latency: str | None,
    max_fit_seconds: float | None,
    max_memory: str | None,
    word_option: Callable[[str], str] = str,
) -> ModelLimits:
    """Limits as users write them, None: anything; raises FewtuneError that calls an option as `word_option` does."""
    if max_fit_seconds is not None and not 0 < max_fit_seconds < math.inf:
        raise FewtuneError(f"{word_option('max_fit_seconds')} is {max_fit_seconds:g}; give a number above 0.")
    return ModelLimits(
        row_seconds=math.inf if max_latency is None else parse_latency(word_option("max_latency"), max_latency),
        fit_seconds=math.inf if max_fit_seconds is None else max_fit_seconds,
        model_bytes=math.inf if max_memory is None else parse_bytes(word_option("max_memory"), max_memory),
    )


@dataclass(frozen=True)
class Terms:
    """How a model is chosen and fitted.

    `folds` is how many, 0 for none; None: FOLDS.
    """

    within: float = WITHIN
    seconds: float | None = None
    """What the whole may take; None: no limit."""
    seed: int = 0
    folds: int | None = None
    risk: float | None = None
    """Share of its answers that may be wrong, where the model is to abstain; None: it always answers."""
    max_tokens: int | None = None
    """Tokens of one row's prompt; None: as many as in a study."""
    limits: ModelLimits = ANYTHING
    none_label: str | None = None
    """The label of rows that belong to none of the others; folds choose how readily it is given."""
