"""Where the seconds of a study's run went, beside what the products of its tokens alone would take.

Owns the adding up: seconds in fits and in scoring as the run's records tell them, and FLOPs of the products of the
model's linear layers, of the tokens that the records count. Does not run studies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.race.ours import count_flops
from benchmarks.race.peak import measure_peak
from benchmarks.race.works import MODEL
from fewtune.engine.loading import load_model
from fewtune.models import find_model, resolve_precision
from fewtune.records import Record, load_records
from fewtune.report.profile import sum_phases

COLUMNS: Mapping[str, str] = {
    "seconds": "in all, s",
    "fit": "fits",
    "score": "scoring",
    "rest": "the rest",
    "products_at_peak": "products at the peak",
}
"""What is told of a run, and the heading of each."""


def look_at_run(out: Path, seconds: float) -> dict[str, float]:
    """What a run's records say of its seconds, beside the peak that this machine has now."""
    place, precision = find_model(MODEL), resolve_precision("auto")
    peak = measure_peak(place)[precision]["best"]
    # What runs for the tokens that are read alone is left out: records do not count these.
    parameters = count_flops(load_model(place, precision), tokens=1, rows=0) / 2
    return describe_run(load_records(out), seconds, peak, parameters)


def describe_run(records: Sequence[Record], seconds: float, peak: float, parameters: float) -> dict[str, float]:
    """Where a run's seconds went, and what its products would take at a peak in GFLOP/s.

    Of workers side by side each one's seconds count by its share of the machine. `parameters`: weights of the linear
    layers that every token passes.
    """
    phases, workers = sum_phases(records), int(records[0].environment["workers"])
    spent = {phase: phases.get(phase, 0.0) / workers for phase in ("fit", "score")}
    products = sum(count_products(record, parameters) for record in records) / (peak * 1e9)
    rest = seconds - sum(spent.values())
    found = {"seconds": seconds, **spent, "rest": rest, "products_at_peak": products}
    return {"peak_gflops": peak, **{name: round(value, 1) for name, value in found.items()}}


def count_products(record: Record, parameters: float) -> float:
    """FLOPs of a trial's products: 2 a weight and token; a fit's twice that, and 2 more a weight that trains."""
    cost = record.cost
    if cost is None:
        raise ValueError(f"trial {record.trial_id} has no cost: it is {record.status}")
    forward = 2.0 * parameters * (cost.predict_tokens or 0)
    fitted = cost.fit_tokens or 0
    if not record.phase_seconds.get("fit"):
        return forward + 2.0 * parameters * fitted
    return forward + fitted * (4.0 * parameters + 2.0 * min(cost.trainable_parameters or 0, parameters))


def write_cells(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A table's cells, under the headings of COLUMNS: medians of a study's runs."""
    return [f"{median(run[name] for run in runs):.1f}" for name in COLUMNS]
