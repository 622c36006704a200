"""Where a long fit stands, kept in a file now and then, so that a process that is killed costs minutes and not hours.

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
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from fewtune.engine import token_clock
from fewtune.records import write_atomically

EVERY_SECONDS = 600.0
"""Seconds of a fit between two writings: fits that take less write none."""


@dataclass(frozen=True)
class FitState:
    """Where a fit stands: tensors and values by name, and what getting there took."""

    tensors: Mapping[str, torch.Tensor]
    values: Mapping[str, Any]
    seconds: float = 0.0
    tokens: int = 0


@dataclass
class Resumption:
    """The file of one fit's state."""

    path: Path
    every_seconds: float = EVERY_SECONDS
    resumed_at: list[int] = field(default_factory=list)
    """Steps at which earlier processes were followed by another, this one last."""
    earlier: FitState | None = None
    """What was read, of another process."""
    _began: float = field(default_factory=time.monotonic)
    _tokens: int = field(default_factory=token_clock.now)
    _written: float = field(default_factory=time.monotonic)

    def load(self, fit: str) -> FitState | None:
        """The state that a process left of this very fit; None where there is none, or it cannot be read."""
        try:
            with safe_open(self.path, "pt") as file:
                told = json.loads((file.metadata() or {})["fit"])
                if told["fit"] != fit:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
                self.earlier = FitState(tensors, told["values"], told["seconds"], told["tokens"])
                self.resumed_at = [*told["resumed_at"], told["step"]]
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):  # it is begun anew, which costs time alone
            return None
        return self.earlier

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._written >= self.every_seconds

    def write(self, fit: str, step: int, state: FitState) -> None:
        """Keep where the fit stands; a disk that is full keeps nothing, and the fit goes on."""
        earlier = FitState({}, {}) if self.earlier is None else self.earlier
        told = {
            "fit": fit,
            "step": step,
            "values": state.values,
            "seconds": earlier.seconds + time.monotonic() - self._began,
            "tokens": earlier.tokens + token_clock.now() - self._tokens,
            "resumed_at": self.resumed_at,
        }
        with suppress(OSError):
            tensors = {name: tensor.detach().contiguous() for name, tensor in state.tensors.items()}
            write_atomically(self.path, save(tensors, {"fit": json.dumps(told)}))
        self._written = time.monotonic()

    def remove(self) -> None:
        """The trial has ended: nothing is left to resume."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)
