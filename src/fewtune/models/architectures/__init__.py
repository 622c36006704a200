"""The table of architectures: families of networks that fewtune can run; adding one is one file and one line here.

Owns which family a configuration is of. Imports no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewtune.errors import ModelError
from fewtune.models.architectures.base import Architecture
from fewtune.models.architectures.decoders import ARCHITECTURE as DECODERS
from fewtune.models.architectures.encoders import ARCHITECTURE as ENCODERS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

ARCHITECTURES: dict[str, Architecture] = {architecture.name: architecture for architecture in (DECODERS, ENCODERS)}


def find_architecture(config: PreTrainedConfig, name: str = "") -> Architecture:
    """The family a configuration is of; raises ModelError, naming the model, where fewtune has none for it."""
    for architecture in ARCHITECTURES.values():
        if architecture.fits(config):
            return architecture
    raise ModelError(_format_misfit(f"model {name!r} is of type {config.model_type!r}", config))


def architecture_of(network: PreTrainedModel) -> Architecture:
    """The family a network is of."""
    return find_architecture(network.config)


def refuse_unsuited(name: str, config: PreTrainedConfig) -> None:
    """Raise ModelError where a configuration's network is of no known family, or one of it that cannot be run."""
    find_architecture(config, name).refuse_unsuited(name, config)


def _format_misfit(kind: str, config: PreTrainedConfig) -> str:
    if config.is_encoder_decoder:
        return f"{kind}, an encoder with a decoder. Use a decoder (Llama, Qwen, OPT) or an encoder (BERT, RoBERTa)."
    return (
        f"{kind}, for which Transformers has no language model, causal or masked. Use a decoder, such as Llama, Qwen, "
        "OPT or GPT-2, or an encoder, such as BERT, RoBERTa, MPNet or ModernBERT."
    )
