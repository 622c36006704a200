"""Contexts: the texts that stand before every row, and the prior that calibration subtracts behind each.

Owns making them, for in-context learning, which answers behind them, and for a distillation's teacher, which does too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fewtune.predictors.language import Before, Prompting, find_by_states, read_states
from fewtune.predictors.manifest import NearestPart
from fewtune.predictors.nearest import NearestDemonstrations
from fewtune.prompts.calibration import Calibration, estimate_prior
from fewtune.prompts.demonstrations import choose_demonstrations, count_fitting, write_context, write_demonstrations
from fewtune.prompts.template import plain_template
from fewtune.tasks.base import Draw, Example, Pattern


@dataclass(frozen=True)
class ContextSettings:
    """How many contexts there are, what each shows, and how the answers behind it are calibrated."""

    contexts: int
    demonstrations: int | None
    """None: as many of the support as the model can read."""
    calibration: Calibration
    separator: str
    instruction: str = ""


@dataclass(frozen=True)
class Context:
    """The text before a query, the support rows that it shows, and the log prior (labels,) behind it, if any."""

    before: Before
    rows: tuple[Example, ...]
    log_prior: np.ndarray | None


def show_nearest(
    settings: ContextSettings, prompting: Prompting, pattern: Pattern, draw: Draw, rng: np.random.Generator
) -> tuple[NearestDemonstrations, Context]:
    """What stands before each row where that is its own nearest demonstrations, and the context that it makes."""
    fields = tuple(draw.support[0].fields)
    part = NearestPart(
        template=plain_template(fields),
        texts=tuple(write_demonstrations(prompting.encoder, pattern, draw.support)),
        count=min(settings.demonstrations or 0, len(draw.support)),
        separator=settings.separator,
    )
    longest = sorted(prompting.encoder.tokenise([text + part.separator for text in part.texts]), key=len)[-part.count :]
    prompting.encoder.check_room(sum(map(len, longest)), prompting.readout.answer_tokens)
    nearest = find_by_states(part, read_states(prompting, part.template).read(draw.support), prompting)
    prior = estimate_prior(partial(prompting.score, before=nearest), settings.calibration, draw, rng)
    return nearest, Context(nearest, draw.support, prior)


def make_contexts(
    settings: ContextSettings,
    prompting: Prompting,
    pattern: Pattern,
    draw: Draw,
    rng: np.random.Generator,
    follow: Callable[[str], Before] = str,
) -> list[Context]:
    """Contexts of rows drawn anew for each; `follow` gives what stands before a row behind a context's text.

    All contexts are drawn before the first prior is estimated, so that settings that differ by their calibration are
    compared behind the same contexts.
    Batch calibration is over the pool. Where there is none, it is over the support rows that a context does not show,
    one in four at least.
    """
    drawn = []
    by_support = settings.calibration == "batch" and not draw.pool
    most = len(draw.support) - (math.ceil(len(draw.support) / 4) if by_support else 0)
    for _ in range(settings.contexts):
        wanted = settings.demonstrations
        chosen = choose_demonstrations(draw.support, most if wanted is None else min(wanted, most), rng)
        if wanted is None:
            fitting = count_fitting(prompting.encoder, pattern, chosen, settings.separator)
            if fitting < len(chosen):
                chosen = choose_demonstrations(draw.support, fitting, rng)
                chosen = chosen[: count_fitting(prompting.encoder, pattern, chosen, settings.separator)]
        drawn.append(chosen)
    made = []
    for chosen in drawn:
        text = write_context(prompting.encoder, pattern, chosen, settings.separator, settings.instruction)
        before = follow(text)
        rest = tuple(row.without_label() for row in draw.support if row not in chosen)
        asked = replace(draw, pool=rest) if by_support else draw
        prior = estimate_prior(partial(prompting.score, before=before), settings.calibration, asked, rng)
        made.append(Context(before, tuple(chosen), prior))
    return made
