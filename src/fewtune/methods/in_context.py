"""In-context learning: demonstrations before the query, the best-scoring label word after it; nothing trains.

Owns its settings; contexts and their calibration are `contexts`. Source: Brown et al. 2020,
https://arxiv.org/abs/2005.14165
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import MOST_DEMONSTRATIONS, Method
from fewtune.prompts.calibration import Calibration

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


CONTEXTS = 4
"""Contexts where a study does not say, and what stands in them is drawn at random."""


@dataclass(frozen=True)
class Settings:
    """Which demonstrations stand before the query and how label words' scores are calibrated."""

    demonstrations: Annotated[
        Annotated[int, Field(ge=0, le=MOST_DEMONSTRATIONS)] | Literal["all"],
        Field(
            description="Labelled rows shown before the query; at most the support has, and as many as the model can "
            "read with a row behind them that is as long as the longest of these. all: as many as that allows."
        ),
    ] = 16
    selection: Annotated[
        Literal["random", "nearest"],
        Field(
            description="random: the same rows before every query. nearest: before each query those whose texts are "
            "nearest to its own, by the model's states; no query shares its prompt with another, which takes longer."
        ),
    ] = "random"
    contexts: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="Contexts of so many demonstrations, each drawn anew, whose probabilities are averaged; null: "
            f"{CONTEXTS}, or 1 where nothing or the nearest is shown.",
        ),
    ] = None
    calibration: Annotated[
        Calibration | Literal["scored"] | None,
        Field(
            description="none: label words as scored. contextual: divide by the mean label probabilities of "
            "content-free inputs. domain: of texts of the support's words in random order. batch: subtract the mean "
            "log-probability over the unlabelled pool. scored: over the rows that are scored together, or as "
            "domain does where these are few. null: batch where there is a pool, else contextual."
        ),
    ] = None
    pattern: Annotated[str | None, Field(description="Name of the task's pattern; null: its first.")] = None
    separator: Annotated[str, Field(description="Text between demonstrations.")] = "\n\n"
    per_token: Annotated[
        bool,
        Field(
            description="Score label words of several tokens by the mean log-likelihood of a token, so that long ones "
            "are no less likely for that; false: by the whole word's."
        ),
    ] = False


def resolve(settings: Settings, task: Task, shots: int, pool_rows: int) -> Settings:
    """Several contexts where these are drawn, and the calibration that the rows at hand allow."""
    several = settings.selection == "random" and settings.demonstrations != 0
    contexts = settings.contexts or (CONTEXTS if several else 1)
    calibration = settings.calibration or ("batch" if pool_rows else "contextual")
    return replace(settings, contexts=contexts, calibration=calibration)


def skip_reason(settings: Settings, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Say so where nearest demonstrations or a mean over a word's tokens are asked for and there can be none."""
    asked = [pattern for pattern in task.patterns if settings.pattern in (None, pattern.name)]
    if settings.per_token and asked and asked[0].constrained:
        return "a constrained pattern scores no token that tells no labels apart: set per_token to false"
    if settings.selection != "nearest":
        return None
    if settings.contexts not in (None, 1):
        return "the nearest demonstrations make one context: set contexts to 1"
    if settings.demonstrations == "all":
        return "selection: nearest shows some of the support: give demonstrations a number"
    return "selection: nearest shows no row where demonstrations is 0" if settings.demonstrations == 0 else None


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Show demonstrations from the support, score label words, calibrate."""
    from fewtune.methods.answer import answer_by_label_words, choose_pattern
    from fewtune.methods.contexts import ContextSettings, make_contexts, show_nearest, warn_of_short_contexts
    from fewtune.methods.plan import Plan
    from fewtune.predictors.manifest import ContextPart
    from fewtune.predictors.network import Unchanged
    from fewtune.records import DemonstrationNotes

    assert model is not None and settings.contexts is not None and settings.calibration is not None  # resolved
    forward = model.forward(model.frozen)
    answer = answer_by_label_words(model, task, draw, settings.pattern, "label_words", settings.per_token)
    centred = settings.calibration == "scored"
    calibration: Calibration = "domain" if settings.calibration == "scored" else settings.calibration
    count = None if settings.demonstrations == "all" else settings.demonstrations
    asked = ContextSettings(settings.contexts, count, calibration, settings.separator)
    pattern = choose_pattern(task, settings.pattern)
    nearest = None
    if settings.selection == "nearest":
        nearest, alone = show_nearest(asked, answer.prompt(forward), pattern, draw, rng)
        contexts = [alone]
    else:
        contexts = make_contexts(asked, answer.prompt(forward), pattern, draw, rng)
    priors = [None if context.log_prior is None else tuple(map(float, context.log_prior)) for context in contexts]
    first, *others = [
        DemonstrationNotes(rows=[row.row_id for row in context.rows], log_prior=list(prior or [0.0] * len(task.labels)))
        for context, prior in zip(contexts, priors, strict=True)
    ]
    shown = first.model_copy(update={"others": others})
    parts = [
        ContextPart(log_prior=prior, centred=centred, nearest=nearest.part)
        if nearest is not None
        else ContextPart(before=str(context.before), log_prior=prior, centred=centred)
        for context, prior in zip(contexts, priors, strict=True)
    ]
    warnings = warn_of_short_contexts(asked, contexts)
    unlabelled = {"batch": "pool", "scored": "scored"}.get(settings.calibration)
    return Plan(
        predictor=answer.predict_with(forward, Unchanged(), parts, nearest),
        forward=forward,
        total_parameters=model.total_parameters,
        report=lambda: answer.report().model_copy(
            update={"demonstrations": shown, "unlabelled": unlabelled, "warnings": warnings}
        ),
    )


METHOD = Method(
    name="in_context",
    trains=False,
    summary="demonstrations before the query, best-scoring label word after it; nothing trains",
    source_url="https://arxiv.org/abs/2005.14165",
    settings=Settings,
    plan=plan,
    skip_reason=skip_reason,
    needs=lambda settings: frozenset({"label_words", "reads_on"} if settings.demonstrations else {"label_words"}),
    defaults_tried={"sentiment": 39, "cola": 34, "qqp": 30, "snli": 30},
    uses_fit_seed=lambda settings: (
        (settings.demonstrations != 0 and settings.selection == "random")
        or settings.calibration in ("domain", "scored")
    ),
    revision=3,  # a number of demonstrations that the model cannot read is lowered
    needs_pool=lambda settings: settings.calibration == "batch",
    resolve=resolve,
)
