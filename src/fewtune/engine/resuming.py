"""Checkpoints of a long fit, so that a process that is killed loses minutes and not hours.

Owns the file: when it is due, what is in it, and that it is read back only by the same fit. What the parts of a fit
keep in it is theirs (`fit`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from fewtune.engine import token_clock
from fewtune.records import open_atomically

EVERY_SECONDS = 600.0
"""Seconds of a fit between two writings: fits that take less write none."""


@dataclass(frozen=True)
class FitState:
    """Where a fit stands: tensors and values by name."""

    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]


_UNREADABLE = (OSError, SafetensorError, KeyError, ValueError, TypeError)


@dataclass
class Resumption:
    """The file of one fit's state."""

    path: Path
    every_seconds: float = EVERY_SECONDS
    largest_share: float = 1.0
    """Of a fit's time, that writing may take."""
    resumed_at: list[int] = field(default_factory=list)
    """Steps at which earlier processes were followed by another, this one last."""
    seconds: float = 0.0
    """That earlier processes took for the steps that are not run again."""
    tokens: int = 0
    """That they ran for these."""
    _began: float = 0.0
    _tokens: int = 0
    _written: float = 0.0
    _writing: float = 0.0
    """Seconds that the last writing took."""

    def load(self, fit: str) -> FitState | None:
        """The state that a process left of this very fit; None where there is none, or it cannot be read.

        Called once, when the first step is about to run: from here on what the fit takes is counted.
        """
        self._began = self._written = time.monotonic()
        self._tokens = token_clock.now()
        try:
            with safe_open(self.path, "pt") as file:
                told = _read_told(file)
                if told["fit"] != fit:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
                state = FitState(tensors, told["values"])
                self.resumed_at = [*told["resumed_at"], told["step"]]
                self.seconds, self.tokens = float(told["seconds"]), int(told["tokens"])
        except _UNREADABLE:  # it is begun anew, which costs time alone
            return None
        return state

    def read_seconds(self) -> float:
        """Seconds of the steps that an earlier process kept; 0 where it kept none that can be read."""
        try:
            with safe_open(self.path, "pt") as file:
                return float(_read_told(file)["seconds"])
        except _UNREADABLE:
            return 0.0

    @property
    def is_due(self) -> bool:
        wait = max(self.every_seconds, self._writing * (1 / self.largest_share - 1))
        return time.monotonic() - self._written >= wait

    def write(self, fit: str, step: int, state: FitState) -> None:
        """Keep where the fit stands; a disk that is full keeps nothing, and the fit goes on."""
        told = {
            "fit": fit,
            "step": step,
            "values": state.values,
            "seconds": self.seconds + time.monotonic() - self._began,
            "tokens": self.tokens + token_clock.now() - self._tokens,
            "resumed_at": self.resumed_at,
        }
        began = time.monotonic()
        with suppress(OSError), open_atomically(self.path) as file:
            _stream(file, state.tensors, {"fit": json.dumps(told)})
        self._written = time.monotonic()
        self._writing = self._written - began

    def remove(self) -> None:
        """The trial has ended: nothing is left to resume."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _read_told(file: Any) -> dict[str, Any]:
    """What stands beside a state's tensors."""
    told: dict[str, Any] = json.loads((file.metadata() or {})["fit"])
    return told


_TYPES = {
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""How a safetensors file names them."""


def _stream(file: BinaryIO, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file one tensor after the other: the library's own writer copies all of them first.

    A fit that just fits into memory would not live through that. Source: https://huggingface.co/docs/safetensors
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    content = json.dumps(header).encode()
    content += b" " * (-len(content) % 8)
    file.write(len(content).to_bytes(8, "little"))
    file.write(content)
    for tensor in tensors.values():
        flat = tensor.detach().contiguous().reshape(-1).cpu()
        file.write(flat.view(torch.uint8).numpy().data)
