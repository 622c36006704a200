"""A language model read from its folder for the engine: its network runs packed rows, on this machine's device.

Owns that every network gets the packed attention, which importing `attention` registers. How weights are read and
refused is `models.loading`.
"""

from __future__ import annotations

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from fewtune.engine.attention import PACKED_ATTENTION
from fewtune.engine.language_model import LanguageModel, SharedNetworks
from fewtune.models import ModelSnapshot, Precision, find_device, read_config, refuse_unsuited
from fewtune.models.architectures import architecture_of, find_architecture
from fewtune.models.loading import read_network
from fewtune.models.tokenizers import check_vocabulary, read_tokenizer
from fewtune.prompts.tokens import Tokenizer


def load_model(snapshot: ModelSnapshot, precision: Precision) -> LanguageModel:
    """Read a model's weights (always as float32) and tokenizer; raises ModelError where it cannot be used."""
    config = read_config(snapshot.path)
    refuse_unsuited(snapshot.name, config)
    network = read_network(snapshot, config, "cpu", PACKED_ATTENTION[find_architecture(config).attention])
    tokenizer = read_tokenizer(snapshot.path)
    check_vocabulary(snapshot.name, tokenizer, network)
    torch.nn.Module.to(network, find_device())  # Transformers types its own `to` too narrowly
    return hold_model(snapshot, network, tokenizer, precision)


def hold_model(
    snapshot: ModelSnapshot, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, precision: Precision
) -> LanguageModel:
    """A language model of a network that has the packed attention and now belongs to it, frozen."""
    return LanguageModel(
        name=snapshot.name,
        weights_fingerprint=snapshot.weights_fingerprint,
        tokenizer=Tokenizer(tokenizer, architecture_of(network).find_opening(tokenizer)),
        networks=SharedNetworks(network.eval().requires_grad_(False)),
        precision=precision,
        device=next(network.parameters()).device,
    )


def sketch_network(config: PreTrainedConfig) -> PreTrainedModel:
    """The network of a configuration without any weights, to look at its shape before anything is loaded."""
    architecture = find_architecture(config)
    with torch.device("meta"):
        network: PreTrainedModel = architecture.choose_class().from_config(
            config, dtype=torch.float32, attn_implementation=PACKED_ATTENTION[architecture.attention]
        )
    return network
