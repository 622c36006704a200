"""This machine's processor: what it is called, and how much of it this process may use.

Owns how both are asked of the system. Figures of two machines are compared by the name.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path


def usable_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
