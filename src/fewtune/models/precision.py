"""The device and the precision that a model computes in.

Owns finding out what this machine can do. Source: the flags of /proc/cpuinfo, and what PyTorch says of a GPU.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["bfloat16", "float32"]
CPU_INFO = Path("/proc/cpuinfo")
"""Where Linux lists what the processor can do."""


def resolve_precision(wanted: Literal["auto", "bfloat16", "float32"]) -> Precision:
    """Turn `auto` into bfloat16 where this machine multiplies it natively, else float32."""
    if wanted != "auto":
        return wanted
    return "bfloat16" if has_native_bfloat16() else "float32"


def has_native_bfloat16() -> bool:
    """Whether the GPU, or without one the processor, multiplies bfloat16 matrices in hardware."""
    if _has_cuda_device():
        import torch

        if torch.cuda.is_available():  # else a GPU is there, and this PyTorch or this process cannot use it
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if CPU_INFO.is_file():
        flags = CPU_INFO.read_text(errors="replace")
        return bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags))
    return False


def _has_cuda_device() -> bool:
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def find_device() -> torch.device:
    """The device that models run on: the GPU where there is one."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
