"""In-context learning: demonstrations before the query, the best-scoring label word after it; nothing trains.

Owns the choice and order of demonstrations and the calibrations. Sources: Brown et al. 2020,
https://arxiv.org/abs/2005.14165; contextual calibration, Zhao et al. 2021, https://arxiv.org/abs/2102.09690;
batch calibration, Zhou et al. 2023, https://arxiv.org/abs/2309.17249
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import Method

if TYPE_CHECKING:
    from fewtune.engine.plan import Plan
    from fewtune.models import LanguageModel
    from fewtune.tasks.base import Draw, Example, Task

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts that say nothing, over which contextual calibration averages (Zhao et al. 2021)."""


@dataclass(frozen=True)
class Settings:
    """Which demonstrations stand before the query and how label words' scores are calibrated."""

    demonstrations: Annotated[
        int, Field(ge=0, description="Labelled rows shown before the query; at most the support has.")
    ] = 16
    calibration: Annotated[
        Literal["none", "contextual", "batch"],
        Field(
            description="none: label words as scored. contextual: divide by the mean label probabilities of "
            "content-free inputs. batch: subtract the mean log-probability over the unlabelled pool."
        ),
    ] = "none"
    pattern: Annotated[str | None, Field(description="Name of the task's pattern; null: its first.")] = None
    separator: Annotated[str, Field(description="Text between demonstrations.")] = "\n\n"


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Show demonstrations from the support, score label words, calibrate."""
    from fewtune.engine.forward import Forward
    from fewtune.engine.plan import Plan
    from fewtune.methods.blocks import answer_by_label_words, choose_pattern, label_scorer

    assert model is not None
    forward = Forward(model.frozen, model.precision)
    answer = answer_by_label_words(model, task, draw, settings.pattern, "vocabulary")
    chosen = choose_demonstrations(draw.support, settings.demonstrations, rng)
    words = choose_pattern(task, settings.pattern).label_words
    before = "".join(
        answer.encoder.shorten(answer.template, e, answer.encoder.max_tokens) + words[_label(e)] + settings.separator
        for e in chosen
    )
    uncalibrated = label_scorer(forward, answer, before)
    prior = np.zeros(len(task.labels))
    if settings.calibration == "contextual":
        empty = [_content_free(task.fields, text) for text in CONTENT_FREE]
        prior = np.log(np.exp(uncalibrated(empty)).mean(axis=0))
    elif settings.calibration == "batch":
        prior = uncalibrated(draw.pool).mean(axis=0)
    notes = {
        **answer.notes,
        "demonstrations_shown": len(chosen),
        "demonstration_rows": [e.row_id for e in chosen],
        "calibration_log_prior": [float(p) for p in prior],
    }
    return Plan(
        score=label_scorer(forward, answer, before, lambda scores: scores - prior),
        forward=forward,
        total_parameters=model.total_parameters,
        report=lambda: {**notes, **answer.encoder.report()},
    )


def choose_demonstrations(support: Sequence[Example], count: int, rng: np.random.Generator) -> list[Example]:
    """Draw `count` rows, as even over the labels as the support allows, in random order."""
    order = [support[i] for i in rng.permutation(len(support))]
    taken: dict[int, int] = {}
    ranks = []
    for example in order:
        taken[_label(example)] = taken.get(_label(example), 0) + 1
        ranks.append(taken[_label(example)])
    even = sorted(range(len(order)), key=lambda i: ranks[i])[:count]
    return [order[i] for i in rng.permutation(even)]


def _content_free(fields: Sequence[str], text: str) -> Example:
    from fewtune.tasks.base import Example

    return Example(f"content-free:{text}", dict.fromkeys(fields, text), None)


def _label(example: Example) -> int:
    from fewtune.errors import DataError

    if example.label is None:
        raise DataError(f"row {example.row_id!r} has no label and cannot be a demonstration")
    return example.label


METHOD = Method(
    name="in_context",
    summary="demonstrations before the query, best-scoring label word after it; nothing trains",
    source_url="https://arxiv.org/abs/2005.14165",
    settings=Settings,
    plan=plan,
    needs_pool=lambda settings: settings.calibration == "batch",
)
