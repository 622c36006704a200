"""How far forecasts are off: ten unlike trials forecast by an excerpt of each, then run whole, on one machine.

python -m benchmarks.forecast   prints both and writes benchmarks/results/forecast.json

All are of `sentiment` with 16 labelled rows and SmolLM2 135M, with the defaults of each method. Seconds are a trial's
own, its model being loaded; memory is what its process held at most.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment
from fewtune.api import run_study
from fewtune.executors.local import LocalProcesses
from fewtune.processor import usable_cores
from fewtune.records import Record
from fewtune.running.forecast import Forecast, forecast_trials
from fewtune.running.prepare import prepare_jobs
from fewtune.study import read_study

STUDY: dict[str, Any] = {
    "name": "forecast",
    "models": ["smollm2-135m"],
    "tasks": ["sentiment"],
    "methods": [
        "probe",
        "in_context",
        {"in_context": {"as": "in_context, batch", "demonstrations": 4, "calibration": "batch"}},
        "vanilla",
        "pattern",
        "adaptive",
        "lora",
        "ia3",
        "soft_prompt",
        "context_distillation",
    ],
    "floors": False,
    "shots": [16],
    "pool_rows": 64,
    "data_seeds": [0],
    "evaluation": {"in_domain_rows": 400, "out_of_domain_rows": 100},
}
FILE = ROOT / "benchmarks" / "results" / "forecast.json"


def measure() -> dict[str, Any]:
    """Forecast every trial, then run it."""
    study = read_study(STUDY)
    jobs, _ = prepare_jobs(study, None)
    with closing(LocalProcesses()) as executor:
        began = time.perf_counter()
        forecast = forecast_trials(jobs, [], executor)
        seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        records = run_study(study, Path(folder), executor=LocalProcesses()).records
    ran = {record.trial.variant: record for record in records}
    trials = [compare(each, ran[each.cell.variant]) for each in forecast.cells]
    machine = describe_machine(usable_cores())
    return {"trials": trials, "forecast_seconds": round(seconds, 1), "machine": machine, **describe_moment()}


def compare(forecast: Forecast, record: Record) -> dict[str, Any]:
    """What was forecast of a trial, beside what it took."""
    assert record.cost is not None and forecast.seconds is not None, (record.failure, forecast.fault)
    took = sum(seconds for phase, seconds in record.phase_seconds.items() if phase != "load")
    return {
        "method": forecast.cell.variant,
        "forecast_seconds": round(forecast.seconds, 2),
        "seconds": round(took, 2),
        "forecast_memory_bytes": forecast.memory_bytes,
        "memory_bytes": record.cost.resident_memory_bytes,
    }


def write_table(results: dict[str, Any]) -> str:
    """What was forecast and what it took, as Markdown."""
    rows = [
        [
            trial["method"],
            f"{trial['forecast_seconds']:.1f} s",
            f"{trial['seconds']:.1f} s",
            f"{100 * (trial['forecast_seconds'] / trial['seconds'] - 1):+.0f} %",
            f"{trial['forecast_memory_bytes'] / 2**30:.2f} GiB",
            f"{trial['memory_bytes'] / 2**30:.2f} GiB",
            f"{100 * (trial['forecast_memory_bytes'] / trial['memory_bytes'] - 1):+.0f} %",
        ]
        for trial in results["trials"]
    ]
    heads = ("trial", "forecast", "took", "off by", "memory forecast", "held", "off by")
    total = sum(trial["seconds"] for trial in results["trials"])
    return (
        f"{write_markdown(heads, rows)}\n\nForecasting all took {results['forecast_seconds']:.0f} s, running them "
        f"{total:.0f} s.\n\n{write_machine(results['machine'])}."
    )


def main() -> None:
    """Measure once."""
    results = measure()
    FILE.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(write_table(results))


if __name__ == "__main__":
    main()
