"""Saves work in the last block: after its attention, only the tokens whose states are read are computed.

Owns how the block's later linear layers compute those rows alone. Does not know who reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from fewtune.engine.layers import find_outer_linear


@contextmanager
def run_rows_alone(block: nn.Module, rows: Tensor) -> Iterator[Callable[[], None]]:
    """Inside, the block's linear layers compute only these rows once its attention is done; other rows are zeros.

    Yields the function to call whenever any block's attention is done. Rows are the last dimension but one.
    """
    begun = False
    counts: dict[nn.Module, int] = {}

    def begin() -> None:
        nonlocal begun
        begun = True

    def enter(block: nn.Module, inputs: object) -> None:
        nonlocal begun
        begun = False  # attention of the blocks before it

    def choose(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not begun:
            return None
        counts[layer] = inputs[0].shape[-2]
        return (inputs[0].index_select(-2, rows), *inputs[1:])

    def put_back(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if layer not in counts:
            return None
        shape = (*output.shape[:-2], counts.pop(layer), output.shape[-1])
        return output.new_zeros(shape).index_copy(-2, rows, output)

    layers = find_outer_linear(block)
    hooks = [block.register_forward_pre_hook(enter)]
    hooks += [layer.register_forward_pre_hook(choose) for layer in layers]
    hooks += [layer.register_forward_hook(put_back) for layer in layers]
    try:
        yield begin
    finally:
        for hook in hooks:
            hook.remove()
