"""BitFit: every bias of the network trains, all else stays frozen; head or label words.

Owns its settings and which tensors are biases. Does not know what reads the answer.
Source: Zaken et al. 2022, https://arxiv.org/abs/2106.10199
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import Method
from fewtune.methods.optimisation import (
    BatchSize,
    ClipNorm,
    Epochs,
    LearningRate,
    PatternName,
    RateSchedule,
    ValidationFraction,
    WarmupFraction,
    WeightDecay,
    read_optimisation,
)

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

    from fewtune.engine.plan import Plan
    from fewtune.models import LanguageModel
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings:
    """What reads the answer, and how the biases train."""

    reads: Annotated[
        Literal["label_words", "head"],
        Field(description="What reads the answer: label words, or a fresh linear head on the prompt's last token."),
    ] = "label_words"
    pattern: PatternName = None
    epochs: Epochs = 40
    batch_size: BatchSize = 16
    learning_rate: LearningRate = 1e-3
    weight_decay: WeightDecay = 0.0
    warmup_fraction: WarmupFraction = 0.1
    schedule: RateSchedule = "linear"
    clip_norm: ClipNorm = 1.0
    validation_fraction: ValidationFraction = 0.0


def skip_reason(settings: Settings, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Say so where the model has no biases."""
    from fewtune.models import sketch_network

    if config is None or _find_biases(_read_part(sketch_network(config), settings)):
        return None
    return (
        f"model type {config.model_type!r} has no biases, and they are all that bitfit trains: "
        "use a model that has them (OPT, GPT-2), or ia3, which trains as few parameters"
    )


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Train every bias, and the head where one is read, on the support."""
    import torch

    from fewtune.engine.forward import Forward
    from fewtune.engine.plan import ParameterGroup
    from fewtune.methods.blocks import choose_answer, head_parameters, plan_training

    assert model is not None
    answer = choose_answer(settings.reads, model, task, draw, settings.pattern, rng)
    network = model.adaptable_copy()
    biases = _find_biases(_read_part(network, settings))
    for bias in biases:
        # A frozen layer shares its bias, in the compute dtype: what trains is the trial's own, in float32.
        bias.data = bias.data.to(torch.float32, copy=True)
        bias.requires_grad_(True)
    groups = [
        ParameterGroup("biases", tuple(biases), settings.learning_rate),
        *head_parameters(answer, settings.learning_rate),
    ]
    return plan_training(
        draw,
        answer,
        Forward(network, model.precision),
        groups,
        read_optimisation(settings, settings.epochs),
        settings.validation_fraction,
        rng,
    )


def _read_part(network: PreTrainedModel, settings: Settings) -> nn.Module:
    """What of a network the answer is read from: a linear head leaves the language-model head out."""
    part: nn.Module = network.base_model if settings.reads == "head" else network
    return part


def _find_biases(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for name, parameter in module.named_parameters() if name.endswith("bias")]


METHOD = Method(
    name="bitfit",
    summary="every bias, all else frozen; head or label words",
    source_url="https://arxiv.org/abs/2106.10199",
    settings=Settings,
    plan=plan,
    skip_reason=skip_reason,
)
