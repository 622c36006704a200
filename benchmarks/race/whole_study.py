"""Both sides of the whole study: `fewtune run` on a study file, and one process a trial.

Owns the study file and the wall time of everything, loading and importing included. Does not know how a trial is run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks.race.material import Timing, draw_trial, fingerprint, read_task
from benchmarks.race.works import MODEL, PROBE_PENALTY, STUDY_RATES, TASK, Size
from fewtune.records import load_predictions, load_records

RUN_FEWTUNE = "from fewtune.cli import main; main()"


def describe_study(size: Size) -> dict[str, Any]:
    """The study as its file says it."""
    special: dict[str, dict[str, Any]] = {
        "probe": {"inverse_penalty": PROBE_PENALTY},
        "in_context": {"contexts": 1, "calibration": "contextual", "demonstrations": size.study_shots},
        **{name: {"epochs": size.study_epochs, "learning_rate": rate} for name, rate in STUDY_RATES.items()},
    }
    return {
        "name": "race",
        "models": [MODEL],
        "tasks": [TASK],
        "methods": [{name: special[name]} if name in special else name for name in size.study_methods],
        "shots": [size.study_shots],
        "data_seeds": list(range(size.study_draws)),
        "baselines": False,
        "evaluation": {
            "in_domain_rows": size.study_in_domain_rows,
            "out_of_domain_rows": size.study_out_of_domain_rows,
        },
    }


def share_right(predictions: pl.DataFrame) -> float:
    """Share of a trial's rows, all test sets together, that were answered right."""
    right: list[bool] = (predictions["gold"] == predictions["predicted"]).to_list()
    return sum(right) / len(right)


def run_with_fewtune(size: Size) -> Timing:
    """`fewtune run` from the command to its report."""
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder) / "race.yaml", Path(folder) / "out"
        file.write_text(yaml.safe_dump(describe_study(size)), encoding="utf-8")
        command = [sys.executable, "-c", RUN_FEWTUNE, "run", str(file), "--out", str(out)]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        records = load_records(out)
        answers = [load_predictions(out, record.trial_id) for record in records]
    by_method: dict[str, float] = defaultdict(float)
    accuracies: dict[str, list[float]] = defaultdict(list)
    for record, rows in zip(records, answers, strict=True):
        assert record.cost is not None
        by_method[record.trial.method] += (record.cost.fit_seconds or 0.0) + (record.cost.predict_seconds or 0.0)
        accuracies[record.trial.method].append(round(share_right(rows), 4))
    return Timing(
        seconds,
        fingerprint_study(size),
        notes={
            "trials": len(records),
            "seconds_by_method": {name: round(seconds, 1) for name, seconds in by_method.items()},
            "accuracies_by_method": dict(accuracies),
        },
    )


def run_a_process_a_trial(size: Size, threads: int) -> Timing:
    """Each trial a Python of its own; in-context trials answer some rows, and some draws stand for all."""
    by_method: dict[str, float] = defaultdict(float)
    accuracies: dict[str, list[float]] = defaultdict(list)
    for data_seed in range(size.study_draws_of_peer):
        for method in size.study_methods:
            started = time.perf_counter()
            found = run_in_process(method, data_seed, size, threads)
            seconds = time.perf_counter() - started
            seconds += found["scoring_seconds"] * (found["rows"] / found["rows_scored"] - 1.0)
            by_method[method] += seconds * size.study_draws / size.study_draws_of_peer
            accuracies[method].append(round(found["accuracy"], 4))
    run = size.study_draws_of_peer * len(size.study_methods)
    return Timing(
        sum(by_method.values()),
        fingerprint_study(size),
        notes={
            "trials": size.study_draws * len(size.study_methods),
            "scaled_from_trials": run,
            "in_context_scaled_from_rows": size.study_queries_of_peer,
            "seconds_by_method": {name: round(seconds, 1) for name, seconds in by_method.items()},
            "accuracies_by_method": dict(accuracies),
        },
    )


def run_in_process(method: str, data_seed: int, size: Size, threads: int) -> dict[str, Any]:
    """One trial of the peer; raises where its process fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        given = [method, str(data_seed), json.dumps(asdict(size)), str(threads), str(out)]
        subprocess.run([sys.executable, "-m", "benchmarks.race.one_trial", *given], check=True)
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def fingerprint_study(size: Size) -> str:
    """SHA-256 over the rows of all draws."""
    draws = [draw_trial(read_task(), size, seed) for seed in range(size.study_draws)]
    return fingerprint([], [row for d in draws for row in (*d.support, *(r for t in d.test_sets for r in t.rows))])
