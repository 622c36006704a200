"""Adaptive fine-tuning: the last blocks, the final norm and the head train, each group at its own rate.

Owns its settings and its parameter groups. Layer-wise decayed rates: Howard and Ruder 2018,
https://arxiv.org/abs/1801.06146 (discriminative rates, gradual unfreezing); the published comparison is
https://arxiv.org/abs/2405.13181, whose decay never applied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from fewtune.engine.schedule import Schedule
from fewtune.methods.base import LARGEST_RATE, MOST_BLOCKS, MOST_EPOCHS, Method, refuse_beyond_blocks
from fewtune.methods.optimisation import FineTuning, ReadoutChoice, needs_of_readout, read_optimisation

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


DEFAULT_RATES = {"label_words": 2e-5, "head": 2e-4}
"""A head starts from nothing and has far to go; label words start from what the model already knows."""
DEFAULT_BLOCKS: dict[str, float] = {"label_words": 0.5, "head": 4}
"""Half of the depth was measured with label words alone (docs/defaults.md)."""


@dataclass(frozen=True)
class Settings(FineTuning):
    """Which blocks train, at which rates, and what reads the answer."""

    blocks: Annotated[
        Annotated[int, Field(ge=1, le=MOST_BLOCKS)] | Annotated[float, Field(gt=0, lt=1)] | None,
        Field(
            description="Last transformer blocks that train, or under 1 the share of all; those before are frozen. "
            "null: half of them with label words, 4 with a head."
        ),
    ] = None
    decay: Annotated[
        float, Field(gt=0, le=1, description="A block d blocks below the top trains at rate x decay ^ (d + 1).")
    ] = 0.95
    unfreeze_every: Annotated[
        int,
        Field(
            ge=0,
            le=MOST_EPOCHS,
            description="Epochs between unfreezing one block and the next below it; 0: all at once.",
        ),
    ] = 0
    readout: ReadoutChoice = "label_words"
    learning_rate: Annotated[
        float | None,
        Field(gt=0, le=LARGEST_RATE, description="Peak rate of AdamW; null: 2e-5 with label words, 2e-4 with a head."),
    ] = None  # type: ignore[assignment]  # null stands for a rate that other settings choose
    schedule: Annotated[
        Schedule, Field(description="What the rate does after its warm-up; plateau: falls when the loss does not.")
    ] = "linear"  # type: ignore[assignment]  # one schedule more than the others have
    plateau_patience: Annotated[
        int,
        Field(
            ge=1, le=MOST_EPOCHS, description="Epochs without a lower mean loss before the rate falls, under plateau."
        ),
    ] = 2
    plateau_factor: Annotated[
        float, Field(gt=0, lt=1, description="What the rate is multiplied by when it falls, under plateau.")
    ] = 0.5


def resolve(settings: Settings, task: Task, shots: int, pool_rows: int) -> Settings:
    """Blocks and a rate that suit what reads the answer, where none are given."""
    rate, blocks = settings.learning_rate, settings.blocks
    return replace(
        settings,
        learning_rate=DEFAULT_RATES[settings.readout] if rate is None else rate,
        blocks=DEFAULT_BLOCKS[settings.readout] if blocks is None else blocks,
    )


def skip_reason(settings: Settings, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Say so where the model has fewer blocks than should train."""
    return refuse_beyond_blocks("blocks", int(settings.blocks or 0), config)


def count_blocks(wanted: float, depth: int) -> int:
    """How many blocks train of a model of so many: as many as are wanted, or under 1 that share, at least one."""
    return int(wanted) if wanted >= 1 else max(1, round(wanted * depth))


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Train the last blocks, the final norm and the head, each a group of its own."""
    from fewtune.methods.answer import choose_answer, head_parameters
    from fewtune.methods.fine_tuning import plan_training
    from fewtune.methods.trainable import train_last_blocks

    assert model is not None and settings.learning_rate is not None and settings.blocks is not None
    answer = choose_answer(settings.readout, model, task, draw, settings.pattern, rng)
    rate = settings.learning_rate
    trained = train_last_blocks(
        model,
        count_blocks(settings.blocks, model.config.num_hidden_layers),
        rate,
        settings.decay,
        settings.unfreeze_every,
    )
    optimisation = read_optimisation(settings, settings.epochs, settings.plateau_patience, settings.plateau_factor)
    trained = trained.join(head_parameters(answer, rate), first=True)
    return plan_training(settings, draw, answer, trained, rng, optimisation)


METHOD = Method(
    name="adaptive",
    summary="last blocks, final norm and head, at layer-wise decayed rates; gradual unfreezing, plateau",
    source_url="https://arxiv.org/abs/1801.06146",
    settings=Settings,
    plan=plan,
    revision=2,  # trained from the file's weights, not from bfloat16's
    needs=needs_of_readout,
    defaults_tried={"sentiment": 20, "cola": 14, "qqp": 8, "snli": 4},
    skip_reason=skip_reason,
    resolve=resolve,
)
