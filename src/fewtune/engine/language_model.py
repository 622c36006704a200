"""A causal language model as methods get it: tokenizer, frozen network, fresh copies to train, and how they are run.

Owns the dtype everything is held in, and what trials may share. Does not know how weights are read (`loading`), or
prompts, tasks or methods.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from fewtune.engine.forward import Forward
from fewtune.engine.layers import LINEAR
from fewtune.engine.options import DEFAULTS, EngineOptions
from fewtune.engine.soft import SoftTokens
from fewtune.models import Precision, max_positions
from fewtune.models.architectures import architecture_of
from fewtune.models.architectures.base import Architecture
from fewtune.prompts.tokens import Tokenizer


class SharedNetworks:
    """One model's networks that no trial changes: `reference` in float32, and `in_bfloat16`, made when first asked."""

    def __init__(self, reference: PreTrainedModel) -> None:
        self.reference = reference
        self._in_bfloat16: PreTrainedModel | None = None

    @property
    def in_bfloat16(self) -> PreTrainedModel:
        """Matrices in bfloat16, the rest in float32."""
        if self._in_bfloat16 is None:
            self._in_bfloat16 = _hold_in_bfloat16(self.reference)
        return self._in_bfloat16


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A causal language model read once; values derived from it (`dataclasses.replace`) share its networks.

    `frozen` is shared by every trial that trains nothing: never change it.
    """

    name: str
    weights_fingerprint: str
    tokenizer: Tokenizer
    networks: SharedNetworks
    precision: Precision
    device: torch.device
    max_tokens: int = 1 << 30
    """Tokens one rendered example may have."""
    others: Mapping[str, LanguageModel] = field(default_factory=dict)
    """Other models that the trial's method asked for, by name."""
    options: EngineOptions = DEFAULTS

    @property
    def config(self) -> Any:
        return self.reference.config

    @property
    def architecture(self) -> Architecture:
        """The family its networks are of."""
        return architecture_of(self.reference)

    @property
    def max_positions(self) -> int:
        """Tokens the model can read at once."""
        return max_positions(self.config)

    @property
    def width(self) -> int:
        """Features of the states that the language-model head reads (OPT-350m: after its projection)."""
        head: Any = self.architecture.find_head(self.reference)
        return int(head.weight.shape[1])

    @property
    def total_parameters(self) -> int:
        return sum(p.numel() for p in self.reference.parameters())

    @property
    def reference(self) -> PreTrainedModel:
        """The weights as they were read, in float32, to compare a trained network with."""
        return self.networks.reference

    @property
    def frozen(self) -> PreTrainedModel:
        """The shared network for trials that train nothing: matrices in the compute dtype, the rest in float32."""
        if self.precision == "float32" or not self.options.frozen_in_compute_dtype:
            return self.reference
        return self.networks.in_bfloat16

    def find(self, name: str) -> LanguageModel:
        """The model of that name: this one, or another that the trial's method asked for."""
        return self if name == self.name else self.others[name]

    def forward(self, network: PreTrainedModel, soft: SoftTokens | None = None, block: int | None = None) -> Forward:
        """What runs a network of this model: `frozen`, or a copy of it."""
        return Forward(network, self.precision, soft, block, self.options)

    def shared_bytes(self, networks: Iterable[PreTrainedModel]) -> int:
        """Bytes of frozen tensors, other models' too, that a trial's networks use as they are, each counted once."""
        used = {p.data_ptr() for network in networks for p in network.parameters()}
        shared = {p.data_ptr(): p for model in (self, *self.others.values()) for p in model.frozen.parameters()}
        return sum(p.numel() * p.element_size() for pointer, p in shared.items() if pointer in used)

    def trainable_copy(self) -> PreTrainedModel:
        """A fresh network with 32-bit master weights that all require gradients."""
        network: PreTrainedModel = copy.deepcopy(self.reference).requires_grad_(True)
        return network

    def adaptable_copy(self) -> PreTrainedModel:
        """A fresh frozen network for adapters and partial training; its tensors are those of `frozen`, not copies.

        Before writing into one of them, to train it or to merge an adapter, give that parameter data of its own.
        """
        shared = {id(p): torch.nn.Parameter(p.data, requires_grad=False) for p in self.frozen.parameters()}
        network: PreTrainedModel = copy.deepcopy(self.frozen, dict(shared))
        return network


def _hold_in_bfloat16(reference: PreTrainedModel) -> PreTrainedModel:
    network: PreTrainedModel = copy.deepcopy(reference)
    head = architecture_of(network).find_head(network)
    for module in network.modules():
        # The head stays in float32: it may share the embedding's weights, and scores are read from it.
        if isinstance(module, LINEAR) and module is not head:
            module.to(torch.bfloat16)
    return network
