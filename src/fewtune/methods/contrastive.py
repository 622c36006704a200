"""Contrastive fine-tuning (SetFit): pairs of one label draw together, others apart; then logistic regression.

Owns its settings, the pairs and the loss: the squared difference between the cosine of two embeddings and whether their
labels are equal. The regression is `embeddings`'. Source: Tunstall et al. 2022, https://arxiv.org/abs/2209.11055
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from fewtune.methods import embeddings
from fewtune.methods.base import MOST_EPOCHS, Method
from fewtune.methods.class_weights import ClassWeight
from fewtune.methods.embeddings import USUAL_PENALTY
from fewtune.methods.optimisation import LearningRate, Recipe, read_optimisation
from fewtune.methods.penalty import InversePenalty

if TYPE_CHECKING:
    import torch

    from fewtune.engine.fitting import FitExample
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.predictors.predictor import Predictor
    from fewtune.records import PenaltyNotes
    from fewtune.tasks.base import Draw, Task


MOST_LISTED = 50_000_000
"""Pairs that are listed to draw from: those of 10,000 rows."""


@dataclass(frozen=True)
class Settings(Recipe):
    """Which pairs are learnt, how the encoder trains on them, and how strongly the regression is held back."""

    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS, description="Passes over the pairs.")] = 1
    most_pairs: Annotated[
        int,
        Field(ge=2, le=10_000_000, description="Pairs, half of equal labels and half of unlike ones: at most so many."),
    ] = 2000
    learning_rate: LearningRate = 1e-4
    inverse_penalty: InversePenalty = USUAL_PENALTY
    class_weight: ClassWeight = None


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Train every weight on pairs of the support, then fit the regression on its embeddings."""
    import torch
    import torch.nn.functional as F  # noqa: N812 - the name the field uses

    from fewtune.engine.fitting import FitExample, Fitting
    from fewtune.engine.to_device import to_device
    from fewtune.methods.embeddings import count_weights, prompt_plainly, read_embeddings
    from fewtune.methods.plan import Plan
    from fewtune.methods.trainable import train_all
    from fewtune.predictors.language import encode_rows
    from fewtune.records import MethodNotes, PromptNotes

    assert model is not None
    trained = train_all(model, settings.learning_rate, body_only=True)
    prompting = prompt_plainly(model, task, trained.forward)
    prompts = encode_rows(prompting.encoder, prompting.template, prompting.readout, draw.support)
    pairs = draw_pairs([row.label or 0 for row in draw.support], settings.most_pairs, rng)
    examples = tuple(
        FitExample(prompts[first], None, np.array([float(alike)]), prompts[second]) for first, second, alike in pairs
    )

    def loss(batch: Sequence[FitExample]) -> torch.Tensor:
        packed = trained.forward.pack([prompt for e in batch for prompt in (e.prompt, e.other)])
        indices = prompting.readout.token_indices(trained.forward, packed)
        states = trained.forward.hidden_states(packed, indices)
        embedded = prompting.readout.read(trained.forward, states, packed)
        cosine = F.cosine_similarity(embedded[::2], embedded[1::2])
        alike = torch.tensor([float(t[0]) for e in batch if (t := e.target) is not None])
        return (cosine - to_device(alike, cosine.device)) ** 2

    penalties: list[PenaltyNotes | None] = []  # of each reading, the last one's is the predictor's

    regression = embeddings.Settings(settings.inverse_penalty, settings.class_weight)

    def read_out() -> Predictor:
        predictor, penalty = read_embeddings(model, task, draw, prompting, trained.change, regression)
        penalties.append(penalty)
        return predictor

    forward = trained.forward
    return Plan(
        predictor=read_out(),
        fitting=Fitting(
            trained.groups,
            examples,
            loss,
            read_optimisation(settings, settings.epochs),
            (forward.network,),
            forward.options,
        ),
        forward=forward,
        trainable_parameters=sum(p.numel() for group in trained.groups for p in group.parameters),
        total_parameters=model.total_parameters + count_weights(task, model.width),
        report=lambda: MethodNotes(
            prompt=PromptNotes(template=prompting.template, cut=prompting.encoder.count_cut()),
            penalty=penalties[-1],
            other={"pairs": len(pairs)},
        ),
        read_out=read_out,
    )


def draw_pairs(labels: Sequence[int], most: int, rng: np.random.Generator) -> list[tuple[int, int, bool]]:
    """Pairs of rows' places, and whether their labels are equal: as many equal ones as unlike ones, in random order.

    All pairs of rows, each with itself too; the fewer kind is drawn again until it is as many, as SetFit does by
    `oversampling`. Of more than `most` pairs so many are drawn.
    """
    known = np.asarray(labels)
    if len(known) * (len(known) + 1) // 2 > MOST_LISTED:
        return _draw_from_many(known, most // 2, rng)
    first, second = np.triu_indices(len(known))
    alike = known[first] == known[second]
    kinds = [np.flatnonzero(alike == kind) for kind in (True, False)]
    wanted = min(max(map(len, kinds)), most // 2)
    chosen: list[int] = []
    for members in kinds:
        order = rng.permutation(members)
        chosen += np.resize(order, wanted).tolist() if len(order) else []
    return [(int(first[place]), int(second[place]), bool(alike[place])) for place in rng.permutation(chosen)]


def _draw_from_many(labels: np.ndarray, wanted: int, rng: np.random.Generator) -> list[tuple[int, int, bool]]:
    """The same of rows whose pairs are too many to be listed: numbers of pairs are drawn, and say which they are."""
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = np.array([len(each) for each in members])
    pairs = [(first, second) for first in range(len(members)) for second in range(first + 1, len(members))]
    alike = _draw_numbers(sizes * (sizes + 1) // 2, wanted, rng)
    unlike = _draw_numbers(np.array([sizes[first] * sizes[second] for first, second in pairs]), wanted, rng)
    chosen: list[tuple[int, int, bool]] = []
    for block, number in alike:
        later = int((math.isqrt(8 * number + 1) - 1) // 2)  # pair 0 is (0, 0), then (0, 1), (1, 1), (0, 2) …
        rows = members[block]
        chosen.append((int(rows[number - later * (later + 1) // 2]), int(rows[later]), True))
    for block, number in unlike:
        first, second = (members[label] for label in pairs[block])
        chosen.append((int(first[number // len(second)]), int(second[number % len(second)]), False))
    return [chosen[place] for place in rng.permutation(len(chosen))]


def _draw_numbers(sizes: np.ndarray, wanted: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """So many of the numbered members of blocks of these sizes, each once before any twice: block, number within it."""
    ends = np.cumsum(sizes)
    total = int(ends[-1]) if len(ends) else 0
    if not total:
        return []
    drawn = np.resize(rng.choice(total, size=min(wanted, total), replace=False), wanted)
    blocks = np.searchsorted(ends, drawn, side="right")
    return [
        (int(block), int(number - (ends[block] - sizes[block]))) for block, number in zip(blocks, drawn, strict=True)
    ]


METHOD = Method(
    name="contrastive",
    summary="all weights by pairs of rows drawn together or apart, then logistic regression on embeddings (SetFit)",
    source_url="https://arxiv.org/abs/2209.11055",
    settings=Settings,
    plan=plan,
    uses_pattern=lambda settings: False,
    defaults_tried={"sentiment": 9, "cola": 9, "qqp": 2, "snli": 2},
)
