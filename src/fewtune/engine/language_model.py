"""A language model as methods see it: tokenizer, frozen network, fresh copies to train, and forward passes.

Owns the dtype everything is held in, and what trials may share. Does not know how weights are read (`loading`), or
prompts, tasks or methods.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import PreTrainedModel

from fewtune.engine.forward import Forward
from fewtune.engine.layers import LINEAR
from fewtune.engine.options import DEFAULTS, EngineOptions
from fewtune.engine.pages import allocate
from fewtune.engine.score_cache import NetworkRows, NetworkScores, RowScores, ScoreCache
from fewtune.engine.soft import SoftTokens
from fewtune.engine.splitting import is_split, split_blocks
from fewtune.models import Precision, max_positions
from fewtune.models.architectures import architecture_of
from fewtune.models.architectures.base import Architecture
from fewtune.prompts.tokens import Tokenizer


class SharedNetworks:
    """One model's networks: those that no trial changes, made when first asked, and fresh ones.

    `read` reads a network anew, in float32 and evaluation mode: on a processor its weights lie in the file until they
    are written to, so that it costs neither time nor memory worth keeping one for. They run on `device`.
    """

    def __init__(self, read: Callable[[], PreTrainedModel], sketch: PreTrainedModel, device: torch.device) -> None:
        self.read = read
        self.sketch = sketch
        """The network without its weights."""
        self.device = device
        self._kept: dict[bool, PreTrainedModel] = {}
        self._alive: weakref.WeakValueDictionary[bool, PreTrainedModel] = weakref.WeakValueDictionary()

    def find_frozen(self, in_bfloat16: bool) -> PreTrainedModel:
        """The network that all trials share: as it was read, or with its matrices in bfloat16 and the rest as read."""
        network = self._alive.get(in_bfloat16)
        if network is None:
            network = self.read().eval().requires_grad_(False)
            if in_bfloat16 or self.device.type != "cpu":
                _place(network, self.device, in_bfloat16, shared=True)
        self._kept[in_bfloat16] = self._alive[in_bfloat16] = network
        return network

    def let_go(self) -> None:
        """Keep no network that nobody uses: the memory is wanted for one that trains."""
        self._kept.clear()

    @property
    def alive(self) -> list[PreTrainedModel]:
        """The shared networks that there are."""
        return list(self._alive.values())


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A language model read once; values derived from it (`dataclasses.replace`) share its networks.

    `frozen` is shared by every trial that trains nothing: never change it.
    """

    name: str
    weights_fingerprint: str
    tokenizer: Tokenizer
    networks: SharedNetworks
    precision: Precision
    revision: str | None = None
    """The commit of the hub that it is, where it comes from there."""
    max_tokens: int = 1 << 30
    """Tokens one rendered example may have."""
    others: Mapping[str, LanguageModel] = field(default_factory=dict)
    """Other models that the trial's method asked for, by name."""
    options: EngineOptions = DEFAULTS
    cache: ScoreCache | RowScores | None = None
    """Where the scores of its frozen networks are kept, if they are: whole questions, or row by row."""

    @property
    def config(self) -> Any:
        return self.networks.sketch.config

    @property
    def device(self) -> torch.device:
        """Where its networks run."""
        return self.networks.device

    @property
    def architecture(self) -> Architecture:
        """The family its networks are of."""
        return architecture_of(self.networks.sketch)

    @property
    def max_positions(self) -> int:
        """Tokens the model can read at once."""
        return max_positions(self.config)

    @property
    def width(self) -> int:
        """Features of the states that heads read (OPT-350m: after its projection)."""
        return self.architecture.find_width(self.networks.sketch)

    @property
    def total_parameters(self) -> int:
        return sum(p.numel() for p in self.networks.sketch.parameters())

    def read_weights(self) -> dict[str, torch.Tensor]:
        """The weights as the file has them, by name, in float32 and main memory, to compare a trained network with."""
        return dict(self.networks.read().named_parameters())

    @property
    def frozen(self) -> PreTrainedModel:
        """The shared network for trials that train nothing: matrices in the compute dtype, the rest in float32."""
        return self.networks.find_frozen(self.precision == "bfloat16" and self.options.frozen_in_compute_dtype)

    def find(self, name: str) -> LanguageModel:
        """The model of that name: this one, or another that the trial's method asked for."""
        return self if name == self.name else self.others[name]

    def forward(self, network: PreTrainedModel, soft: SoftTokens | None = None, block: int | None = None) -> Forward:
        """What runs a network of this model: `frozen`, or a copy of it."""
        frozen = soft is None and any(network is each for each in self.networks.alive)
        cache: NetworkScores | NetworkRows | None = None
        # A GPU counts the peak of a whole trial alone, so that what a hit saves of it would be lost.
        if self.cache is not None and self.options.score_cache and frozen and self.device.type == "cpu":
            key = (self.weights_fingerprint, self.precision, block, self.options)
            if isinstance(self.cache, RowScores):
                cache = NetworkRows(self.cache, key)
            else:
                cache = NetworkScores(self.cache, key)
        return Forward(network, self.precision, soft, block, self.options, cache)

    def shared_bytes(self, networks: Iterable[PreTrainedModel]) -> int:
        """Bytes of frozen tensors, other models' too, that a trial's networks use as they are, each counted once."""
        used = {p.data_ptr() for network in networks for p in network.parameters()}
        return sum(size for pointer, size in self._list_frozen().items() if pointer in used)

    def count_frozen_bytes(self) -> int:
        """Bytes of the frozen tensors that there are, other models' too."""
        return sum(self._list_frozen().values())

    def _list_frozen(self) -> dict[int, int]:
        """The bytes of each frozen tensor, by where it lies."""
        alive = [network for model in (self, *self.others.values()) for network in model.networks.alive]
        return {p.data_ptr(): p.numel() * p.element_size() for network in alive for p in network.parameters()}

    def trainable_copy(self) -> PreTrainedModel:
        """A fresh network with 32-bit master weights that all require gradients; split, where this trial is."""
        self.networks.let_go()
        network = self.networks.read().requires_grad_(True)
        if is_split():
            torch.nn.Module.to(network, self.device)
            split_blocks(self.architecture.find_blocks(network), self.device)
        _place(network, self.device)
        return network

    def adaptable_copy(self) -> PreTrainedModel:
        """A fresh frozen network for adapters and partial training; its tensors are those of `frozen`, not copies.

        Before writing into one of them, to train it or to merge an adapter, give that parameter data of its own.
        """
        shared = {id(p): torch.nn.Parameter(p.data, requires_grad=False) for p in self.frozen.parameters()}
        network: PreTrainedModel = copy.deepcopy(self.frozen, dict(shared))
        return network


def _place(network: PreTrainedModel, device: torch.device, in_bfloat16: bool = False, shared: bool = False) -> None:
    """Copy a network's weights out of the file to where it runs; its matrices in bfloat16 where asked.

    On a processor they go to pages, and the file need not stay open; to a GPU they go one by one as they are held
    there, so that it never holds more.
    """
    head = architecture_of(network).find_head(network)
    # The head stays in float32: it may share the embedding's weights, and scores are read from it.
    linear = [module for module in network.modules() if isinstance(module, LINEAR) and module is not head]
    narrow = {id(parameter) for module in linear for parameter in module.parameters(recurse=False)}
    # Parts of what is split among processes lie in tensors of their own.
    given = [parameter for parameter in network.parameters() if type(parameter.data) is torch.Tensor]
    dtypes = [torch.bfloat16 if in_bfloat16 and id(p) in narrow else p.dtype for p in given]
    if device.type == "cpu":
        held = allocate([parameter.shape for parameter in given], dtypes, device, shared)
        for parameter, place in zip(given, held, strict=True):
            parameter.data = place.copy_(parameter.data)
        return
    for parameter, dtype in zip(given, dtypes, strict=True):
        parameter.data = parameter.data.to(dtype)
    torch.nn.Module.to(network, device)  # Transformers types its own `to` too narrowly
