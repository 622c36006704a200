"""`fewtune predict` and `fewtune evaluate`: a saved model on new rows."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from fewtune.cli.output import console, say, say_error
from fewtune.errors import FewtuneError
from fewtune.terminal import make_text

Model = Annotated[Path, Parameter(help="A folder that `fewtune fit` saved.")]


def predict(
    model: Model,
    rows: Annotated[Path, Parameter(help="The rows: CSV, TSV, JSON Lines or Parquet, with the columns of text.")],
    *,
    out: Annotated[Path | None, Parameter(help="File to write, as CSV; the standard output where not given.")] = None,
) -> int:
    """Answer rows by a saved model: a label and a probability of each label, a line a row, as CSV.

    The label is left empty where the model abstains (`fewtune fit --abstain-at`).
    """
    from fewtune.api import load
    from fewtune.predictors.rows import read_texts, split_rows

    predictor = load(model)
    texts = read_texts(rows, predictor.fields)
    if out is not None and out.exists():
        raise FewtuneError(f"{out} exists: give --out a new file.")
    stream = sys.stdout if out is None else out.open("w", encoding="utf-8", newline="")
    try:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["label", *(f"probability of {label}" for label in predictor.labels)])
        done = 0
        for part in split_rows(texts):
            probabilities = predictor.predict_probabilities(part)
            for label, each in zip(predictor.answer(probabilities), probabilities, strict=True):
                writer.writerow([label or "", *(f"{value:.6f}" for value in each)])
            done += len(part)
            if sys.stderr.isatty():
                say_error(f"{done} of {len(texts)} rows")
    finally:
        if out is not None:
            stream.close()
    if out is not None:
        say_error(f"{len(texts)} rows answered in {out}")
    return 0


def evaluate(
    model: Model,
    test: Annotated[Path, Parameter(help="Labelled rows.")],
    *,
    label: Annotated[str, Parameter(help="The column of labels.")] = "label",
) -> int:
    """Score a saved model on labelled rows: metrics with 95 % intervals, and which label was taken for which."""
    import numpy as np

    from fewtune.api import load
    from fewtune.evaluation import measure
    from fewtune.predictors.rows import read_labels, read_texts, split_rows
    from fewtune.report.wording import word_score

    predictor = load(model)
    texts = read_texts(test, predictor.fields)
    gold = np.array(read_labels(test, label, predictor.labels), dtype=np.int64)
    probabilities = np.concatenate([predictor.predict_probabilities(part) for part in split_rows(texts)])
    found = measure(probabilities, gold)
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, bounds in found.metrics.items():
        interval = "" if bounds.low is None or bounds.high is None else f"{bounds.low:.3f} to {bounds.high:.3f}"
        table.add_row(name, word_score(bounds.mean), interval)
    console.print(table)
    answers = [label is not None for label in predictor.answer(probabilities)]
    if predictor.abstention is not None:
        wrong = int((probabilities.argmax(axis=1) != gold)[answers].sum())
        say(_word_answered(sum(answers), len(gold), wrong, predictor.abstention.risk))
    say(f"{len(gold)} rows; always answering the commonest label scores {found.majority:.3f} accuracy.")
    confusion = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    confusion.add_column("is \\ taken for")
    for name in predictor.labels:
        confusion.add_column(make_text(name), justify="right")
    for name, counts in zip(predictor.labels, found.confusion, strict=True):
        confusion.add_row(make_text(name), *map(str, counts.tolist()))
    console.print(confusion)
    return 0


def _word_answered(answered: int, rows: int, wrong: int, risk: float) -> str:
    """What a model that abstains did, with the exact 95 % interval of the share that was wrong."""
    from scipy.stats import binomtest

    if not answered:
        return f"It abstained on all {rows} rows."
    found = binomtest(wrong, answered).proportion_ci()
    return (
        f"It answered {answered} of {rows} rows and abstained on the rest; {wrong / answered:.3f} of its answers are "
        f"wrong [{found.low:.3f}, {found.high:.3f}], {risk:g} may be."
    )
