"""How long a large study takes to analyse and render, how much memory, and how long a further look of `watch` takes.

python -m benchmarks.large_report          5,000 trials: prints both and writes benchmarks/results/large_report.json
python -m benchmarks.large_report TRIALS   another number of trials: prints both

The study is made up, of groups of four kinds: ten methods on five draws at five numbers of shots; ten methods on a
hundred draws; ten methods on ten draws with ten fit seeds and twenty labels, judged by macro-F1; five methods on four
draws. Each trial has 500 rows in each of three test sets. `fewtune report` runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment
from fewtune.analysis.followed import FollowedFolder

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
    "lora-r64",
)
SHOTS = (8, 16, 32, 64, 128)
TRIALS = 5_000


def write_study(out: Path, trials: int) -> int:
    """Write a study of about so many trials and return their number."""
    sys.path.append(str(ROOT / "tests"))  # the tests' made-up studies
    from study_maker import make_study

    rng = np.random.default_rng(0)

    def make(task: str, methods: Sequence[str], draws: int, **options: Any) -> int:
        means = {name: 0.6 + 0.02 * number + options.get("shots", 16) / 1000 for number, name in enumerate(methods)}
        scores = {name: np.clip(mean + rng.normal(0, 0.03, draws), 0, 1).tolist() for name, mean in means.items()}
        others = {"elsewhere": -0.05, "far": -0.15}
        return len(make_study(out, scores, task=task, rows=500, out_of_domain=others, rng=rng, **options))

    several = max(1, trials * 2 // 5 // (len(METHODS) * 5))
    made = sum(
        make(f"task {number // 10}", METHODS, 5, model=("small", "large")[number % 2], shots=SHOTS[number // 2 % 5])
        for number in range(several)
    )
    made += make("many draws", METHODS, max(1, trials // 5 // len(METHODS)))
    topics = [f"topic {number}" for number in range(20)]
    seeds = max(1, trials // 5 // (len(METHODS) * 10))
    made += make("many seeds", METHODS, seeds, fit_seeds=10, labels=topics, metric="macro_f1")
    return made + sum(make(f"small {number}", METHODS[:5], 4) for number in range(max(1, (trials - made) // 20)))


def write_table(results: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    cells = [
        str(results["trials"]),
        f"{results['seconds']:.1f} s",
        f"{results['processor_seconds']:.1f} s",
        f"{results['peak_memory_bytes'] / 2**20:.0f} MiB",
        f"{results['page_bytes'] / 1e6:.1f} MB",
        f"{results['first_look_seconds']:.1f} s",
        f"{results['further_look_seconds']:.1f} s",
    ]
    memory = "peak memory of its largest process"
    head = ("trials", "wall time", "processor time", memory, "page", "first look of `watch`", "a further one")
    return f"{write_markdown(head, [cells])}\n\n{write_machine(results['machine'])}."


def time_looks(out: Path) -> tuple[float, float]:
    """Processor seconds of a first look at the folder, and of one after a trial's record was written anew."""
    followed, seconds = FollowedFolder(out), []
    for _ in range(2):
        started = time.process_time()
        followed.analyse(followed.read())
        seconds.append(time.process_time() - started)
        min((out / "trials").glob("*.json")).touch()
    return seconds[0], seconds[1]


def measure(trials: int) -> dict[str, Any]:
    """Measure once."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        made = write_study(out, trials)
        started = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-m", "fewtune.cli", "report", str(out)], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - started
        first, further = time_looks(out)
        return {
            "trials": made,
            "seconds": round(seconds, 2),
            "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
            "peak_memory_bytes": usage.ru_maxrss * 1024,
            "page_bytes": (out / "report.html").stat().st_size,
            "first_look_seconds": round(first, 2),
            "further_look_seconds": round(further, 2),
            "exit_code": os.waitstatus_to_exitcode(status),
            "machine": describe_machine(os.cpu_count() or 1),
            **describe_moment(),
        }


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and keep what was measured of the usual number of trials."""
    trials = int(arguments[0]) if arguments else TRIALS
    found = measure(trials)
    print(json.dumps({key: value for key, value in found.items() if key != "machine"}, indent=1))
    if trials == TRIALS:
        path = ROOT / "benchmarks" / "results" / "large_report.json"
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
