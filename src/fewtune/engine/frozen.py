"""Caches the output of frozen blocks below every trained tensor, so that each sequence runs them once.

Owns which blocks these are, and a cache of their output bounded in bytes. Does not know what runs above them.
"""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch
from torch import Tensor
from transformers import PreTrainedModel

from fewtune.engine.branches import Branches
from fewtune.engine.options import DEFAULTS, EngineOptions
from fewtune.engine.packing import BlockOutput, Packed, join_states, pack, split_states
from fewtune.models.architectures import architecture_of
from fewtune.system.control_group import read_memory

_Key = tuple[tuple[int, ...], Branches | None]
"""A sequence and what branches from it."""


class FrozenBlocks:
    """A network's first blocks, below all that trains: `count` of them, 0 where there are none.

    Their output is kept for as many sequences as `options.kept_states_share` has room for; others run at every step.
    """

    def __init__(self, network: PreTrainedModel, options: EngineOptions = DEFAULTS) -> None:
        self._network = network
        self._kept: dict[_Key, Tensor] = {}
        self._below = count_frozen_blocks(network)
        self.count = self._below if options.separate_frozen_blocks else 0
        self.most_bytes = int(options.kept_states_share * find_memory_bytes(next(network.parameters()).device))
        self.kept_bytes = 0
        self._besides: int | None = None

    @torch.no_grad()
    def run(self, batch: Packed, run_to_block: Callable[[Packed, int], BlockOutput]) -> BlockOutput:
        """Output of the last frozen block for a batch without a prefix, computed in evaluation mode or kept.

        `run_to_block` gives the output of a block, counted from 1, for a batch.
        """
        self.quieten()
        keys = [(sequence, batch.branches) for sequence in batch.sequences]
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        states = {key: self._kept[key] for key in keys if key in self._kept}
        if missing:
            first = architecture_of(self._network).find_first_position(self._network.config)
            rows = [sequence for sequence, _ in missing]
            packed = pack(rows, batch.tokens.device, branches=batch.branches, first_position=first)
            output = run_to_block(packed, self.count)
            self._besides = output.besides
            for key, part in zip(missing, split_states(output.states, packed), strict=True):
                states[key] = part
                self._keep(key, part)
        return BlockOutput(self.count, join_states([states[key] for key in keys], batch), self._besides)

    def quieten(self) -> None:
        """Put what stands below all that trains into evaluation mode: kept output must not depend on one dropout."""
        if self._below and self._network.training:
            self._network.eval()
            for block in list(architecture_of(self._network).find_blocks(self._network))[self._below :]:
                block.train()

    def forget(self) -> None:
        """Let go of what is kept: once nothing trains any more, nothing asks for it."""
        self._kept.clear()
        self.kept_bytes = 0

    def _keep(self, key: _Key, states: Tensor) -> None:
        size = states.numel() * states.element_size()
        if self.kept_bytes + size <= self.most_bytes:
            self._kept[key] = states.clone()  # a part of a larger tensor would keep all of it
            self.kept_bytes += size


def count_frozen_blocks(network: PreTrainedModel) -> int:
    """How many first blocks hold nothing that trains; 0 where anything outside blocks and final norm trains."""
    architecture = architecture_of(network)
    blocks, norm = architecture.find_blocks(network), architecture.find_final_norm(network)
    above = {id(p) for module in (*blocks, norm) if module is not None for p in module.parameters()}
    if any(p.requires_grad and id(p) not in above for p in network.parameters()):
        return 0
    trains = [any(p.requires_grad for p in block.parameters()) for block in blocks]
    return trains.index(True) if True in trains else len(trains)


def find_memory_bytes(device: torch.device) -> int:
    """Bytes of memory that the device has; of the machine's own, what this process's group may hold."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    total, limit = int(psutil.virtual_memory().total), read_memory()
    return total if limit is None else min(total, limit.most)
