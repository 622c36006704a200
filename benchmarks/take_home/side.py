"""A process that makes a model of a cell's rows as a contender's users do, then answers the cell's test rows.

Owns what lies in the folder between a cell and this process. `python -m benchmarks.take_home.side FOLDER`: reads
`asked.json`, `train.csv` and `test.csv` there; writes `made.json` the moment that the model is there, `answers.npz`.
Imports nothing of fewtune but for a model of fewtune's: peers may live in an environment of their own.
"""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.take_home.peers import MAKERS, Made

ASKED, TRAIN, TEST, MADE, ANSWERS = "asked.json", "train.csv", "test.csv", "made.json", "answers.npz"
LABEL = "label"
NOT_TIMED = -1.0
"""In the place of the latency, where other work runs beside."""
NO_ANSWER = -1
"""In the place of a label, where a model says that a row has none of them."""
TIMED_ROWS = 20
"""Rows answered one at a time for the latency, after one that warms up."""


def write_rows(path: Path, fields: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table as a user has one."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(fields)
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """A table's rows."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def run_side(folder: Path) -> None:
    """Make what is asked for, and answer."""
    asked: dict[str, Any] = json.loads((folder / ASKED).read_text(encoding="utf-8"))
    train, test = read_rows(folder / TRAIN), read_rows(folder / TEST)
    fields, labels = asked["fields"], asked["labels"]
    made = MAKERS[asked["kind"]](
        [[row[field] for field in fields] for row in train], [row[LABEL] for row in train], asked, folder
    )
    moment = folder / f"{MADE}.part"
    moment.write_text(json.dumps({"at": time.time(), "notes": made.notes}), encoding="utf-8")
    moment.rename(folder / MADE)
    texts = [[row[field] for field in fields] for row in test]
    latency = time_rows(made, texts) if asked["timed"] else NOT_TIMED
    probabilities = spread(made.answer(texts), made.labels, labels)
    predicted = probabilities.argmax(axis=1)
    if made.decide is not None:
        given = made.decide(texts)
        predicted = np.array([NO_ANSWER if label is None else labels.index(label) for label in given])
    np.savez(folder / ANSWERS, probabilities=probabilities, predicted=predicted, latency=latency)


def time_rows(made: Made, texts: Sequence[Sequence[str]]) -> float:
    """Seconds that a row takes, answered alone: the median."""
    seconds = []
    for text in texts[: TIMED_ROWS + 1]:
        began = time.perf_counter()
        made.answer_one([text])
        seconds.append(time.perf_counter() - began)
    return median(seconds[1:])


def spread(probabilities: np.ndarray, own: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Probabilities (rows, own labels) over all labels of the file: those that a model has not seen have none."""
    found = np.zeros((len(probabilities), len(labels)))
    found[:, [labels.index(label) for label in own]] = probabilities
    return found


if __name__ == "__main__":
    run_side(Path(sys.argv[1]))
