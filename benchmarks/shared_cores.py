"""What OpenMP's spinning costs when cores are shared: forward and backward passes, alone and two processes at once.

python benchmarks/shared_cores.py      prints a table and writes benchmarks/results/shared_cores.json

SmolLM2 135M, 16 packed rows of 15 to 49 tokens, all weights, eight passes, median seconds a pass; None where a process
did not finish within LIMIT_SECONDS.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from fewtune.system.processor import name_processor

LIMIT_SECONDS = 60
PASSES = 8


def measure() -> float:
    """Median seconds of a forward and backward pass in this process."""
    import torch

    from fewtune.engine.forward import Forward
    from fewtune.engine.loading import load_model
    from fewtune.models import find_model, resolve_precision

    precision = resolve_precision("auto")
    forward = Forward(load_model(find_model("smollm2-135m"), precision).trainable_copy(), precision)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(15, 50, (16,), generator=generator).tolist()
    rows = [torch.randint(100, 40_000, (n,), generator=generator).tolist() for n in lengths]
    seconds = []
    for _ in range(PASSES):
        started = time.perf_counter()
        forward.hidden_states(forward.pack(rows)).sum().backward()
        forward.network.zero_grad()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def start(spin_count: str | None) -> subprocess.Popen[str]:
    """A process that measures itself under a spin count (None: libgomp's own)."""
    environment = {k: v for k, v in os.environ.items() if k != "GOMP_SPINCOUNT"}
    if spin_count is not None:
        environment["GOMP_SPINCOUNT"] = spin_count
    command = [sys.executable, __file__, "measure"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def collect(running: subprocess.Popen[str], deadline: float) -> float | None:
    """Its figure; None where it is not done by the deadline."""
    try:
        return float(running.communicate(timeout=max(0.0, deadline - time.monotonic()))[0])
    except subprocess.TimeoutExpired:
        running.kill()
        running.communicate()
        return None


def main() -> None:
    """Measure alone and in pairs."""
    cells = []
    for spin_count in (None, "0", "1000", "10000"):
        for processes in (1, 2):
            deadline = time.monotonic() + LIMIT_SECONDS
            team = [start(spin_count) for _ in range(processes)]
            figures = [collect(running, deadline) for running in team]
            cells.append({"spin_count": spin_count, "processes": processes, "seconds_a_pass": figures})
            print(f"spin count {spin_count or 'default':>7}, {processes} at once: {figures}", flush=True)
    out = Path(__file__).parent / "results" / "shared_cores.json"
    kept = {"processor": name_processor(), "cores": os.cpu_count(), "limit_seconds": LIMIT_SECONDS, "cells": cells}
    out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    print(measure()) if sys.argv[1:] == ["measure"] else main()
