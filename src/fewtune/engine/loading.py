"""Loads a language model from its folder for packed rows, on this machine's device.

Owns that every network gets its packed attention, which importing `attention` and `bidirectional` registers. How
weights are read and refused is `models.loading`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from fewtune.engine.attention import CAUSAL
from fewtune.engine.bidirectional import BIDIRECTIONAL
from fewtune.engine.language_model import LanguageModel, SharedNetworks
from fewtune.errors import ModelError
from fewtune.models import ModelSnapshot, Precision, find_device, read_config, refuse_unsuited
from fewtune.models.architectures import architecture_of, find_architecture
from fewtune.models.chat import is_chat, read_turn
from fewtune.models.tokenizers import check_vocabulary, read_tokenizer
from fewtune.models.weights import read_network
from fewtune.prompts.tokens import Surroundings, Tokenizer


def load_model(snapshot: ModelSnapshot, precision: Precision) -> LanguageModel:
    """Read a model's weights (always as float32) and tokenizer; raises ModelError where it cannot be used."""
    config = read_config(snapshot.path)
    refuse_unsuited(snapshot.name, config)
    tokenizer = read_tokenizer(snapshot.path)
    files = _note_files(snapshot.path)

    def read() -> PreTrainedModel:
        if _note_files(snapshot.path) != files:
            raise ModelError(
                f"model {snapshot.name!r}: its weights at {snapshot.path} were changed or removed while they were used."
                " Run the command again."
            )
        network = read_network(snapshot, config, "cpu", name_attention(config))
        pack_attention(network)
        return network

    networks = SharedNetworks(read, sketch_network(config), find_device())
    model = hold_model(snapshot, networks, tokenizer, precision)
    check_vocabulary(snapshot.name, tokenizer, model.frozen)  # weights that do not fit are refused here, not later
    if not find_architecture(config).is_tried(config):
        from fewtune.engine.untried_types import check_untried

        check_untried(model, lambda: read_network(snapshot, config, "cpu"))
    return model


def _note_files(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of change of each file of weights in a folder."""
    noted = [(file.name, file.stat()) for file in sorted(path.glob("*.safetensors"))]
    return [(name, found.st_size, found.st_mtime_ns) for name, found in noted]


def hold_model(
    snapshot: ModelSnapshot,
    networks: SharedNetworks,
    tokenizer: PreTrainedTokenizerBase,
    precision: Precision,
) -> LanguageModel:
    """A language model of networks that have the packed attention."""
    return LanguageModel(
        name=snapshot.name,
        weights_fingerprint=snapshot.weights_fingerprint,
        tokenizer=mark_tokens(tokenizer, networks.sketch, snapshot.name),
        networks=networks,
        precision=precision,
        revision=snapshot.revision,
    )


def mark_tokens(tokenizer: PreTrainedTokenizerBase, network: PreTrainedModel, name: str) -> Tokenizer:
    """A tokenizer with the special tokens that a network's prompts have, or those of its chat template."""
    architecture = architecture_of(network)
    known = int(architecture.find_embeddings(network).weight.shape[0])
    if is_chat(name):
        turn = read_turn(tokenizer, name, architecture.attention)
        return Tokenizer(tokenizer, Surroundings(turn.opening, turn.closing, answer=turn.answer), known)
    around = Surroundings(
        architecture.find_opening(tokenizer),
        architecture.find_closing(tokenizer),
        architecture.find_mask(tokenizer),
        between=architecture.find_between(tokenizer),
    )
    return Tokenizer(tokenizer, around, known)


def sketch_network(config: PreTrainedConfig) -> PreTrainedModel:
    """The network of a configuration without any weights, to look at its shape before anything is loaded."""
    architecture = find_architecture(config)
    with torch.device("meta"):
        network: PreTrainedModel = architecture.choose_class(config).from_config(
            config, dtype=torch.float32, attn_implementation=name_attention(config)
        )
    pack_attention(network)
    return network


def name_attention(config: PreTrainedConfig) -> str:
    """What Transformers calls the attention that networks of a configuration are made with."""
    architecture = find_architecture(config)
    if not architecture.takes_attention(config):
        return "eager"
    return CAUSAL if architecture.attention == "causal" else BIDIRECTIONAL


def pack_attention(network: PreTrainedModel) -> None:
    """Have attention that is written into a network's classes run packed rows."""
    if not architecture_of(network).takes_attention(network.config):
        from fewtune.engine.own_attention import pack_own_attention  # few networks need it, and its imports take time

        pack_own_attention(network)
