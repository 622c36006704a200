"""Made-up studies: records and predictions written as a run would, with accuracies set by the test.

Owns the shape of a synthetic study. Does not know how records are analysed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fewtune.metrics.counts import score_macro_f1
from fewtune.records import Breakdown, Cost, Failure, Record, TrialAxes, write_record

LABELS = ("negative", "positive")
MODEL_FREE = ("majority", "tfidf")


def make_study(
    out: Path,
    accuracies: Mapping[str, Sequence[float | None]],
    *,
    out_of_domain: Mapping[str, float] | None = None,
    model: str = "tiny-model",
    task: str = "sentiment",
    shots: int = 16,
    labels: Sequence[str] = LABELS,
    rows: int = 400,
    fit_seeds: int = 1,
    metric: str = "accuracy",
    heuristics: Sequence[str] = (),
    failures: Mapping[str, str] | None = None,
    skips: Mapping[str, str] | None = None,
    failed_seed: int = 0,
    rng: np.random.Generator | None = None,
) -> list[Record]:
    """Write a study where `accuracies[variant][draw]` is the in-domain accuracy (None: no such trial).

    `out_of_domain[name]` is added to the in-domain accuracy for that test set; a variant in `failures` or
    `skips` leaves one record with that message, of data seed `failed_seed`. Gold labels are dealt in turn, so the
    majority is known.
    """
    rng = rng or np.random.default_rng(0)
    written = []
    shifts = {"in_domain": 0.0, **(out_of_domain or {})}
    for variant, draws in accuracies.items():
        for data_seed, accuracy in enumerate(draws):
            for fit_seed in range(fit_seeds):
                if accuracy is None:
                    continue
                axes = make_axes(variant, model, task, shots, data_seed, fit_seed)
                tables = {
                    name: make_answers(name, min(1.0, accuracy + shift), data_seed, labels, rows, rng)
                    for name, shift in shifts.items()
                }
                record = make_record(axes, tables, labels, metric, heuristics)
                write_record(out, record, pl.concat(list(tables.values())))
                written.append(record)
    unfinished = [(name, "error", text) for name, text in (failures or {}).items()]
    unfinished += [(name, "skipped", text) for name, text in (skips or {}).items()]
    for variant, kind, message in unfinished:
        axes = make_axes(variant, model, task, shots, failed_seed, 0)
        failure = Failure.model_validate({"kind": kind, "message": message})
        record = Record(
            trial_id=name_trial(axes),
            trial=axes,
            status="skipped" if kind == "skipped" else "failed",
            failure=failure,
            primary_metric=metric,
        )
        write_record(out, record)
        written.append(record)
    return written


def make_axes(variant: str, model: str, task: str, shots: int, data_seed: int, fit_seed: int) -> TrialAxes:
    return TrialAxes(
        model=None if variant in MODEL_FREE else model,
        task=task,
        method=variant.split("-")[0],
        variant=variant,
        shots=shots,
        data_seed=data_seed,
        fit_seed=fit_seed,
        settings={"learning_rate": 1e-5, "epochs": 20},
    )


def make_answers(
    test_set: str, accuracy: float, data_seed: int, labels: Sequence[str], rows: int, rng: np.random.Generator
) -> pl.DataFrame:
    gold = np.arange(rows) % len(labels)
    wrong = rng.permutation(rows) >= round(accuracy * rows)
    predicted = np.where(wrong, (gold + 1) % len(labels), gold)
    return pl.DataFrame(
        {
            "test_set": [test_set] * rows,
            "row_id": [f"{test_set}-{data_seed}-{i:05d}" for i in range(rows)],
            "gold": [labels[i] for i in gold],
            "predicted": [labels[i] for i in predicted],
        }
    )


def make_record(
    axes: TrialAxes,
    tables: Mapping[str, pl.DataFrame],
    labels: Sequence[str],
    metric: str,
    heuristics: Sequence[str],
) -> Record:
    metrics: dict[str, dict[str, float]] = {}
    baselines: dict[str, dict[str, float]] = {}
    for name, table in tables.items():
        accuracy = float((table["gold"] == table["predicted"]).mean() or 0.0)
        metrics[name] = {"accuracy": accuracy}
        if metric == "mcc":
            metrics[name]["mcc"] = 2 * accuracy - 1  # two balanced labels, errors spread evenly
        if metric == "macro_f1":
            counts = table.group_by("gold", "predicted").len().pivot("predicted", index="gold", values="len")
            square = counts.select(sorted(labels)).fill_null(0).to_numpy()[np.argsort(counts["gold"].to_numpy())]
            metrics[name]["macro_f1"] = float(score_macro_f1(square))
        share = max(table["gold"].value_counts()["count"]) / len(table)
        baselines[name] = {"chance": 1 / len(labels), "majority": share, "rows": float(len(table))}
    breakdowns = [
        Breakdown(
            test_set=list(tables)[-1],
            facet="heuristic",
            value=value,
            gold=gold,
            rows=50,
            accuracy=0.9 if gold == labels[0] else 0.2,
        )
        for value in heuristics
        for gold in labels
    ]
    whole = axes.model is not None
    return Record(
        trial_id=name_trial(axes),
        trial=axes,
        status="done",
        labels=list(labels),
        primary_metric=metric,
        metrics=metrics,
        breakdowns=breakdowns,
        baselines=baselines,
        cost=Cost(
            fit_seconds=20.0 + sum(map(ord, axes.variant)) % 60 if whole else 0.004,
            predict_seconds=3.2 if whole else 0.01,
            predict_rows=sum(len(table) for table in tables.values()),
            peak_memory_bytes=1_610_612_736 if whole else None,
            trainable_parameters=125_239_296 if whole else None,
            total_parameters=125_239_296 if whole else None,
            fit_tokens=20_480 if whole else None,
            predict_tokens=81_920 if whole else None,
        ),
        environment={"python": "3.11", "processor": "made-up", "threads": 4},
        fingerprints={"draw": f"draw-{axes.task}-{axes.shots}-{axes.data_seed}"},
    )


def name_trial(axes: TrialAxes) -> str:
    payload: Any = axes.model_dump_json()
    return hashlib.sha256(payload.encode()).hexdigest()[:16]
