"""What each candidate of `fewtune fit` gives on few rows, on rows that are no evidence of `take_home`.

    python -m benchmarks.candidates DATA_DIR    an hour; writes benchmarks/results/candidates.json, goes on, and
                                                writes the table of `fewtune.fitting.prior` by these records

Rows are of the other domains of `sentiment` (Amazon, NYT, tweets), of CoLA, and pairs of MNLI, SNLI and PAWS: some
drawn at random, and 300 others that each model answers. Each candidate is fitted on all of the drawn rows, as in a
last fit that has time enough.
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
from benchmarks.few_pairs import DOMAINS, draw_rows, read_rows, score
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import write_results
from fewtune.fitting.candidates import Candidate, list_candidates
from fewtune.fitting.kept_models import KeptModels
from fewtune.fitting.prior import BASE, TABLE, TEXTS
from fewtune.running.fit_rows import FitRequest, fit_task, make_task

FILE = ROOT / "benchmarks" / "results" / "candidates.json"
SAMPLES = {(32, 1): 2, (32, 2): 1, (128, 1): 1}
"""By how many rows are fitted on, and of how many texts each, how many samples of them."""
HELD = 3
"""As many files' worth counts what all kinds vary by, beside what one does."""
ROWS = tuple(dict.fromkeys(rows for rows, _ in SAMPLES))
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
    run_experiment("benchmarks.candidates", __doc__, FILE, measure, write_table)
    write_results(TABLE, tabulate(json.loads(FILE.read_text(encoding="utf-8"))["cells"]))


def measure(data_dir: Path) -> None:
    """Fit every candidate on every sample that the file lacks."""
    cells = Cells(FILE)
    for (rows, texts), samples in SAMPLES.items():
        for name in (each for each in FILES if count_texts(each) == texts):
            for sample in range(samples):
                train, test = draw_rows(read_file(name, data_dir), rows, sample)
                task, models = make_task([given for given, _ in train], [label for _, label in train]), KeptModels()
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


def fit_one(candidate: Candidate, task: Any, test: Sequence[Row], models: KeptModels) -> dict[str, Any]:
    """A candidate's accuracy and the seconds of its fit."""
    began = time.perf_counter()
    longest = candidate.lengthen(candidate.lengths[-1])
    request = FitRequest(longest.method, longest.model, longest.settings)
    predictor = fit_task(task, (), request, read_model=models)
    seconds = time.perf_counter() - began
    return {"kind": candidate.kind, "seconds": seconds, "accuracy": score(predictor.predict, test)}


def tabulate(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What records say of each kind, by texts and rows: the mean over files of its accuracy above the base's, and how
    far a new file is thought to be off that; beside them the share that the base got wrong.
    """
    texts = {
        told: {str(rows): found for rows in ROWS if (found := _expect(cells, rows, count))}
        for count, told in TEXTS.items()
    }
    return {"command": "python -m benchmarks.candidates DATA_DIR", "base": BASE, "texts": texts}


def _expect(cells: Sequence[Mapping[str, Any]], rows: int, texts: int) -> dict[str, Any]:
    """The means and spreads of so many rows of so many texts; nothing where there are no such cells."""
    own = [cell for cell in cells if cell["rows"] == rows and count_texts(cell["task"]) == texts]
    places = list(dict.fromkeys((cell["task"], cell["draw"]) for cell in own))
    if not own:
        return {}
    # Where a kind was tried with and without balanced weights, the first stands for it: that without.
    found = {(cell["task"], cell["draw"], cell["kind"]): cell["accuracy"] for cell in reversed(own)}
    kinds = [each for each in dict.fromkeys(kind for *_, kind in found) if all((*p, each) in found for p in places)]
    scores = np.array([[found[(*place, kind)] for kind in kinds] for place in places])
    names = [name for name, _ in places]
    by_file = np.array([scores[[name == each for name in names]].mean(axis=0) for each in dict.fromkeys(names)])
    means = by_file.mean(axis=0)
    off = scores - scores.mean(axis=1, keepdims=True) - (scores.mean(axis=0) - scores.mean())
    # Each kind's variance from file to file, held to that of all: it is known by a few files.
    freedom = len(places) - 1
    variances = (off**2).sum(axis=0) / freedom * len(kinds) / (len(kinds) - 1)
    variances = (freedom * variances + HELD * variances.mean()) / (freedom + HELD)
    spreads = np.sqrt(variances * (1 + 1 / len(by_file)))
    base = means[kinds.index(BASE)]
    expected = {
        kind: {"mean": round(float(mean), 4), "spread": round(float(spread), 4)}
        for kind, mean, spread in sorted(zip(kinds, means - base, spreads, strict=True), key=lambda each: -each[1])
    }
    return {"base_error": round(float(1 - base), 4), "kinds": expected}


def count_texts(name: str) -> int:
    """How many texts a row of a file has."""
    return len(PARTS[name][1]) if name in PARTS else 1


def write_table(results: dict[str, Any]) -> str:
    """Points of accuracy above the base by file, and seconds, one table for each number of rows, as Markdown."""
    tables = []
    for rows in ROWS:
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
