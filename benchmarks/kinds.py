"""What each candidate of `fewtune fit` gives on few rows, on rows that are no evidence of `take_home`.

    python -m benchmarks.kinds DATA_DIR    an hour; writes benchmarks/results/kinds.json, goes on

Rows are of the other domains of `sentiment` (Amazon, NYT, tweets), of CoLA, and pairs of MNLI, SNLI and PAWS: some
drawn at random, and 300 others that each model answers. Each candidate is fitted on all of the drawn rows, with the
settings that it has for so many. `fewtune.fitting.earlier` has what is expected of each by these records.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.cells import Cells, run_experiment
from benchmarks.few_pairs import DOMAINS, read_rows, score
from benchmarks.markdown import write_machine, write_markdown
from fewtune.fitting.candidates import Candidate, list_candidates
from fewtune.fitting.kept_models import KeptModels
from fewtune.running.fit_rows import FitRequest, fit_task, make_task

FILE = ROOT / "benchmarks" / "results" / "kinds.json"
TESTED = 300
SAMPLES = {32: 2, 128: 1}
"""By how many rows are fitted on, how many samples of them."""
BASE = "embeddings (mpnet-base)"
"""Of what others are told as differences."""
NLI = (("premise", "hypothesis"), ("entailment", "neutral", "contradiction"))
PARTS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "cola": ("cola/in_domain_train.jsonl", ("sentence",), ("unacceptable", "acceptable")),
    "mnli": ("mnli/train.jsonl", *NLI),
    "snli": ("snli/train.jsonl", *NLI),
    "paws": ("paws_qqp/dev_and_test.jsonl", ("sentence1", "sentence2"), ("different", "paraphrase")),
}
"""Files beside the domains: where they lie, the columns of their texts, the names of their labels."""
FILES = (*DOMAINS, *PARTS)
Row = tuple[dict[str, str], str]
"""Texts by column and a label."""


def main() -> None:
    """Measure what the file lacks and print the table."""
    run_experiment("benchmarks.kinds", __doc__, FILE, measure, write_table)


def measure(data_dir: Path) -> None:
    """Fit every candidate on every sample that the file lacks."""
    cells = Cells(FILE)
    for rows, samples in SAMPLES.items():
        for sample in range(samples):
            for name in FILES:
                train, test = draw_rows(read_file(name, data_dir), rows, sample)
                task, models = make_task([texts for texts, _ in train], [label for _, label in train]), KeptModels()
                for candidate in list_candidates(task).candidates:
                    place = {"task": name, "draw": sample, "rows": rows, "candidate": candidate.name}
                    if cells.lack(place):
                        cells.keep(place, fit_one(candidate, task, test, models))


@cache
def read_file(name: str, data_dir: Path) -> Sequence[Row]:
    """All rows of a file."""
    if name in DOMAINS:
        return [({"text": text}, label) for text, label in read_rows(name)]
    part, columns, labels = PARTS[name]
    read = [json.loads(line) for line in (data_dir / part).read_text(encoding="utf-8").splitlines()]
    return [({column: " ".join(row[column].split()) for column in columns}, labels[row["label"]]) for row in read]


def draw_rows(rows: Sequence[Row], count: int, sample: int) -> tuple[Sequence[Row], Sequence[Row]]:
    """Rows to be fitted on, at random, and others to be answered."""
    order = np.random.default_rng(sample).permutation(len(rows))[: count + TESTED]
    return [rows[place] for place in order[:count]], [rows[place] for place in order[count:]]


def fit_one(candidate: Candidate, task: Any, test: Sequence[Row], models: KeptModels) -> dict[str, Any]:
    """A candidate's accuracy and the seconds of its fit."""
    began = time.perf_counter()
    request = FitRequest(candidate.method, candidate.model, candidate.settings)
    predictor = fit_task(task, (), request, read_model=models)
    return {"seconds": time.perf_counter() - began, "accuracy": score(predictor.predict, test)}


def write_table(results: dict[str, Any]) -> str:
    """Points of accuracy above the base by file, and seconds, one table for each number of rows, as Markdown."""
    tables = []
    for rows in SAMPLES:
        own = [cell for cell in results["cells"] if cell["rows"] == rows]
        if not own:
            continue
        base = _average([cell for cell in own if cell["candidate"] == BASE])
        lines = [[f"{BASE}: accuracy", *(f"{base[name]:.3f}" if name in base else "" for name in FILES), ""]]
        for candidate in dict.fromkeys(cell["candidate"] for cell in own):
            ours = [cell for cell in own if cell["candidate"] == candidate]
            found = _average(ours)
            above = [f"{100 * (found[name] - base[name]):+.1f}" if name in found else "" for name in FILES]
            lines.append([candidate, *above, f"{fmean(cell['seconds'] for cell in ours):.0f} s"])
        tables.append(write_markdown((f"{rows} rows", *FILES, "a fit"), lines))
    machine = f"\n\n{write_machine(results['machine'])}." if "machine" in results else ""
    return "\n\n".join(tables) + machine


def _average(cells: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean accuracy by file."""
    names = dict.fromkeys(cell["task"] for cell in cells)
    return {name: fmean(cell["accuracy"] for cell in cells if cell["task"] == name) for name in names}


if __name__ == "__main__":
    main()
