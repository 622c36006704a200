"""BitFit: every bias of the network trains, all else stays frozen; head or label words.

Owns its settings and which tensors are biases. Does not know what reads the answer.
Source: Zaken et al. 2022, https://arxiv.org/abs/2106.10199
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fewtune.methods.base import Method
from fewtune.methods.optimisation import FineTuning, LearningRate, ReadoutChoice, needs_of_readout

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings(FineTuning):
    """What reads the answer, and how the biases train."""

    readout: ReadoutChoice = "label_words"
    learning_rate: LearningRate = 1e-3


def skip_reason(settings: Settings, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Say so where the model has no biases."""
    from fewtune.engine.loading import sketch_network
    from fewtune.models.architectures import find_architecture

    if config is None:
        return None
    network = sketch_network(config)
    # A linear head leaves the language-model head out.
    part = find_architecture(config).find_body(network) if settings.readout == "head" else network
    if any(_is_bias(name) for name, _ in part.named_parameters()):
        return None
    return (
        f"model type {config.model_type!r} has no biases, and they are all that bitfit trains: "
        "use a model that has them (OPT, GPT-2), or ia3, which trains as few parameters"
    )


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Train every bias, and the head where one is read, on the support."""
    from fewtune.methods.answer import choose_answer, head_parameters
    from fewtune.methods.fine_tuning import plan_training
    from fewtune.methods.trainable import train_chosen

    assert model is not None
    answer = choose_answer(settings.readout, model, task, draw, settings.pattern, rng)
    trained = train_chosen(model, "biases", _is_bias, settings.learning_rate, settings.readout == "head")
    return plan_training(settings, draw, answer, trained.join(head_parameters(answer, settings.learning_rate)), rng)


def _is_bias(tensor: str) -> bool:
    return tensor.endswith("bias")


METHOD = Method(
    name="bitfit",
    summary="every bias, all else frozen; head or label words",
    source_url="https://arxiv.org/abs/2106.10199",
    settings=Settings,
    plan=plan,
    revision=2,  # trained from the file's biases, not from bfloat16's
    needs=needs_of_readout,
    defaults_tried={"sentiment": 9, "cola": 9, "qqp": 2, "snli": 2},
    skip_reason=skip_reason,
)
