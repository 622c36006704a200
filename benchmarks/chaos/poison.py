"""Files beside a model's weights that do harm to whoever unpickles them.

Owns what they are, and the traces that tell that one was read.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

NAMES = ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "tokenizer.pkl")
"""What Transformers and its Trainer leave as pickles, and one that nothing should look for."""


class _Poison:
    """Unpickled, it leaves a file."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self._trace), "w")


def leave_poison(model: Path, traces: Path) -> None:
    """Put them beside the weights of a model; each leaves a trace in a folder once it is read."""
    for name in NAMES:
        (model / name).write_bytes(pickle.dumps(_Poison(_name_trace(traces, name))))


def find_read_poison(traces: Path) -> list[str]:
    """What was read of them, in words."""
    return [f"{name} was unpickled" for name in NAMES if _name_trace(traces, name).exists()]


def _name_trace(traces: Path, name: str) -> Path:
    return traces / f"{name}.was-read"
