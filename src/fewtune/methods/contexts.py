"""Contexts: texts that stand before every row, and the label prior that calibration subtracts for each.

Owns making them, for in-context learning, which answers behind them, and for a distillation's teacher, which does too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fewtune.predictors.language import Before, Prompting, find_by_states, read_states
from fewtune.predictors.manifest import NearestPart
from fewtune.predictors.nearest import NearestDemonstrations
from fewtune.prompts.calibration import Calibration, estimate_prior
from fewtune.prompts.demonstrations import (
    choose_demonstrations,
    count_fitting,
    count_of_lengths,
    write_context,
    write_demonstrations,
)
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
    left_out: int = 0
    """Rows that it was to show and does not: the model could not read them with a row behind."""


def show_nearest(
    settings: ContextSettings, prompting: Prompting, pattern: Pattern, draw: Draw, rng: np.random.Generator
) -> tuple[NearestDemonstrations, Context]:
    """What stands before each row where that is its own nearest demonstrations, and the context that it makes."""
    encoder, fields = prompting.encoder, tuple(draw.support[0].fields)
    texts = tuple(write_demonstrations(encoder, pattern, draw.support))
    lengths = sorted(
        (len(tokens) for tokens in encoder.tokenise([t + settings.separator for t in texts])), reverse=True
    )
    wanted = min(settings.demonstrations or 0, len(draw.support))
    # The longest may be the nearest; where none of them fits, the error says so.
    fitting = max(1, count_of_lengths(encoder, lengths[:wanted]))
    encoder.check_room(sum(lengths[:fitting]), prompting.readout.answer_tokens)
    template = plain_template(fields)
    part = NearestPart(template=template, texts=texts, count=fitting, separator=settings.separator)
    nearest = find_by_states(part, read_states(prompting, part.template).read(draw.support), prompting)
    prior = estimate_prior(partial(_score_said, prompting, nearest), settings.calibration, draw, rng)
    return nearest, Context(nearest, draw.support, prior, wanted - fitting)


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
    Of rows that the model cannot read with another behind them, as many are shown as it can.
    Batch calibration is over the pool. Where there is none, it is over the support rows that a context does not show,
    one in four at least.
    """
    drawn: list[tuple[list[Example], int]] = []
    by_support = settings.calibration == "batch" and not draw.pool
    most = len(draw.support) - (math.ceil(len(draw.support) / 4) if by_support else 0)

    def count(chosen: list[Example]) -> int:
        return count_fitting(prompting.encoder, pattern, chosen, settings.separator, settings.instruction)

    for _ in range(settings.contexts):
        wanted = most if settings.demonstrations is None else min(settings.demonstrations, most)
        chosen = choose_demonstrations(draw.support, wanted, rng)
        fitting = count(chosen)
        if fitting < len(chosen):
            chosen = choose_demonstrations(draw.support, fitting, rng)
            chosen = chosen[: count(chosen)]
        drawn.append((chosen, wanted - len(chosen)))
    made = []
    for chosen, left_out in drawn:
        text = write_context(prompting.encoder, pattern, chosen, settings.separator, settings.instruction)
        before = follow(text)
        rest = tuple(row.without_label() for row in draw.support if row not in chosen)
        asked = replace(draw, pool=rest) if by_support else draw
        prior = estimate_prior(partial(_score_said, prompting, before), settings.calibration, asked, rng)
        made.append(Context(before, tuple(chosen), prior, left_out))
    return made


def _score_said(prompting: Prompting, before: Before, rows: Sequence[Example]) -> np.ndarray:
    """Scores of the rows that come to any token: one without a text may be no prompt at all."""
    said = [row for row in rows if any(row.fields.values()) or prompting.count_tokens([row], before)[0]]
    return prompting.score(said, before)


def warn_of_short_contexts(settings: ContextSettings, contexts: Sequence[Context]) -> list[str]:
    """What to warn of where contexts show fewer rows than they were to, or none."""
    if all(context.left_out == 0 for context in contexts):
        return []
    if not any(context.rows for context in contexts):
        return ["no labelled row fits before the query: it is answered without demonstrations"]
    if settings.demonstrations is None:
        return []
    most = max(context.left_out for context in contexts)
    count = settings.demonstrations
    return [f"up to {most} of a context's {count} demonstrations were left out, for want of room before a row"]
