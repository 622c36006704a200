"""Self-training: a fitted model labels the unlabelled pool, and a fresh one is fitted on both.

Owns its settings, the labeller and the loss: cross-entropy on the support's labels, KL from the labeller's answers on
the pool. What trains is all weights under a pattern, as in `pattern`. Sources: Schick and Schuetze 2021,
https://arxiv.org/abs/2001.07676 (PET labels a pool so, with several patterns' models); Xie et al. 2020,
https://arxiv.org/abs/1911.04252
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import MOST_EPOCHS, Method
from fewtune.methods.optimisation import FineTuning, LearningRate, Recipe, read_optimisation
from fewtune.methods.pattern import METHOD as PATTERN
from fewtune.methods.pattern import Settings as PatternSettings

if TYPE_CHECKING:
    import torch

    from fewtune.engine.fitting import FitExample
    from fewtune.engine.forward import Forward
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.answer import Answer
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings(Recipe):
    """How the labeller is tuned, which of its answers are learnt, and how the second model trains on them.

    The labeller is tuned as `pattern` is by default; the second model has its rate.
    """

    learning_rate: LearningRate = PatternSettings.learning_rate
    labeller_epochs: Annotated[
        int,
        Field(
            ge=1,
            le=MOST_EPOCHS,
            description="Passes over the support that tune the labeller; it takes `steps`, too, where these are given.",
        ),
    ] = PatternSettings.epochs
    labels: Annotated[
        Literal["soft", "hard"],
        Field(description="Learn the labeller's probabilities, or its likeliest label as if it were true."),
    ] = "soft"
    keep: Annotated[
        float,
        Field(gt=0, le=1, description="Share of the pool that is learnt: of each label the surest answers."),
    ] = 1.0
    pool_weight: Annotated[
        float, Field(gt=0, le=1, description="What a row of the pool weighs beside one of the support.")
    ] = 1.0
    epochs: Annotated[int, Field(ge=1, le=MOST_EPOCHS, description="Passes over support and pool.")] = 10


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Tune the labeller, let it answer the pool, then train a fresh model on its answers and the support's labels."""
    from fewtune.methods.answer import answer_by_label_words
    from fewtune.methods.fine_tuning import assemble_plan, make_examples
    from fewtune.methods.trainable import train_all

    assert model is not None
    # A stream of its own, so that the second model's fit does not hang on how the labeller's went.
    (labeller_rng,) = rng.spawn(1)
    answer = answer_by_label_words(model, task, draw, settings.pattern, "label_words")
    scores = _label_pool(settings, model, answer, draw, labeller_rng)
    kept = choose_surest(scores, settings.keep)
    taught = [draw.pool[place] for place in kept]
    if settings.labels == "hard":
        taught = [replace(row, label=int(scores[place].argmax())) for row, place in zip(taught, kept, strict=True)]
    examples = make_examples(answer, [*draw.support, *taught], [None] * len(draw.support) + [scores[p] for p in kept])
    trained = train_all(model, settings.learning_rate, body_only=False)
    loss = _make_loss(settings, answer, trained.forward)
    made = assemble_plan(answer, trained, examples, loss, read_optimisation(settings, settings.epochs))
    notes = {"rows_taught": len(kept), "mean_confidence": float(np.exp(scores[kept]).max(axis=1).mean())}
    return replace(made, report=lambda: answer.report().model_copy(update={"unlabelled": "pool", "other": notes}))


def choose_surest(scores: np.ndarray, share: float) -> list[int]:
    """Of rows' log-probabilities (rows, labels): the places of each label's surest answers, in order, that share."""
    answers, sureness = scores.argmax(axis=1), scores.max(axis=1)
    kept: list[int] = []
    for label in np.unique(answers):
        members = np.flatnonzero(answers == label)
        surest = members[np.argsort(-sureness[members], kind="stable")]
        kept += surest[: max(1, round(share * len(members)))].tolist()
    return sorted(kept)


def _label_pool(
    settings: Settings, model: LanguageModel, answer: Answer, draw: Draw, rng: np.random.Generator
) -> np.ndarray:
    """The labeller's log-probabilities of the pool's rows, (rows, labels); its weights are let go of."""
    from fewtune.engine.fit import fit
    from fewtune.methods.fine_tuning import plan_training
    from fewtune.methods.trainable import train_all

    recipe = FineTuning(
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        epochs=settings.labeller_epochs,
        weight_decay=settings.weight_decay,
        warmup_fraction=settings.warmup_fraction,
        schedule=settings.schedule,
        clip_norm=settings.clip_norm,
        steps=settings.steps,
    )
    tuned = plan_training(recipe, draw, answer, train_all(model, settings.learning_rate, body_only=False), rng)
    assert tuned.fitting is not None
    fit(tuned.fitting, rng, lambda step, steps, loss: None)
    return tuned.score(draw.pool)


def _make_loss(settings: Settings, answer: Answer, forward: Forward) -> Callable[[Sequence[FitExample]], torch.Tensor]:
    """One loss an example: cross-entropy on a label, KL(labeller || model) on a soft answer, the pool's weighed."""
    import torch

    from fewtune.engine.to_device import to_device
    from fewtune.methods.distilling import compare_label_words
    from fewtune.methods.fine_tuning import read_batch

    def loss(batch: Sequence[FitExample]) -> torch.Tensor:
        (scores,) = read_batch(forward, batch, answer.readout)
        weights = [1.0 if e.target is None else settings.pool_weight for e in batch]
        total = torch.zeros(len(batch), device=scores.device)
        labelled = [i for i, e in enumerate(batch) if e.label is not None]
        if labelled:
            labels = to_device(torch.tensor([batch[i].label for i in labelled]), scores.device)
            places = to_device(torch.tensor(labelled), scores.device)
            total[places] = answer.loss(scores[places], labels)
        soft = [i for i, e in enumerate(batch) if e.label is None]
        if soft:
            given = torch.from_numpy(np.stack([t for i in soft if (t := batch[i].target) is not None]))
            places = to_device(torch.tensor(soft), scores.device)
            total[places] = compare_label_words(to_device(given, scores.device), scores[places], 1.0)
        return total * to_device(torch.tensor(weights), scores.device)

    return loss


METHOD = Method(
    name="self_training",
    summary="a model tuned on the support labels the pool; a fresh one learns both",
    source_url="https://arxiv.org/abs/2001.07676",
    settings=Settings,
    plan=plan,
    needs=lambda settings: frozenset({"label_words"}),
    needs_pool=lambda settings: True,
    defaults_tried=PATTERN.defaults_tried,
    revision=3,  # steps, where they are given, are the labeller's too
)
