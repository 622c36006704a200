"""LoRA: low-rank adapters on every linear layer, the model itself frozen; head or label words.

Owns its settings and composition; the adapters are PEFT's. Source: Hu et al. 2021,
https://arxiv.org/abs/2106.09685
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
    WarmupFraction,
    WeightDecay,
    read_optimisation,
)

if TYPE_CHECKING:
    from fewtune.engine.plan import Plan
    from fewtune.models import LanguageModel
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings:
    """The adapters' size, what reads the answer, and how they train."""

    rank: Annotated[int, Field(ge=1, description="Rank of each adapter.")] = 8
    alpha: Annotated[float, Field(gt=0, description="Adapters are scaled by alpha / rank.")] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1, description="Dropout before each adapter.")] = 0.0
    reads: Annotated[
        Literal["label_words", "head"],
        Field(description="What reads the answer: label words, or a fresh linear head on the prompt's last token."),
    ] = "label_words"
    pattern: PatternName = None
    epochs: Epochs = 40
    batch_size: BatchSize = 16
    learning_rate: LearningRate = 5e-4
    weight_decay: WeightDecay = 0.0
    warmup_fraction: WarmupFraction = 0.1
    schedule: RateSchedule = "linear"
    clip_norm: ClipNorm = 1.0


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Hang adapters on every linear layer and train them, and the head where one is read, on the support."""
    import warnings

    import torch
    from peft import LoraConfig, get_peft_model

    from fewtune.engine.forward import Forward
    from fewtune.methods.blocks import (
        adapter_parameters,
        answer_by_head,
        answer_by_label_words,
        head_parameters,
        plan_training,
    )

    assert model is not None
    if settings.reads == "head":
        answer = answer_by_head(model, task, settings.pattern, True, rng)
    else:
        answer = answer_by_label_words(model, task, draw, settings.pattern, "label_words")
    network = model.adaptable_copy()
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # PEFT only divides by it
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        # LoRA needs to know which layers hold weights transposed, as GPT-2's do.
        fan_in_fan_out=network.config.model_type == "gpt2",
    )
    # PEFT draws A from torch's global generator: seeded before the adapters are made, given back after.
    with torch.random.fork_rng(), warnings.catch_warnings():
        # PEFT asks Transformers for something by its old name; the user can do nothing about it.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(int(rng.integers(2**63)))
        get_peft_model(network, config)
    forward = Forward(network, model.precision)
    groups = [
        adapter_parameters(network, settings.learning_rate),
        *head_parameters(answer, settings.learning_rate),
    ]
    return plan_training(model, draw, answer, forward, groups, read_optimisation(settings))


METHOD = Method(
    name="lora",
    summary="low-rank adapters on every linear layer (PEFT); head or label words",
    source_url="https://arxiv.org/abs/2106.09685",
    settings=Settings,
    plan=plan,
)
