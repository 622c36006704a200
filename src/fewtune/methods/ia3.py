"""(IA)³: learned vectors scale attention and feed-forward activations, the model itself frozen; head or label words.

Owns its settings and composition; the vectors, and the layers they scale in each architecture, are PEFT's: keys, values
and feed-forward activations of LLaMA and Mistral, as in the paper; queries and keys of OPT, queries and values of Gemma
and Qwen, all three of GPT-2 and GPT-NeoX, which have them in one.
Source: Liu et al. 2022, https://arxiv.org/abs/2205.05638
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fewtune.methods.base import Method
from fewtune.methods.optimisation import LearningRate, TuningByReadout, needs_of_readout, resolve_epochs

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedConfig, PreTrainedModel

    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan
    from fewtune.tasks.base import Draw, Task


@dataclass(frozen=True)
class Settings(TuningByReadout):
    """What reads the answer, and how the vectors train."""

    learning_rate: LearningRate = 3e-3


def skip_reason(settings: Settings, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Say so where PEFT does not know which layers of an architecture to scale."""
    from fewtune.models.adapters import IA3_FEEDFORWARD_MODULES, IA3_TARGET_MODULES

    known = set(IA3_TARGET_MODULES) & set(IA3_FEEDFORWARD_MODULES)
    if config is None or config.model_type in known:
        return None
    return (
        f"PEFT names no (IA)³ layers for model type {config.model_type!r}, "
        f"only for {', '.join(sorted(known, key=str.casefold))}: use one of these, or lora"
    )


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Hang scaling vectors on the architecture's layers and train them, and the head where one is read."""
    from fewtune.methods.answer import choose_answer, head_parameters
    from fewtune.methods.fine_tuning import plan_training
    from fewtune.methods.trainable import Trained, trainable_group
    from fewtune.predictors.network import Adapter

    assert model is not None
    answer = choose_answer(settings.readout, model, task, draw, settings.pattern, rng)
    network = model.adaptable_copy()
    wrapped = _add_vectors(network, int(rng.integers(2**63)))
    group = trainable_group("vectors", network, settings.learning_rate)
    trained = Trained(model.forward(network), (group,), Adapter(wrapped))
    return plan_training(settings, draw, answer, trained.join(head_parameters(answer, settings.learning_rate)), rng)


def _add_vectors(network: PreTrainedModel, seed: int) -> PeftModel:
    """Put PEFT's vectors, all ones at first, into a frozen network's layers."""
    import torch

    from fewtune.engine.layers import holds_transposed
    from fewtune.models.adapters import IA3Config, get_peft_model
    from fewtune.models.architectures import architecture_of

    # PEFT draws from torch's global generator before it sets the vectors: seeded here, given back after.
    with torch.random.fork_rng(), warnings.catch_warnings():
        # PEFT asks Transformers for something by its old name; the user can do nothing about it.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        torch.manual_seed(seed)
        task: Any = architecture_of(network).peft_task
        return get_peft_model(network, IA3Config(task_type=task, fan_in_fan_out=holds_transposed(network)))


METHOD = Method(
    name="ia3",
    summary="vectors that scale attention and feed-forward activations (PEFT); head or label words",
    source_url="https://arxiv.org/abs/2205.05638",
    settings=Settings,
    plan=plan,
    needs=needs_of_readout,
    defaults_tried={"sentiment": 12, "cola": 10, "qqp": 2, "snli": 2},
    skip_reason=skip_reason,
    resolve=resolve_epochs,
)
