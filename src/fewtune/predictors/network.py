"""What of a predictor's network differs from its base model: nothing, weights, an adapter, virtual tokens.

Owns how each is told from the base, saved, and put onto the base again. Only what differs is kept. Adapters and virtual
tokens are written in PEFT's own layout, so that PEFT alone can read them too.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from fewtune.engine.forward import Forward
from fewtune.engine.four_bit import quantise_linear_layers
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.soft import SoftPrefix, SoftPrompt
from fewtune.models.chat import drop_chat
from fewtune.predictors.manifest import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    AdapterPart,
    SoftTokensPart,
    UnchangedPart,
    WeightsPart,
)

NetworkPart = UnchangedPart | WeightsPart | AdapterPart | SoftTokensPart


class Change(Protocol):
    """What a method did to a model's network."""

    def describe(self, forward: Forward, model: LanguageModel) -> NetworkPart: ...
    def arrays(self, forward: Forward, model: LanguageModel) -> dict[str, np.ndarray]: ...
    def write_more(self, folder: Path, model: LanguageModel) -> None: ...


@dataclass(frozen=True)
class Unchanged:
    """The base model as it is."""

    def describe(self, forward: Forward, model: LanguageModel) -> UnchangedPart:
        return UnchangedPart()

    def arrays(self, forward: Forward, model: LanguageModel) -> dict[str, np.ndarray]:
        return {}

    def write_more(self, folder: Path, model: LanguageModel) -> None:
        """Nothing: the base model is all there is."""


@dataclass(frozen=True)
class ChangedWeights:
    """Weights that were trained in place, all or some."""

    def describe(self, forward: Forward, model: LanguageModel) -> WeightsPart:
        return WeightsPart(names=tuple(self._find(forward, model)))

    def arrays(self, forward: Forward, model: LanguageModel) -> dict[str, np.ndarray]:
        found = self._find(forward, model)
        return {f"network.{name}": tensor.float().cpu().numpy() for name, tensor in found.items()}

    def write_more(self, folder: Path, model: LanguageModel) -> None:
        """Nothing: arrays hold all of it."""

    def _find(self, forward: Forward, model: LanguageModel) -> dict[str, torch.Tensor]:
        """The network's own tensors that are not the base model's to the last bit."""
        shared = {p.data_ptr() for network in model.networks.alive for p in network.parameters()}
        own = {n: p.detach() for n, p in forward.network.named_parameters() if p.data_ptr() not in shared}
        base = model.read_weights() if own else {}
        return {name: tensor for name, tensor in own.items() if not torch.equal(tensor.cpu(), base[name])}


@dataclass(frozen=True)
class Adapter:
    """A PEFT adapter hung onto frozen layers."""

    wrapped: PeftModel
    four_bit: bool = False

    def describe(self, forward: Forward, model: LanguageModel) -> AdapterPart:
        return AdapterPart(four_bit=self.four_bit)

    def arrays(self, forward: Forward, model: LanguageModel) -> dict[str, np.ndarray]:
        return {}

    def write_more(self, folder: Path, model: LanguageModel) -> None:
        # Told not to look for embeddings: PEFT would ask the hub about the base model.
        state = get_peft_model_state_dict(self.wrapped, save_embedding_layers=False)
        _write_adapter(folder, self.wrapped.peft_config["default"], state, model)


@dataclass(frozen=True)
class SoftTokensAdded:
    """Virtual tokens before every row: PEFT's configuration of them, and what the engine reads."""

    config: PeftConfig
    soft: SoftPrompt | SoftPrefix

    def describe(self, forward: Forward, model: LanguageModel) -> SoftTokensPart:
        if isinstance(self.soft, SoftPrefix):
            return SoftTokensPart(
                as_keys_and_values=True, tokens=self.soft.tokens, layers=self.soft.layers, heads=self.soft.heads
            )
        return SoftTokensPart(as_keys_and_values=False, tokens=self.soft.tokens)

    def arrays(self, forward: Forward, model: LanguageModel) -> dict[str, np.ndarray]:
        return {}

    def write_more(self, folder: Path, model: LanguageModel) -> None:
        device = next(self.soft.encoder.parameters()).device
        vectors: torch.Tensor = self.soft.encoder(torch.arange(self.soft.tokens, device=device))
        _write_adapter(folder, self.config, {"prompt_embeddings": vectors}, model)


def rebuild_forward(
    part: NetworkPart, arrays: Mapping[str, np.ndarray], folder: Path, model: LanguageModel, block: int | None
) -> tuple[Forward, Change]:
    """The network that was saved, on its base model, and what it differs by."""
    if isinstance(part, UnchangedPart):
        return model.forward(model.frozen, block=block), Unchanged()
    if isinstance(part, WeightsPart):
        network = model.adaptable_copy()
        own = dict(network.named_parameters())
        for name in part.names:
            own[name].data = torch.from_numpy(arrays[f"network.{name}"]).to(model.device)
        return model.forward(network, block=block), ChangedWeights()
    if isinstance(part, AdapterPart):
        network = model.adaptable_copy()
        if part.four_bit:
            quantise_linear_layers(network, torch.bfloat16 if model.precision == "bfloat16" else torch.float32)
        with warnings.catch_warnings(), torch.random.fork_rng():
            # PEFT asks Transformers for something by its old name; the user can do nothing about it.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            wrapped = PeftModel.from_pretrained(network, str(folder / ADAPTER))
        network.eval()
        return model.forward(network, block=block), Adapter(wrapped, part.four_bit)
    vectors = load_file(folder / ADAPTER / ADAPTER_WEIGHTS)["prompt_embeddings"].to(model.device)
    encoder = nn.Embedding.from_pretrained(vectors)
    soft: SoftPrompt | SoftPrefix = (
        SoftPrefix(encoder, part.tokens, part.layers, part.heads)
        if part.as_keys_and_values
        else SoftPrompt(encoder, part.tokens)
    )
    config = PeftConfig.from_pretrained(str(folder / ADAPTER))
    return model.forward(model.adaptable_copy(), soft, block), SoftTokensAdded(config, soft)


def _write_adapter(folder: Path, config: Any, state: Mapping[str, torch.Tensor], model: LanguageModel) -> None:
    config = copy.copy(config)
    config.base_model_name_or_path = drop_chat(model.name)  # not the folder that the weights were read from
    (folder / ADAPTER).mkdir()
    write_peft(folder / ADAPTER, config, state)


def write_peft(folder: Path, config: Any, state: Mapping[str, torch.Tensor]) -> None:
    """Write an adapter's configuration, which is changed to be for inference, and its tensors in PEFT's own layout."""
    config.inference_mode = True
    for name, value in vars(config).items():
        if isinstance(value, set):  # PEFT keeps modules' names so, in an order that differs from run to run
            setattr(config, name, sorted(value))
    config.save_pretrained(str(folder))
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    save_file(kept, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})
