"""CoLA's patterns once shown or taught: `minimal`, `correct`, the best of twelve before any fit, and swapped words.

    python -m benchmarks.cola_pattern_fits DATA_DIR    writes benchmarks/results/cola_pattern_fits.json, goes on

SmolLM2 135M, 32 labelled rows of CoLA's development rows, pattern-based fine-tuning and in-context learning with their
defaults, and behind four contexts calibrated by the rows that are asked; every pattern on the same draws. No
pattern was judged on these rows before. Swapped label words are the control: where a pattern's words mean nothing to
the model, both orders do equally well. Intervals are Student's, of draws, of the difference from `minimal`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.cells import Cells, format_gain, run_experiment
from benchmarks.cola_patterns import BASE
from benchmarks.development_rows import load_exchanged_task
from benchmarks.in_context_settings import MODEL
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.method_settings import SHOTS, TESTED, measure_cell
from fewtune.engine.loading import load_model
from fewtune.models import find_model
from fewtune.tasks.base import Pattern
from fewtune.tasks.cola import PATTERNS
from fewtune.tasks.draw import Sampling, make_draw

FILE = ROOT / "benchmarks" / "results" / "cola_pattern_fits.json"
DRAWS = 6
ARMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "in_context": ("in_context", {"contexts": 1, "calibration": "contextual"}),
    "in_context, four contexts, scored": ("in_context", {"contexts": 4, "demonstrations": 8, "calibration": "scored"}),
    "pattern": ("pattern", {"epochs": 40, "learning_rate": 2e-5}),
}
"""Methods and settings that patterns are compared in, by what tells them apart."""
FIGURES = ("accuracy", "mcc", "auroc", "log_loss")


def swap(pattern: Pattern) -> Pattern:
    """The pattern with its label words the other way round."""
    return replace(pattern, name=f"{pattern.name}, swapped", label_words=pattern.label_words[::-1])


COMPARED = tuple(
    each
    for name in (BASE, "correct")
    for pattern in PATTERNS
    if pattern.name == name
    for each in (pattern, swap(pattern))
)


def measure(data_dir: Path) -> None:
    """Every cell that is not done yet, kept as it comes."""
    cells = Cells(FILE)
    model = load_model(find_model(MODEL), cells.precision)
    whole = load_exchanged_task("cola", data_dir)
    for seed, pattern, (told, (method, settings)) in product(range(DRAWS), COMPARED, ARMS.items()):
        place = {"method": told, "draw": seed, "pattern": pattern.name, "words": list(pattern.label_words)}
        if not cells.lack(place):
            continue
        task = replace(whole, patterns=(pattern,))
        draw = make_draw(task, Sampling(SHOTS, in_domain_rows=TESTED), seed)
        cells.keep(place, measure_cell(model, task, draw, method, settings, seed))


def write_table(results: Mapping[str, Any]) -> str:
    """A row a method and pattern, of the draws that every pattern of the method has."""
    rows, drawn = [], []
    for method in ARMS:
        by_draw: dict[int, dict[str, Mapping[str, Any]]] = {}
        for cell in results["cells"]:
            if cell["method"] == method:
                by_draw.setdefault(cell["draw"], {})[cell["pattern"]] = cell
        whole = [own for own in by_draw.values() if len(own) == len(COMPARED)]
        drawn.append(f"{method} {len(whole)}")
        if not whole:
            continue
        for pattern in COMPARED:
            means = [fmean(own[pattern.name][figure] for own in whole) for figure in FIGURES]
            gains = [own[pattern.name]["auroc"] - own[BASE]["auroc"] for own in whole]
            words = " / ".join(word.strip() for word in pattern.label_words)
            told = "" if pattern.name == BASE else format_gain({"cola": gains})
            rows.append([method, pattern.name, words, *(f"{mean:.3f}" for mean in means), told])
    heads = ("method", "pattern", "words", "accuracy", "MCC", "AUROC", "log loss", f"AUROC over {BASE}'s")
    return f"{write_markdown(heads, rows)}\n\nDraws: {'; '.join(drawn)}. {write_machine(results['machine'])}."


if __name__ == "__main__":
    run_experiment("benchmarks.cola_pattern_fits", __doc__, FILE, measure, write_table)
