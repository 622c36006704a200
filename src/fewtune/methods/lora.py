"""LoRA: low-rank adapters on every linear layer, the model itself frozen; head or label words.

Owns its settings and composition; the adapters are PEFT's. Source: Hu et al. 2021,
https://arxiv.org/abs/2106.09685; on a 4-bit base: Dettmers et al. 2023, https://arxiv.org/abs/2305.14314; LoRA+:
Hayou et al. 2024, https://arxiv.org/abs/2402.12354
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.errors import format_install
from fewtune.methods.base import LARGEST_NUMBER, LARGEST_RATE, MOST_RANK, Method
from fewtune.methods.optimisation import LearningRate, TuningByReadout, needs_of_readout, resolve_epochs

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings(TuningByReadout):
    """The adapters' size, what reads the answer, and how they train."""

    rank: Annotated[int, Field(ge=1, le=MOST_RANK, description="Rank of each adapter.")] = 8
    alpha: Annotated[float, Field(gt=0, le=LARGEST_NUMBER, description="Adapters are scaled by alpha / rank.")] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1, description="Dropout before each adapter.")] = 0.0
    rank_stabilised: Annotated[
        bool, Field(description="Scale by alpha / sqrt(rank) instead (Kalajdzievski 2023, arXiv 2312.03732).")
    ] = False
    dora: Annotated[
        bool, Field(description="Learn each weight's magnitude apart from its direction (DoRA, arXiv 2402.09353).")
    ] = False
    targets: Annotated[
        Literal["all_linear", "query_value"],
        Field(description="Which layers get adapters: every linear one, or the query and value projections."),
    ] = "all_linear"
    base: Annotated[
        Literal["full", "4bit"],
        Field(
            description="How the frozen matrices are held: in the compute dtype, or quantised to 4-bit NormalFloat by "
            "bitsandbytes (QLoRA, Dettmers et al. 2023, arXiv 2305.14314)."
        ),
    ] = "full"
    b_rate_ratio: Annotated[
        float,
        Field(
            gt=0,
            le=LARGEST_RATE,
            description="B trains at this times A's rate (LoRA+, Hayou et al. 2024: 16; 1: LoRA).",
        ),
    ] = 1.0
    learning_rate: LearningRate = 5e-4


def skip_reason(settings: Settings, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Say so where PEFT does not know the asked layers, or a 4-bit base lacks its library, a fit model or machine."""
    if config is not None and settings.targets == "query_value" and config.model_type not in _list_known_types():
        return f"PEFT names no query and value layers for model type {config.model_type!r}: set targets to all_linear"
    if settings.base == "full":
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        return f"base 4bit needs bitsandbytes, which is not installed: {format_install('4bit')}"
    if config is None:
        return None
    from fewtune.engine.four_bit import find_obstacle
    from fewtune.engine.loading import sketch_network
    from fewtune.models import find_device

    obstacle = find_obstacle(sketch_network(config), find_device())
    return None if obstacle is None else f"base 4bit cannot be used, {obstacle}: set base to full"


def _list_known_types() -> frozenset[str]:
    """The model types whose query and value layers PEFT names."""
    from fewtune.models.adapters import LORA_TARGET_MODULES

    return frozenset(LORA_TARGET_MODULES)


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Hang adapters on every linear layer and train them, and the head where one is read, on the support."""
    from fewtune.methods.answer import choose_answer, head_parameters
    from fewtune.methods.fine_tuning import plan_training
    from fewtune.methods.trainable import LoraShape, train_lora

    assert model is not None
    answer = choose_answer(settings.readout, model, task, draw, settings.pattern, rng)
    shape = LoraShape(
        settings.rank,
        settings.alpha,
        settings.dropout,
        settings.rank_stabilised,
        settings.dora,
        settings.targets == "query_value",
        settings.b_rate_ratio,
    )
    trained = train_lora(model, shape, settings.learning_rate, rng, settings.base == "4bit")
    made = plan_training(settings, draw, answer, trained.join(head_parameters(answer, settings.learning_rate)), rng)
    # All that trains comes on top of the model, of whose parameters 4 bits pack two in a stored element.
    return replace(made, total_parameters=model.total_parameters + made.trainable_parameters)


METHOD = Method(
    name="lora",
    summary="low-rank adapters on every linear layer (PEFT); head or label words",
    source_url="https://arxiv.org/abs/2106.09685",
    settings=Settings,
    plan=plan,
    needs=needs_of_readout,
    defaults_tried={"sentiment": 12, "cola": 11, "qqp": 2, "snli": 2},
    skip_reason=skip_reason,
    resolve=resolve_epochs,
)
