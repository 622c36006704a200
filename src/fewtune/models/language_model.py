"""A causal language model read once: its tokenizer, its frozen network, and fresh copies to train.

Owns the dtype everything is held in, and what trials may share. Does not know how weights are read (`loading`), or
prompts, tasks or methods. Torch is imported only where tensors are made.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fewtune.models.configuration import max_positions
from fewtune.models.precision import Precision
from fewtune.models.snapshot import ModelSnapshot
from fewtune.text import Tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LanguageModel:
    """A causal language model read once: its tokenizer, its frozen network, and fresh copies to train.

    `frozen` is shared by every trial that trains nothing: never change it.
    """

    def __init__(
        self,
        place: ModelSnapshot,
        network: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        precision: Precision,
        device: torch.device,
    ) -> None:
        self.name = place.name
        self.weights_fingerprint = place.weights_fingerprint
        self.tokenizer = Tokenizer(tokenizer)
        self.precision = precision
        self.device = device
        self.others: dict[str, LanguageModel] = {}
        """Other models that the trial's method asked for, by name; the runner sets them."""
        self.max_tokens = 1 << 30
        """Tokens one rendered example may have; the runner sets it from the trial."""
        self._master: PreTrainedModel = network.eval().requires_grad_(False)
        self._frozen: PreTrainedModel | None = None

    @property
    def config(self) -> Any:
        return self._master.config

    @property
    def max_positions(self) -> int:
        """Tokens the model can read at once."""
        return max_positions(self.config)

    @property
    def width(self) -> int:
        """Features of the states that the language-model head reads (OPT-350m: after its projection)."""
        return int(self._master.get_output_embeddings().weight.shape[1])

    @property
    def total_parameters(self) -> int:
        return sum(p.numel() for p in self._master.parameters())

    @property
    def reference(self) -> PreTrainedModel:
        """The weights as they were read, in float32: what a trained network is set beside."""
        return self._master

    @property
    def frozen(self) -> PreTrainedModel:
        """The shared network for trials that train nothing: matrices in the compute dtype, the rest in float32."""
        if self._frozen is None:
            self._frozen = self._master if self.precision == "float32" else self._hold_in_bfloat16()
        return self._frozen

    def shared_bytes(self, networks: Iterable[PreTrainedModel]) -> int:
        """Bytes of the shared frozen network's tensors that a trial's networks use as they are, each counted once."""
        used = {p.data_ptr() for network in networks for p in network.parameters()}
        return sum(p.numel() * p.element_size() for p in self.frozen.parameters() if p.data_ptr() in used)

    def trainable_copy(self) -> PreTrainedModel:
        """A fresh network with 32-bit master weights that all require gradients."""
        network: PreTrainedModel = copy.deepcopy(self._master).requires_grad_(True)
        return network

    def adaptable_copy(self) -> PreTrainedModel:
        """A fresh frozen network to hang adapters on; its tensors are those of `frozen`.

        Whoever writes into one of them, to train it or to merge an adapter, gives the parameter data of its own first.
        """
        import torch

        shared = {id(p): torch.nn.Parameter(p.data, requires_grad=False) for p in self.frozen.parameters()}
        network: PreTrainedModel = copy.deepcopy(self.frozen, dict(shared))
        return network

    def _hold_in_bfloat16(self) -> PreTrainedModel:
        import torch
        from transformers.pytorch_utils import Conv1D

        network: PreTrainedModel = copy.deepcopy(self._master)
        head = network.get_output_embeddings()
        for module in network.modules():
            # The head stays in float32: it may share the embedding's weights, and scores are read from it.
            if isinstance(module, torch.nn.Linear | Conv1D) and module is not head:
                module.to(torch.bfloat16)
        return network
