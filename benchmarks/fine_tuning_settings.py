"""What the settings of methods that train give, ten to sixteen for each, on rows that are no evidence.

    python -m benchmarks.fine_tuning_settings METHOD DATA_DIR    vanilla, adaptive or context_distillation; goes on

Writes benchmarks/results/settings_METHOD.json. SmolLM2 135M, 32 labelled rows and 64 unlabelled, on the development
rows of four tasks (halves of their training rows); every setting meets the same draws. Draws are gone through one after
the other over all tasks and settings, so that what is there at any time compares like with like. Figures are means over
draws of each task, then over tasks, of draws that all settings have.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.apart import ROOT, start_as_worker
from benchmarks.in_context_settings import MODEL, TASKS, judge, load_development_task
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment, write_results
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.methods import get_method
from fewtune.models import find_model, resolve_precision
from fewtune.processor import usable_cores
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.tasks.base import Draw, Task
from fewtune.tasks.draw import Sampling, make_draw

SHOTS, POOL, TESTED, DRAWS = 32, 64, 150, 10
Arms = Mapping[str, Mapping[str, Any]]
"""Settings by what tells them apart."""

HEADS: Arms = {
    "head as the rest, 2e-5": {"head_learning_rate": 2e-5},
    "head 1e-3": {"head_learning_rate": 1e-3},
    "head 1e-3 from zero": {"head_learning_rate": 1e-3, "head_start": "zero"},
    "head 2e-5 from a regression": {"head_learning_rate": 2e-5, "head_start": "regression"},
}
VANILLA: Arms = {
    f"{'prompted' if prompted else 'plain'}, {told}, {steps} steps": {**head, "prompted": prompted, "steps": steps}
    for prompted, (told, head), steps in product((False, True), HEADS.items(), (40, 200))
}
ADAPTIVE: Arms = {
    f"{share:.2g} of the blocks, {rate:g}": {"blocks": share, "learning_rate": rate}
    for share, rate in product((0.125, 0.5, 0.667), (1e-5, 2e-5, 5e-5, 2e-4))
}
DISTILLATION: Arms = {
    f"alpha {alpha}, {steps} steps{', tuned teacher' if tuned else ''}": {
        "alpha": alpha,
        "steps": steps,
        "tuned_teacher_epochs": tuned,
    }
    for alpha, steps, tuned in product((0.3, 0.9, "worth"), (48, 160), (0, 10))
    if not (alpha == "worth" and tuned)
}
ARMS: Mapping[str, Arms] = {"vanilla": VANILLA, "adaptive": ADAPTIVE, "context_distillation": DISTILLATION}
FIGURES = ("accuracy", "auroc", "log_loss")


def find_file(method: str) -> Path:
    """Where a method's cells are kept."""
    return ROOT / "benchmarks" / "results" / f"settings_{method}.json"


def measure_cell(
    model: LanguageModel, task: Task, draw: Draw, name: str, settings: Mapping[str, Any], seed: int
) -> dict[str, float]:
    """Accuracy, AUROC and log loss on the draw's test rows, and the fit's seconds with its preparation."""
    method, rng = get_method(name), np.random.default_rng(seed)
    resolved = method.resolve(method.settings(**settings), task, len(draw.support), len(draw.pool))
    began = time.perf_counter()
    plan, _ = fit_plan(make_plan(method, resolved, model, task, draw, rng), rng)
    seconds = time.perf_counter() - began
    rows = draw.test_sets[0].rows
    scores = plan.predictor.scorer.log_probabilities([row.without_label() for row in rows])
    return {**judge(scores, np.array([row.label for row in rows])), "seconds": round(seconds, 2)}


def measure(name: str, data_dir: Path | None, draws: int) -> None:
    """Every cell that is not done yet, kept as it comes."""
    file = find_file(name)
    found = json.loads(file.read_text(encoding="utf-8"))["cells"] if file.is_file() else []
    have = {(cell["task"], cell["draw"], cell["setting"]) for cell in found}
    model = load_model(find_model(MODEL), resolve_precision("auto"))
    for seed, task_name in product(range(draws), TASKS):
        task = load_development_task(task_name, data_dir)
        draw = make_draw(task, Sampling(SHOTS, pool_rows=POOL, in_domain_rows=TESTED), seed)
        for told, settings in ARMS[name].items():
            if (task_name, seed, told) in have:
                continue
            cell = {"task": task_name, "draw": seed, "setting": told}
            found.append(cell | measure_cell(model, task, draw, name, settings, seed))
            print(found[-1], flush=True)
            machine = describe_machine(usable_cores())
            write_results(file, {"method": name, "cells": found, "machine": machine, **describe_moment()})


def write_table(results: dict[str, Any]) -> str:
    """A row a setting: accuracy by task, then means over tasks, of the draws that every setting has."""
    arms = ARMS[results["method"]]
    by_place: dict[tuple[str, int], dict[str, Any]] = {}
    for cell in results["cells"]:
        by_place.setdefault((cell["task"], cell["draw"]), {})[cell["setting"]] = cell
    whole = {place: cells for place, cells in by_place.items() if len(cells) == len(arms)}
    counts = {task: sum(place[0] == task for place in whole) for task in TASKS}
    rows = []
    for told in arms:
        own = {task: [cells[told] for (of, _), cells in whole.items() if of == task] for task in TASKS}
        by_task = [f"{fmean(cell['accuracy'] for cell in cells):.3f}" if cells else "" for cells in own.values()]
        rows.append([told, *by_task, *_average(list(own.values()))])
    heads = ("setting", *TASKS, "accuracy", "AUROC", "log loss", "s a fit")
    drawn = ", ".join(f"{task} {count}" for task, count in counts.items())
    return f"{write_markdown(heads, rows)}\n\nDraws: {drawn}. {write_machine(results['machine'])}."


def _average(by_task: Sequence[Sequence[Mapping[str, float]]]) -> list[str]:
    present = [cells for cells in by_task if cells]
    if not present:
        return [""] * (len(FIGURES) + 1)
    means = [fmean(fmean(cell[figure] for cell in cells) for cells in present) for figure in (*FIGURES, "seconds")]
    return [*(f"{mean:.3f}" for mean in means[:-1]), f"{means[-1]:.0f}"]


def main() -> None:
    """Measure what is missing and print the table."""
    start_as_worker("benchmarks.fine_tuning_settings")
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fine_tuning_settings", description=summary)
    parser.add_argument("method", choices=sorted(ARMS))
    parser.add_argument("data_dir", type=Path, nargs="?", help="where the tasks' files lie; fetched where not given")
    parser.add_argument("--draws", type=int, default=DRAWS)
    given = parser.parse_args()
    measure(given.method, given.data_dir, given.draws)
    print(write_table(json.loads(find_file(given.method).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
