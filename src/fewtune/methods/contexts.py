"""Contexts: the texts that stand before every row, and the prior that calibration subtracts behind each.

Owns making them, for in-context learning, which answers behind them, and for a distillation's teacher, which does too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fewtune.predictors.language import Before, Prompting
from fewtune.prompts.calibration import Calibration, estimate_prior
from fewtune.prompts.demonstrations import choose_demonstrations, write_context
from fewtune.tasks.base import Draw, Example, Pattern


@dataclass(frozen=True)
class ContextSettings:
    """How many contexts there are, what each shows, and how the answers behind it are calibrated."""

    contexts: int
    demonstrations: int
    calibration: Calibration
    separator: str
    instruction: str = ""


@dataclass(frozen=True)
class Context:
    """The text before a query, the support rows that it shows, and the log prior (labels,) behind it, if any."""

    before: Before
    rows: tuple[Example, ...]
    log_prior: np.ndarray | None


def make_contexts(
    settings: ContextSettings,
    prompting: Prompting,
    pattern: Pattern,
    draw: Draw,
    rng: np.random.Generator,
    follow: Callable[[str], Before] = str,
) -> list[Context]:
    """Contexts of rows drawn anew for each; `follow` gives what stands before a row behind a context's text."""
    made = []
    for _ in range(settings.contexts):
        chosen = choose_demonstrations(draw.support, settings.demonstrations, rng)
        text = write_context(prompting.encoder, pattern, chosen, settings.separator, settings.instruction)
        before = follow(text)
        prior = estimate_prior(partial(prompting.score, before=before), settings.calibration, draw, rng)
        made.append(Context(before, tuple(chosen), prior))
    return made
