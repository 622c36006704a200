"""Merges adapters into the layers they belong to, and virtual tokens into the vocabulary, giving plain weights.

Owns the merging; the predictor's own network is left as it is. Source of adapters: PEFT,
https://huggingface.co/docs/peft/developer_guides/model_merging
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from fewtune.engine.soft import SoftPrefix, SoftPrompt
from fewtune.errors import PredictorError
from fewtune.models.architectures import architecture_of
from fewtune.predictors.language import LanguageScorer
from fewtune.predictors.network import Adapter


def merge_network(scorer: LanguageScorer) -> PreTrainedModel:
    """A network of its own, in float32, that scores as the scorer's does, without adapters.

    It has Transformers' own attention. Virtual tokens are not in it: see `read_soft_tokens`. Raises PredictorError
    where an adapter cannot be merged.
    """
    change = scorer.change
    if not isinstance(change, Adapter):
        network: PreTrainedModel = copy.deepcopy(scorer.prompting.forward.network)
        return _make_plain(network)
    wrapped = copy.deepcopy(change.wrapped)
    if change.four_bit:
        _merge_four_bit(wrapped)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        merged: Any = wrapped.merge_and_unload()
    plain: PreTrainedModel = merged
    return _make_plain(plain)


def _make_plain(network: PreTrainedModel) -> PreTrainedModel:
    nn.Module.float(network)
    named = architecture_of(network).takes_attention(network.config)
    network.config._attn_implementation = "sdpa" if named else "eager"
    return network


def read_soft_tokens(scorer: LanguageScorer) -> torch.Tensor | None:
    """Embeddings (tokens, width) that stand before every prompt; None where there are none.

    Raises PredictorError of a prefix of keys and values, which no embedding can stand for.
    """
    soft = scorer.prompting.forward.soft
    if soft is None:
        return None
    if isinstance(soft, SoftPrefix):
        raise PredictorError(
            "this model reads a prefix of keys and values in every layer (soft_prompt with kind: prefix), which no "
            "plain model holds."
        )
    assert isinstance(soft, SoftPrompt)
    with torch.no_grad():
        vectors: torch.Tensor = soft.encoder(torch.arange(soft.tokens, device=scorer.model.device))
    return vectors.float()


def _merge_four_bit(wrapped: nn.Module) -> None:
    """Put a plain layer where each 4-bit layer was, of its weight and the update: PEFT would round their sum again."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit
    from peft.tuners.lora.layer import LoraLayer

    for name, layer in list(wrapped.named_modules()):
        held: Any = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer
        if not isinstance(held, Linear4bit) or name.endswith("base_layer"):
            continue
        weight = dequantize_4bit(held.weight.data, held.weight.quant_state).float()
        plain: nn.Linear = nn.utils.skip_init(
            nn.Linear, held.in_features, held.out_features, bias=held.bias is not None
        )
        if isinstance(layer, LoraLayer):
            if layer.lora_variant:
                raise PredictorError(
                    "DoRA on a 4-bit base cannot be merged: its lengths were taken of rounded weights."
                )
            adapter: Any = layer
            weight = weight + adapter.get_delta_weight(adapter.active_adapters[0]).float()
        plain.weight.data = weight
        if held.bias is not None:
            plain.bias.data = held.bias.data.float()
        wrapped.set_submodule(name, plain)
