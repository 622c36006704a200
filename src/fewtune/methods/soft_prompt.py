"""Soft prompts: virtual tokens train before every row, the model frozen; embeddings, or each layer's keys and values.

Owns its settings, its composition and where the virtual tokens start; the encoders are PEFT's, the forward pass is the
packed one. Sources: prompt tuning, Lester et al. 2021, https://arxiv.org/abs/2104.08691; prefix tuning without
reparameterisation, Li and Liang 2021, https://arxiv.org/abs/2101.00190, who too start from real tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from fewtune.methods.base import Method
from fewtune.methods.optimisation import Epochs, FineTuning, LearningRate, ReadoutChoice, needs_of_readout

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from fewtune.engine.forward import Forward
    from fewtune.engine.language_model import LanguageModel
    from fewtune.engine.packing import Prefix
    from fewtune.methods.plan import Plan
    from fewtune.predictors.network import SoftTokensAdded
    from fewtune.tasks.base import Draw, Task

# Published prompt rates of 0.3 collapse here (docs/log.md): the loop is Adam on few rows, not Adafactor on many.
RATES_AND_EPOCHS = {"prompt": (3e-3, 40), "prefix": (1e-2, 40)}
"""Peak learning rate and epochs of each kind where the settings give none."""
PROMPT_FOR_LABEL_WORDS = (3e-2, 10)
"""The same of a prompt with label words: fewer steps were measured with them alone (docs/defaults.md)."""


@dataclass(frozen=True)
class Settings(FineTuning):
    """The virtual tokens' kind and number, what reads the answer, and how they train."""

    kind: Annotated[
        Literal["prompt", "prefix"],
        Field(description="Virtual tokens as embeddings (prompt tuning), or every layer's keys and values (prefix)."),
    ] = "prompt"
    tokens: Annotated[int, Field(ge=1, le=10_000, description="Virtual tokens before every row.")] = 16
    start: Annotated[
        Literal["vocabulary", "random"],
        Field(
            description="What they start as: the embeddings, or keys and values, of tokens drawn from the vocabulary; "
            "or a standard normal."
        ),
    ] = "vocabulary"
    readout: ReadoutChoice = "label_words"
    learning_rate: Annotated[
        LearningRate | None,
        Field(
            description="Peak rate of AdamW for the virtual tokens; null: 0.03 for a prompt with label words, 0.003 "
            "for one with a head, 0.01 for a prefix."
        ),
    ] = None  # type: ignore[assignment]  # null stands for a rate that other settings choose
    epochs: Annotated[
        Epochs | None,
        Field(description="Passes over the support; null: 10 for a prompt with label words, else 40."),
    ] = None  # type: ignore[assignment]  # null stands for what suits other settings
    head_learning_rate: Annotated[
        LearningRate, Field(description="Peak rate of AdamW for the linear head, where one reads the answer.")
    ] = 1e-3


def resolve(settings: Settings, task: Task, shots: int, pool_rows: int) -> Settings:
    """A rate and epochs that suit the kind of virtual tokens and what reads the answer, where none are given."""
    rate, epochs = RATES_AND_EPOCHS[settings.kind]
    if settings.kind == "prompt" and settings.readout == "label_words":
        rate, epochs = PROMPT_FOR_LABEL_WORDS
    return replace(settings, learning_rate=settings.learning_rate or rate, epochs=settings.epochs or epochs)


def skip_reason(settings: Settings, config: PreTrainedConfig | None, task: Task) -> str | None:
    """Say so where the virtual tokens leave no room for a row, or PEFT has no encoder for the layers' shapes."""
    from fewtune.engine.loading import sketch_network
    from fewtune.models import max_positions

    if config is None:
        return None
    limit = max_positions(config)
    if settings.tokens * 2 > limit:
        return (
            f"tokens is {settings.tokens} and the model reads {limit}: "
            f"set {limit // 2} or fewer, to leave as much room for a row"
        )
    if settings.kind == "prefix":
        from fewtune.engine.soft import find_layer_shapes

        shapes = set(find_layer_shapes(sketch_network(config)).values())
        if len(shapes) > 1:
            return (
                f"the model's layers keep keys and values of {len(shapes)} shapes, and PEFT's prefix has one: "
                "set kind to prompt"
            )
    return None


def plan(settings: Settings, model: LanguageModel | None, task: Task, draw: Draw, rng: np.random.Generator) -> Plan:
    """Put virtual tokens before every row and train them, and the head where one is read, on the support."""
    from fewtune.engine.fitting import ParameterGroup
    from fewtune.methods.answer import choose_answer, head_parameters
    from fewtune.methods.fine_tuning import plan_training
    from fewtune.methods.trainable import Trained
    from fewtune.prompts.tokens import Encoder

    assert model is not None and settings.learning_rate is not None
    answer = choose_answer(settings.readout, model, task, draw, settings.pattern, rng)
    # Virtual tokens take positions that rows then lack.
    room = Encoder(model.tokenizer, model.max_tokens, model.max_positions - settings.tokens)
    answer = replace(answer, encoder=room)
    network = model.adaptable_copy()
    seed = int(rng.integers(2**63))
    change = (
        _add_prompt(network, settings, seed)
        if settings.kind == "prompt"
        else _add_prefix(model.forward(network), settings, seed)
    )
    parameters = tuple(change.soft.encoder.parameters())
    group = ParameterGroup(f"soft {settings.kind}", parameters, settings.learning_rate)
    trained = Trained(model.forward(network, change.soft), (group,), change)
    trained = trained.join(head_parameters(answer, settings.head_learning_rate))
    made = plan_training(settings, draw, answer, trained, rng)
    return replace(made, total_parameters=made.total_parameters + sum(p.numel() for p in parameters))


def _add_prompt(network: PreTrainedModel, settings: Settings, seed: int) -> SoftTokensAdded:
    """PEFT's prompt embedding, started as PEFT starts it."""
    import torch

    from fewtune.engine.soft import SoftPrompt
    from fewtune.models.adapters import PromptEmbedding, PromptTuningConfig
    from fewtune.models.architectures import architecture_of
    from fewtune.predictors.network import SoftTokensAdded

    embeddings = architecture_of(network).find_embeddings(network)
    config = PromptTuningConfig(
        num_virtual_tokens=settings.tokens,
        token_dim=embeddings.embedding_dim,
        num_transformer_submodules=1,
        prompt_tuning_init="SAMPLE_VOCAB" if settings.start == "vocabulary" else "RANDOM",
        task_type="CAUSAL_LM",
    )
    # PEFT draws from torch's global generator: seeded before the encoder is made, given back after.
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = PromptEmbedding(config, embeddings).to(embeddings.weight.device)
    return SoftTokensAdded(config, SoftPrompt(encoder, settings.tokens))


def _add_prefix(forward: Forward, settings: Settings, seed: int) -> SoftTokensAdded:
    """PEFT's prefix encoder for the layers of a network, and the soft tokens it makes."""
    import torch

    from fewtune.engine.soft import SoftPrefix, flatten_prefix
    from fewtune.models.adapters import PrefixEncoder, PrefixTuningConfig
    from fewtune.predictors.network import SoftTokensAdded

    # One token run says which layers keep keys and values, and of what shape, whatever the architecture.
    seen = forward.compute_prefix([0])
    ((heads, size),) = _key_value_shapes(seen)
    config = PrefixTuningConfig(
        num_virtual_tokens=settings.tokens,
        num_layers=len(seen.layers),
        token_dim=heads * size,
        num_attention_heads=heads,
        num_transformer_submodules=1,
        task_type="CAUSAL_LM",
    )
    embeddings = forward.architecture.find_embeddings(forward.network)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = PrefixEncoder(config).to(forward.device)
        drawn = torch.randint(0, embeddings.num_embeddings, (settings.tokens,)).tolist()
    if settings.start == "vocabulary":
        with torch.no_grad():
            encoder.embedding.weight.copy_(flatten_prefix(forward.compute_prefix(drawn)))
    return SoftTokensAdded(config, SoftPrefix(encoder, settings.tokens, sorted(seen.layers), heads))


def _key_value_shapes(seen: Prefix) -> set[tuple[int, int]]:
    """(heads, head size) of the keys and values of every layer: one where all are alike."""
    return {(part.shape[1], part.shape[3]) for pair in seen.layers.values() for part in pair}


METHOD = Method(
    name="soft_prompt",
    summary="virtual tokens before every row: embeddings (prompt tuning) or keys and values (prefix tuning)",
    source_url="https://arxiv.org/abs/2104.08691",
    settings=Settings,
    plan=plan,
    needs=lambda settings: needs_of_readout(settings) | {"reads_on"},
    defaults_tried={"sentiment": 15, "cola": 9, "qqp": 2, "snli": 2},
    revision=2,  # the rate that null stands for, with prompts
    skip_reason=skip_reason,
    resolve=resolve,
)
