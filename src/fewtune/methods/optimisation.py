"""Optimisation settings of every trained method: epochs, batch size, learning rate, schedule.

Owns the fields' meaning, units, bounds and defaults, in one place. A default that differs stands with its method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field

from fewtune.engine.schedule import Optimisation
from fewtune.methods.base import LARGEST_NUMBER, LARGEST_RATE, MOST_EPOCHS
from fewtune.methods.class_weights import ClassWeight

if TYPE_CHECKING:
    from fewtune.models.architectures.base import Ability
    from fewtune.tasks.base import Task

MOST_STEPS = 10_000_000

Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS, description="Passes over the support.")]
Steps = Annotated[
    int | None,
    Field(
        ge=1,
        le=MOST_STEPS,
        description="Steps of the fit, however many rows there are: passes go on until then, in place of `epochs`; "
        "null: what the epochs make.",
    ),
]
BatchSize = Annotated[int, Field(ge=1, le=1_000_000, description="Rows a step.")]
LearningRate = Annotated[float, Field(gt=0, le=LARGEST_RATE, description="Peak rate of AdamW.")]
WeightDecay = Annotated[
    float, Field(ge=0, le=LARGEST_RATE, description="Decoupled weight decay a step, times the rate.")
]
WarmupFraction = Annotated[float, Field(ge=0, le=1, description="Share of the steps over which the rate rises.")]
RateSchedule = Annotated[
    Literal["constant", "linear", "cosine"], Field(description="What the rate does after its warm-up.")
]
ClipNorm = Annotated[float, Field(gt=0, le=LARGEST_NUMBER, description="Largest norm of a step's gradient.")]
ValidationFraction = Annotated[
    float,
    Field(
        ge=0,
        lt=1,
        description="Share of the support kept out of the fit to choose the epoch; 0: the last step is kept.",
    ),
]
PatternName = Annotated[str | None, Field(description="Name of the task's pattern; null: its first.")]

HeadStart = Literal["random", "zero", "regression"]
ReadoutKind = Literal["label_words", "head"]
ReadoutChoice = Annotated[
    ReadoutKind,
    Field(description="What reads the answer: label words, or a fresh linear head on the prompt's last token."),
]


def needs_of_readout(settings: Any) -> frozenset[Ability]:
    """What a model must be able to do for the readout that a method's settings choose."""
    return frozenset({"label_words"} if settings.readout == "label_words" else ())


@dataclass(frozen=True)
class Recipe:
    """What every method that trains can set, whatever it trains on; a method's settings add their own to these."""

    pattern: PatternName = None
    batch_size: BatchSize = 16
    learning_rate: LearningRate = 2e-5
    weight_decay: WeightDecay = 0.0
    warmup_fraction: WarmupFraction = 0.1
    schedule: RateSchedule = "linear"
    clip_norm: ClipNorm = 1.0
    steps: Steps = None


@dataclass(frozen=True)
class FineTuning(Recipe):
    """What every method that fine-tunes on the support's labels can set."""

    epochs: Epochs = 40
    validation_fraction: ValidationFraction = 0.0
    class_weight: ClassWeight = None


EPOCHS_BY_READOUT: Mapping[ReadoutKind, int] = {"label_words": 10, "head": 40}
"""Epochs where none are given. Ten were measured with label words alone (docs/defaults.md); a head starts untrained."""


@dataclass(frozen=True)
class TuningByReadout(FineTuning):
    """Fine-tuning whose number of epochs, where none is given, goes with the readout."""

    readout: ReadoutChoice = "label_words"
    epochs: Annotated[
        Epochs | None, Field(description="Passes over the support; null: 10 with label words, 40 with a head.")
    ] = None  # type: ignore[assignment]  # null stands for what suits what reads the answer


ByReadout = TypeVar("ByReadout", bound=TuningByReadout)


def list_read(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a method's settings that have an effect: with a number of steps the epochs have none."""
    return {key: value for key, value in settings.items() if key != "epochs" or settings.get("steps") is None}


def resolve_epochs(settings: ByReadout, task: Task, shots: int, pool_rows: int) -> ByReadout:
    """Epochs that suit what reads the answer, where none are given."""
    return settings if settings.epochs else replace(settings, epochs=EPOCHS_BY_READOUT[settings.readout])


def read_optimisation(
    settings: Recipe, epochs: int, plateau_patience: int = 2, plateau_factor: float = 0.5
) -> Optimisation:
    """How the loop steps, from a trained method's settings; the plateau's matter to that schedule alone."""
    return Optimisation(
        epochs=epochs,
        batch_size=settings.batch_size,
        weight_decay=settings.weight_decay,
        warmup_fraction=settings.warmup_fraction,
        schedule=settings.schedule,
        clip_norm=settings.clip_norm,
        plateau_patience=plateau_patience,
        plateau_factor=plateau_factor,
        steps=settings.steps,
    )
