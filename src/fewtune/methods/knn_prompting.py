"""kNN prompting: the answer of the labelled rows that the model, behind demonstrations, answers most like a row.

Owns its settings, and which support rows are shown and which vote. Nothing trains, and no label word is scored. Source:
Xu et al. 2023, https://arxiv.org/abs/2303.13824
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import MOST_DEMONSTRATIONS, Method

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Example, Task


@dataclass(frozen=True)
class Settings:
    """How many rows are shown, how many vote, and what makes them near."""

    demonstrations: Annotated[
        int | None,
        Field(
            ge=0,
            le=MOST_DEMONSTRATIONS,
            description="Labelled rows shown before every row; the others vote. null: half of the support.",
        ),
    ] = None
    neighbours: Annotated[int, Field(ge=1, le=MOST_DEMONSTRATIONS, description="Nearest labelled rows that vote.")] = 3
    by: Annotated[
        Literal["vocabulary", "states"],
        Field(
            description="vocabulary: near is a small KL divergence of the next token's distribution from the row's. "
            "states: a small angle between the states that it is read from."
        ),
    ] = "vocabulary"
    pattern: Annotated[str | None, Field(description="Name of the task's pattern; null: its first.")] = None
    separator: Annotated[str, Field(description="Text between demonstrations.")] = "\n\n"


def resolve(settings: Settings, task: Task, shots: int, pool_rows: int) -> Settings:
    """Half of the support is shown where a study does not say."""
    shown = settings.demonstrations
    return replace(settings, demonstrations=shots // 2 if shown is None else shown)


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Let the frozen model read the support's other rows behind some of it, and score rows by those nearest."""
    from fewtune.engine.readouts import NearnessReadout, NextTokenReadout, StateReadout
    from fewtune.methods.answer import choose_pattern
    from fewtune.methods.plan import Plan
    from fewtune.predictors.language import LanguageScorer, Prompting
    from fewtune.predictors.manifest import ContextPart
    from fewtune.predictors.neighbours import Neighbours
    from fewtune.predictors.network import Unchanged
    from fewtune.predictors.predictor import Predictor
    from fewtune.prompts.demonstrations import choose_demonstrations, known_label, write_context
    from fewtune.prompts.tokens import Encoder
    from fewtune.records import DemonstrationNotes, MethodNotes, PromptNotes

    assert model is not None and settings.demonstrations is not None
    pattern = choose_pattern(task, settings.pattern)
    shown, voting = split_support(draw, choose_demonstrations(draw.support, settings.demonstrations, rng))
    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    before = write_context(encoder, pattern, shown, settings.separator)
    forward = model.forward(model.frozen)
    reads = NextTokenReadout() if settings.by == "vocabulary" else StateReadout(unit=True)
    anchors = Prompting(forward, encoder, pattern.template, reads).read(voting, before).astype(np.float32)
    labels_of = tuple(known_label(row) for row in voting)
    neighbours = Neighbours(anchors, labels_of, len(task.labels), settings.neighbours, settings.by)
    prompting = Prompting(forward, encoder, pattern.template, NearnessReadout(anchors, settings.by))
    scorer = LanguageScorer(model, prompting, Unchanged(), (ContextPart(before=before),), reader=neighbours)
    demonstrations = DemonstrationNotes(rows=[row.row_id for row in shown], log_prior=[0.0] * len(task.labels))
    return Plan(
        predictor=Predictor(task.labels, task.fields, scorer),
        forward=forward,
        total_parameters=model.total_parameters,
        report=lambda: MethodNotes(
            prompt=PromptNotes(pattern=pattern.name, template=pattern.template, cut=encoder.count_cut()),
            demonstrations=demonstrations,
        ),
    )


def split_support(draw: Draw, shown: list[Example]) -> tuple[list[Example], list[Example]]:
    """The rows that are shown, and all others, which vote; raises DataError where none is left to."""
    from fewtune.errors import DataError

    taken = {row.row_id for row in shown}
    voting = [row for row in draw.support if row.row_id not in taken]
    if not voting:
        raise DataError(
            f"all {len(draw.support)} support rows are shown, and none is left to vote. Use fewer demonstrations, or "
            "more shots."
        )
    return shown, voting


METHOD = Method(
    name="knn_prompting",
    summary="demonstrations before the row; the support rows that the model answers most like it vote; nothing trains",
    source_url="https://arxiv.org/abs/2303.13824",
    settings=Settings,
    plan=plan,
    needs=lambda settings: frozenset({"label_words", "reads_on"}),
    uses_fit_seed=lambda settings: settings.demonstrations != 0,
    resolve=resolve,
)
