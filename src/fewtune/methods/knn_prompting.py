"""kNN prompting: a vote of the labelled rows to which the model's answer is most alike.

Owns its settings, and which support rows are shown and which vote. Nothing trains, and no label word is scored. Source:
Xu et al. 2023, https://arxiv.org/abs/2303.13824
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import MOST_DEMONSTRATIONS, Method

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.predictors.language import Prompting
    from fewtune.tasks.base import Draw, Example, Task

By = Literal["vocabulary", "states"]
ROWS_OF_VOCABULARY = 64
"""Rows of which the probabilities of the whole vocabulary are held at once."""


@dataclass(frozen=True)
class Settings:
    """How many rows are shown, how many vote, and what makes them near."""

    demonstrations: Annotated[
        Annotated[int, Field(ge=1, le=MOST_DEMONSTRATIONS)] | Annotated[float, Field(ge=0, lt=1)],
        Field(
            description="Labelled rows shown before every row, or under 1 the share of the support; the others vote. "
            "Each label is shown by its share, and keeps a row that votes."
        ),
    ] = 0.5
    neighbours: Annotated[int, Field(ge=1, le=MOST_DEMONSTRATIONS, description="Nearest labelled rows that vote.")] = 3
    by: Annotated[
        By,
        Field(
            description="vocabulary: near is a small KL divergence of the next token's distributions, expected under "
            "the labelled row's. states: a small angle between the states that it is read from."
        ),
    ] = "vocabulary"
    pattern: Annotated[str | None, Field(description="Name of the task's pattern; null: its first.")] = None
    separator: Annotated[str, Field(description="Text between demonstrations.")] = "\n\n"


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
    from fewtune.prompts.demonstrations import count_fitting, known_label, write_context
    from fewtune.prompts.tokens import Encoder
    from fewtune.records import DemonstrationNotes, MethodNotes, PromptNotes

    assert model is not None
    pattern = choose_pattern(task, settings.pattern)
    wanted = settings.demonstrations
    shown, voting = split_support(draw.support, wanted if wanted >= 1 else wanted * len(draw.support), rng)
    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    fitting = count_fitting(encoder, pattern, shown, settings.separator)
    left_out = len(shown) - fitting
    shown, voting = shown[:fitting], [*voting, *shown[fitting:]]
    before = write_context(encoder, pattern, shown, settings.separator)
    forward = model.forward(model.frozen)
    reads = NextTokenReadout() if settings.by == "vocabulary" else StateReadout(unit=True)
    reading = Prompting(forward, encoder, pattern.template, reads)
    anchors = read_anchors(reading, voting, before)
    labels_of = tuple(known_label(row) for row in voting)
    neighbours = Neighbours(anchors, labels_of, len(task.labels), settings.neighbours, settings.by)
    prompting = replace(reading, readout=NearnessReadout(anchors, settings.by))
    scorer = LanguageScorer(model, prompting, Unchanged(), (ContextPart(before=before),), reader=neighbours)
    demonstrations = DemonstrationNotes(rows=[row.row_id for row in shown], log_prior=[0.0] * len(task.labels))
    return Plan(
        predictor=Predictor(task.labels, task.fields, scorer),
        forward=forward,
        total_parameters=model.total_parameters,
        report=lambda: MethodNotes(
            prompt=PromptNotes(pattern=pattern.name, template=pattern.template, cut=encoder.count_cut()),
            demonstrations=demonstrations,
            warnings=[_format_shortage(left_out, left_out + fitting)] if left_out else [],
        ),
    )


def _format_shortage(left_out: int, wanted: int) -> str:
    """Say how many demonstrations found no room; those that did are the first in a random order."""
    return f"{left_out} of {wanted} demonstrations were left out, for want of room before a row: they vote instead"


def split_support(
    support: Sequence[Example], wanted: float, rng: np.random.Generator
) -> tuple[list[Example], list[Example]]:
    """So many rows to show, in random order, by each label's share; the others, of each label at least one.

    A share that is no whole number is rounded down, and the labels of the largest remainders have one more.
    """
    order = [support[place] for place in rng.permutation(len(support))]
    counts = Counter(row.label for row in order)
    shares = {label: wanted * count / len(order) for label, count in counts.items()}
    quota = {label: min(counts[label] - 1, math.floor(share)) for label, share in shares.items()}
    for label in sorted(shares, key=lambda label: math.floor(shares[label]) - shares[label]):
        if sum(quota.values()) < round(wanted) and quota[label] < counts[label] - 1:
            quota[label] += 1
    shown: list[Example] = []
    voting: list[Example] = []
    for row in order:
        to_show = quota[row.label] > 0
        quota[row.label] -= to_show
        (shown if to_show else voting).append(row)
    return shown, voting


def read_anchors(reading: Prompting, rows: Sequence[Example], before: str) -> np.ndarray:
    """What the model says of the rows that vote, as `Neighbours` holds it, float32."""
    parts = [rows[start : start + ROWS_OF_VOCABULARY] for start in range(0, len(rows), ROWS_OF_VOCABULARY)]
    return np.concatenate([reading.read(part, before).astype(np.float32) for part in parts])


METHOD = Method(
    name="knn_prompting",
    trains=False,
    revision=4,  # by states, rows that vote and rows that ask are cut alike
    summary="demonstrations before the row; the support rows that the model answers most like it vote; nothing trains",
    source_url="https://arxiv.org/abs/2303.13824",
    settings=Settings,
    plan=plan,
    needs=lambda settings: frozenset({"label_words", "reads_on"}),
    defaults_tried={"sentiment": 2, "cola": 2, "qqp": 2, "snli": 2},
    uses_fit_seed=lambda settings: settings.demonstrations != 0,
)
