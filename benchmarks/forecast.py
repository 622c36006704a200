"""How far forecasts are off: ten unlike trials forecast by an excerpt of each, then run whole, on one machine.

    python -m benchmarks.forecast DATA_DIR   prints both and writes benchmarks/results/forecast.json

Ten methods with their defaults on four tasks and two models, from 16 to 64 labelled rows; DATA_DIR holds mnli/. Seconds
are a trial's own, its model being loaded; memory is what its process held at most, in which no other trial ran.
"""

from __future__ import annotations

import argparse
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
from fewtune.records import Record
from fewtune.running.executors.local import LocalProcesses
from fewtune.running.forecast import Forecast, forecast_trials
from fewtune.running.job import WorkerOptions
from fewtune.running.prepare import prepare_jobs
from fewtune.study import read_study
from fewtune.system.processor import usable_cores

STUDIES: list[dict[str, Any]] = [
    {"tasks": ["sentiment"], "shots": [16], "methods": ["probe", "vanilla", "context_distillation"]},
    {"tasks": ["cola"], "shots": [64], "methods": ["in_context", {"pattern": {"epochs": 40}}, {"ia3": {"epochs": 40}}]},
    {"tasks": ["mnli"], "shots": [32], "methods": [{"lora": {"epochs": 40}}]},
    {"tasks": ["questions"], "shots": [56], "methods": ["adaptive", {"soft_prompt": {"epochs": 40}}]},
    {"tasks": ["sentiment"], "shots": [32], "methods": ["contrastive"], "models": ["minilm-l6"]},
]
"""What is not said of each is said here."""
COMMON: dict[str, Any] = {
    "name": "forecast",
    "models": ["smollm2-135m"],
    "baselines": False,
    "pool_rows": 64,
    "data_seeds": [0],
    "evaluation": {"in_domain_rows": 400, "out_of_domain_rows": 100},
}
FILE = ROOT / "benchmarks" / "results" / "forecast.json"


def measure(data_dir: Path) -> dict[str, Any]:
    """Forecast every trial, then run it."""
    trials, seconds, options = [], 0.0, WorkerOptions(data_dir=data_dir)
    for values in [{**own, "methods": [method]} for own in STUDIES for method in own["methods"]]:
        study = read_study(COMMON | values)
        jobs, _ = prepare_jobs(study, data_dir)
        with closing(LocalProcesses(options)) as executor:
            began = time.perf_counter()
            forecast = forecast_trials(jobs, [], executor)
            seconds += time.perf_counter() - began
        with tempfile.TemporaryDirectory() as folder:
            records = run_study(study, Path(folder), executor=LocalProcesses(options)).records
        ran = {record.trial.variant: record for record in records}
        trials += [compare(each, ran[each.cell.variant]) for each in forecast.cells]
    machine = describe_machine(usable_cores())
    return {"trials": trials, "forecast_seconds": round(seconds, 1), "machine": machine, **describe_moment()}


def compare(forecast: Forecast, record: Record) -> dict[str, Any]:
    """What was forecast of a trial, beside what it took."""
    assert record.cost is not None and forecast.seconds is not None, (record.failure, forecast.fault)
    took = sum(seconds for phase, seconds in record.phase_seconds.items() if phase != "load")
    return {
        "method": forecast.cell.variant,
        "task": forecast.cell.task,
        "shots": forecast.cell.shots,
        "model": forecast.cell.model,
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
            trial["task"],
            str(trial["shots"]),
            trial["model"],
            f"{trial['forecast_seconds']:.1f} s",
            f"{trial['seconds']:.1f} s",
            f"{100 * (trial['forecast_seconds'] / trial['seconds'] - 1):+.0f} %",
            f"{trial['forecast_memory_bytes'] / 2**30:.2f} GiB",
            f"{trial['memory_bytes'] / 2**30:.2f} GiB",
            f"{100 * (trial['forecast_memory_bytes'] / trial['memory_bytes'] - 1):+.0f} %",
        ]
        for trial in results["trials"]
    ]
    heads = ("method", "task", "shots", "model", "forecast", "took", "off by", "memory forecast", "held", "off by")
    total = sum(trial["seconds"] for trial in results["trials"])
    return (
        f"{write_markdown(heads, rows)}\n\nForecasting all took {results['forecast_seconds']:.0f} s, running them "
        f"{total:.0f} s.\n\n{write_machine(results['machine'])}."
    )


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    results = measure(parser.parse_args().data_dir)
    FILE.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(write_table(results))


if __name__ == "__main__":
    main()
