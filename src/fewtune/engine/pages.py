"""Allocates tensors in memory pages of their own, which a worker reuses for the next tensor of that size.

Owns how they are laid out and which pages are kept. What is freed of a process's common memory stays with it in pieces
(`executors.process` asks for that: a step's gradients come and go); tensors of hundreds of megabytes that live long
would leave holes there. To touch pages anew takes seconds on a virtual machine, so in a process that runs trials alone
those of a fit that ended wait for the next one like it; another kind of fit gives them back to the system.
"""

from __future__ import annotations

import math
import mmap
import weakref
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ALIGNMENT = 64
"""Bytes: a line of the processor's cache."""
LEAST_KEPT = 1 << 26
"""Bytes of the smallest pages that are kept."""
SPARE = 16
"""One part in so many is mapped beyond what is asked for, as the next fit may train a few rows more, and is no memory
until it is touched. Kept pages fit where no more than two such parts would be left."""

_keeps = False
_kept: list[mmap.mmap] = []
_in_use = 0


def allocate(
    shapes: Sequence[torch.Size], dtypes: Sequence[torch.dtype], device: torch.device, shared: bool = False
) -> list[Tensor]:
    """Zeros of these shapes and types; on a processor in pages of their own.

    `shared`: no trial's own, so neither counted nor kept.
    """
    import torch

    if device.type != "cpu" or not shapes:
        return [torch.zeros(shape, dtype=dtype, device=device) for shape, dtype in zip(shapes, dtypes, strict=True)]
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in zip(shapes, dtypes, strict=True)]
    ends = list(accumulate(-(-size // ALIGNMENT) * ALIGNMENT for size in sizes))
    total = max(1, ends[-1])
    used = None if shared else _find_kept(total)
    pages = used if used is not None else _map(total)
    view = memoryview(pages)  # held by the tensors alone
    if not shared:
        _take(view, pages, total)
    flat = torch.frombuffer(view, dtype=torch.uint8, count=total)
    if used is not None:
        flat.zero_()
    return [
        flat[start : start + size].view(dtype).view(shape)
        for start, size, dtype, shape in zip([0, *ends], sizes, dtypes, shapes, strict=False)
    ]


def count_in_use() -> int:
    """Bytes that tensors hold here, which no allocator counts, but for what is shared or kept for others."""
    return _in_use


def keep_freed_pages(keep: bool = True) -> None:
    """From here on let freed pages wait for other tensors, or give them back to the system at once."""
    global _keeps
    _keeps = keep


def give_back_kept_pages() -> None:
    """Return to the system what no tensor holds."""
    _kept.clear()


def _find_kept(size: int) -> mmap.mmap | None:
    """The kept pages that fit best; where none do and many are asked for, all are given back."""
    fitting = [pages for pages in _kept if size <= len(pages) <= size + 2 * (size // SPARE)]
    if fitting:
        best = min(fitting, key=len)
        _kept.remove(best)
        return best
    if size >= LEAST_KEPT:
        give_back_kept_pages()
    return None


def _map(size: int) -> mmap.mmap:
    pages = mmap.mmap(-1, size + size // SPARE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


def _take(view: memoryview, pages: mmap.mmap, size: int) -> None:
    """Count pages as used until the last tensor lets go of the view of them."""
    global _in_use
    _in_use += size
    weakref.finalize(view, _let_go, pages, size).atexit = False


def _let_go(pages: mmap.mmap, size: int) -> None:
    global _in_use
    _in_use -= size
    if _keeps and size >= LEAST_KEPT:
        _kept.append(pages)
