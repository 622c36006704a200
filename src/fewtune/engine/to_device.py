"""Copies small tensors made on the CPU, such as labels and indices, to the device that reads them.

Owns that a GPU is not waited for: one made there at once would be.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on the device; a GPU reads it from pinned memory, so that the processor does not wait."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
