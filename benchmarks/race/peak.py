"""The machine's limit: the most matrix products a second that torch reaches here, by precision.

Owns the shapes tried: square ones, and those of the model's own layers.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from fewtune.engine.loading import sketch_network
from fewtune.models import ModelSnapshot, read_config
from fewtune.models.architectures import architecture_of

SQUARES = (512, 1024, 1536, 2048)
ROWS = (512, 2048)
REPEATS = 8
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def measure_peak(place: ModelSnapshot) -> dict[str, Any]:
    """By precision, the best GFLOP/s and that of each shape (rows, inner, columns)."""
    shapes = [(n, n, n) for n in SQUARES] + [(rows, *layer) for layer in find_layer_shapes(place) for rows in ROWS]
    found = {
        name: {"x".join(map(str, shape)): round(measure_shape(shape, dtype), 1) for shape in shapes}
        for name, dtype in DTYPES.items()
    }
    return {name: {"best": max(rates.values()), "by_shape": rates} for name, rates in found.items()}


def measure_shape(shape: tuple[int, ...], dtype: torch.dtype) -> float:
    """The best rate of several products, GFLOP/s, the first left out."""
    rows, inner, columns = shape
    left, right = torch.randn(rows, inner, dtype=dtype), torch.randn(inner, columns, dtype=dtype)
    seconds = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        torch.mm(left, right)
        seconds.append(time.perf_counter() - started)
    return 2e-9 * rows * inner * columns / min(seconds[1:])


def find_layer_shapes(place: ModelSnapshot) -> list[tuple[int, int]]:
    """(inputs, outputs) of the linear layers of one block."""
    network = sketch_network(read_config(place.path))
    block = architecture_of(network).find_blocks(network)[0]
    linear = [m for m in block.modules() if isinstance(m, torch.nn.Linear)]
    return sorted({(layer.in_features, layer.out_features) for layer in linear})
