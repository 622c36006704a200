"""How long a study of 2,000 trials takes to analyse and render, and how much memory.

python -m benchmarks.large_report   prints both and writes benchmarks/results/large_report.json

The study is made up: two models, four tasks, five numbers of shots, ten methods, five draws; 500 rows in each of three
test sets. `fewtune report` runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment

METHODS = (
    "pattern",
    "lora",
    "adaptive",
    "ia3",
    "context_distillation",
    "vanilla",
    "in_context",
    "probe",
    "soft_prompt",
)
TASKS, MODELS, SHOTS, DRAWS = ("sentiment", "cola", "mnli", "rte"), ("small", "large"), (8, 16, 32, 64, 128), 5


def write_study(out: Path) -> int:
    """Write the study and return the number of its trials."""
    sys.path.append(str(ROOT / "tests"))  # the tests' made-up studies
    from study_maker import make_study

    rng = np.random.default_rng(0)
    trials = 0
    for task in TASKS:
        for model in MODELS:
            for shots in SHOTS:
                means = {name: 0.6 + 0.02 * index + shots / 1000 for index, name in enumerate(METHODS)}
                draws = {name: (mean + rng.normal(0, 0.03, DRAWS)).tolist() for name, mean in means.items()}
                draws["lora-r64"] = (0.7 + rng.normal(0, 0.03, DRAWS)).tolist()
                others = {"elsewhere": -0.05, "far": -0.15}
                made = make_study(
                    out, draws, task=task, model=model, shots=shots, rows=500, out_of_domain=others, rng=rng
                )
                trials += len(made)
    return trials


def write_table(results: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    cells = [
        str(results["trials"]),
        f"{results['seconds']:.1f} s",
        f"{results['processor_seconds']:.1f} s",
        f"{results['peak_memory_bytes'] / 2**20:.0f} MiB",
        f"{results['page_bytes'] / 1e6:.1f} MB",
    ]
    head = ("trials", "wall time", "processor time", "peak memory of its largest process", "page")
    return f"{write_markdown(head, [cells])}\n\n{write_machine(results['machine'])}."


def main() -> None:
    """Measure once."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        trials = write_study(out)
        started = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-m", "fewtune.cli", "report", str(out)], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        found = {
            "trials": trials,
            "seconds": round(seconds, 2),
            "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "peak_memory_bytes": usage.ru_maxrss * 1024,
            "page_bytes": (out / "report.html").stat().st_size,
            "exit_code": os.waitstatus_to_exitcode(status),
            "machine": describe_machine(os.cpu_count() or 1),
            **describe_moment(),
        }
    print(json.dumps({key: value for key, value in found.items() if key != "machine"}, indent=1))
    path = ROOT / "benchmarks" / "results" / "large_report.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
