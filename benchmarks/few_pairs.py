"""Contrastive fine-tuning of MPNet on 32 rows by few pairs, beside logistic regression and `fewtune fit`.

    python -m benchmarks.few_pairs    half an hour; writes benchmarks/results/few_pairs.json, goes on

Rows are of the other domains of `sentiment` (Amazon, NYT, tweets), on which `take_home` tests no model: 32 drawn at
random, and 300 others that each model answers. `fewtune fit` has three minutes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import numpy as np
import polars

import fewtune
from benchmarks.apart import ROOT, start_as_worker
from benchmarks.cells import Cells
from benchmarks.markdown import write_machine, write_markdown
from fewtune.running.fit_rows import FitRequest, fit_task, make_task
from fewtune.tasks import sentiment

FILE = ROOT / "benchmarks" / "results" / "few_pairs.json"
MODEL, ROWS, TESTED, BUDGET = "mpnet-base", 32, 300, "3m"
DOMAINS, SAMPLES = ("amazon", "nyt", "tweets"), 2
FIT = f"fewtune fit --budget {BUDGET}"
SETTINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "logistic regression": ("embeddings", {}),
    **{
        f"{pairs} pairs at {rate:g}": ("contrastive", {"most_pairs": pairs, "learning_rate": rate})
        for pairs, rate in ((64, 1e-4), (128, 1e-4), (128, 2e-4), (128, 3e-4), (256, 1e-4), (512, 1e-4))
    },
}
Row = tuple[str, str]
"""A text and its label."""
R = TypeVar("R")


def main() -> None:
    """Measure what the file lacks and print the table."""
    start_as_worker("benchmarks.few_pairs")
    cells = Cells(FILE)
    for sample in range(SAMPLES):
        for domain in DOMAINS:
            for told in (*SETTINGS, FIT):
                place = {"task": domain, "draw": sample, "setting": told}
                if cells.lack(place):
                    train, test = draw_rows(read_rows(domain), ROWS, sample)
                    cells.keep(place, fit_file(train, test) if told == FIT else fit_alone(*SETTINGS[told], train, test))
    print(write_table({"cells": cells.found}))


@cache
def read_rows(domain: str) -> Sequence[Row]:
    """All rows of a domain."""
    task = sentiment.load(sentiment.Settings(), None)
    [rows] = [each.rows for each in task.test_sets if each.name == domain]
    return [(row.fields[task.fields[0]], task.labels[row.label]) for row in rows if row.label is not None]


def draw_rows(rows: Sequence[R], count: int, sample: int) -> tuple[Sequence[R], Sequence[R]]:
    """Rows to be fitted on, at random, and others to be answered."""
    order = np.random.default_rng(sample).permutation(len(rows))[: count + TESTED]
    return [rows[place] for place in order[:count]], [rows[place] for place in order[count:]]


def fit_alone(method: str, settings: Mapping[str, Any], train: Sequence[Row], test: Sequence[Row]) -> dict[str, Any]:
    """One method's accuracy and the seconds of its fit."""
    task = make_task([{"text": text} for text, _ in train], [label for _, label in train])
    began = time.perf_counter()
    predictor = fit_task(task, (), FitRequest(method, MODEL, settings, 0, None))
    return {"seconds": time.perf_counter() - began, "accuracy": score(predictor.predict, test)}


def fit_file(train: Sequence[Row], test: Sequence[Row]) -> dict[str, Any]:
    """The accuracy of what the command saves, its seconds, and what it chose."""
    with tempfile.TemporaryDirectory() as folder:
        file, saved = Path(folder) / "train.csv", Path(folder) / "model"
        polars.DataFrame(train, schema=["text", "label"], orient="row").write_csv(file)
        command = [sys.executable, "-m", "fewtune.cli", "fit", str(file), "--budget", BUDGET, "--save", str(saved)]
        began = time.perf_counter()
        # A code that is not 0 tells that the model is not clearly above the majority class; it is saved all the same.
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        seconds, predictor = time.perf_counter() - began, fewtune.load(saved)
        return {
            "seconds": seconds,
            "accuracy": score(predictor.predict, test),
            "chosen": predictor.origin["choice"]["chosen"],
        }


def score(predict: Any, test: Sequence[tuple[Any, str]]) -> float:
    """The share of rows that are answered right."""
    answers = predict([text for text, _ in test])
    return fmean(given == label for given, (_, label) in zip(answers, test, strict=True))


def write_table(results: dict[str, Any]) -> str:
    """Accuracy by setting and domain, in the mean of the samples, as Markdown."""
    rows = []
    for told in (*SETTINGS, FIT):
        own = [cell for cell in results["cells"] if cell["setting"] == told]
        if not own:
            continue
        by_domain = [fmean(cell["accuracy"] for cell in own if cell["task"] == domain) for domain in DOMAINS]
        seconds = fmean(cell["seconds"] for cell in own)
        rows.append([told, *(f"{each:.3f}" for each in (*by_domain, fmean(by_domain))), f"{seconds:.0f} s"])
    table = write_markdown(("MPNet", *DOMAINS, "mean", "seconds"), rows)
    machine = f"\n\n{write_machine(results['machine'])}." if "machine" in results else ""
    return f"{table}{machine}"


if __name__ == "__main__":
    main()
