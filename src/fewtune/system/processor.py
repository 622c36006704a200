"""Describes this machine's processor and GPUs, and how many cores this process may use.

Owns how they are asked of the system, without PyTorch. Figures of two machines are compared by the name.
"""

from __future__ import annotations

import math
import os
import platform
from itertools import takewhile
from pathlib import Path

from fewtune.system import control_group

DEVICES = Path("/dev")
"""Where NVIDIA's driver has a file for each GPU."""


def usable_cores() -> int:
    """Processor cores this process may use, by its affinity and by what its control group allows."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = control_group.read_cores()
    return cores if allowed is None else max(1, min(cores, math.ceil(allowed)))


def list_gpus() -> list[str]:
    """The GPUs this process may use, as CUDA_VISIBLE_DEVICES names them; of NVIDIA's alone, on Linux."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(number) for number, _ in enumerate(path for path in DEVICES.glob("nvidia[0-9]*") if _opens(path))]
    names = [name.strip() for name in given.split(",")]
    return list(takewhile(lambda name: name and not name.startswith("-"), names))  # as CUDA reads it


def _opens(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


def name_processor() -> str:
    """This machine's processor, such as 'AMD EPYC (family 26, model 2)'."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(errors="replace").split("\n\n")[0].splitlines()
        first = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "model name" in first:
            # Rented machines of many generations have one name, such as 'AMD EPYC': family and model part them.
            kind = [
                f"{word} {first[field]}"
                for word, field in (("family", "cpu family"), ("model", "model"))
                if field in first
            ]
            return " ".join([first["model name"], *([f"({', '.join(kind)})"] if kind else [])])
    return platform.processor() or platform.machine()
