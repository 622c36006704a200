"""Tensors in memory pages of their own, which go back to the system with the last of them.

Owns how they are laid out. What is freed of a process's common memory stays with it in pieces (`executors.local` asks
for that: a step's gradients come and go); tensors of hundreds of megabytes that live long would leave holes there.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from fewtune.engine.memory import count_mapped

ALIGNMENT = 64
"""Bytes: a line of the processor's cache."""


def allocate(
    shapes: Sequence[torch.Size], dtypes: Sequence[torch.dtype], device: torch.device, shared: bool = False
) -> list[Tensor]:
    """Zeros of these shapes and types; on a processor in pages of their own. `shared`: no trial's own, not counted."""
    if device.type != "cpu" or not shapes:
        return [torch.zeros(shape, dtype=dtype, device=device) for shape, dtype in zip(shapes, dtypes, strict=True)]
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in zip(shapes, dtypes, strict=True)]
    ends = list(accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes))
    pages = mmap.mmap(-1, max(1, ends[-1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    if not shared:
        count_mapped(len(pages))
        weakref.finalize(pages, count_mapped, -len(pages))
    flat = torch.frombuffer(pages, dtype=torch.uint8)
    return [
        flat[start : start + size].view(dtype).view(shape)
        for start, size, dtype, shape in zip([0, *ends], sizes, dtypes, shapes, strict=False)
    ]
