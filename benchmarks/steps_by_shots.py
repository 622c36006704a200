"""How many steps a fit should take with fewer and with more rows than the screenings had, on rows that are no evidence.

    python -m benchmarks.steps_by_shots DATA_DIR    writes benchmarks/results/steps_by_shots.json, goes on

SmolLM2 135M, pattern-based fine-tuning and LoRA at their default rates, on the development rows of `sentiment` and CoLA
(halves of their training rows). Screenings of settings fitted 32 rows in 20 or 80 steps (`fine_tuning_settings`). Every
number of steps meets the same draws; differences are told from 20 steps, with Student's intervals of draws, too narrow
where draws share test rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.cells import Cells, place_cells, run_experiment, word_gain_over
from benchmarks.development_rows import load_screened_task
from benchmarks.fine_tuning_settings import FIGURES, SHORT, TESTED, measure_cell
from benchmarks.in_context_settings import MODEL
from benchmarks.markdown import write_machine, write_markdown
from fewtune.engine.loading import load_model
from fewtune.models import find_model
from fewtune.tasks.draw import Sampling, make_draw

FILE = ROOT / "benchmarks" / "results" / "steps_by_shots.json"
DRAWS = 2
RATES: Mapping[str, float] = {"pattern": 1e-5, "lora": 5e-4}
STEPS: Mapping[int, tuple[int, ...]] = {16: (10, 20, 40), 128: (20, 40, 80)}
"""Steps of a fit, by labelled rows; of sixteen a step."""
BASE = 20
GAINS = ("auroc", "log_loss")


def measure(data_dir: Path) -> None:
    """Every cell that is not done yet, kept as it comes."""
    cells = Cells(FILE)
    model = load_model(find_model(MODEL), cells.precision)
    tasks = {name: load_screened_task(name, data_dir) for name in SHORT}
    for seed, (method, rate), (shots, numbers) in product(range(DRAWS), RATES.items(), STEPS.items()):
        for name, steps in product(SHORT, numbers):
            place = {"method": method, "shots": shots, "task": name, "draw": seed, "steps": steps}
            if cells.lack(place):
                draw = make_draw(tasks[name], Sampling(shots, in_domain_rows=TESTED), seed)
                settings = {"learning_rate": rate, "steps": steps}
                cells.keep(place, measure_cell(model, tasks[name], draw, method, settings, seed))


def write_table(results: Mapping[str, Any]) -> str:
    """A row a method, number of rows and of steps, of the draws of tasks that have every number of steps."""
    rows, drawn = [], []
    for (method, _), (shots, numbers) in product(RATES.items(), STEPS.items()):
        cells = [cell for cell in results["cells"] if (cell["method"], cell["shots"]) == (method, shots)]
        whole = place_cells(cells, "steps", numbers)
        drawn.append(f"{method} {shots} rows: {len(whole)}")
        if not whole:
            continue
        for steps in numbers:
            own = [each[steps] for each in whole.values()]
            means = [f"{fmean(cell[figure] for cell in own):.3f}" for figure in FIGURES]
            gains = [word_gain_over(whole, steps, BASE, figure) for figure in GAINS]
            seconds = f"{fmean(cell['seconds'] for cell in own):.0f}"
            rows.append([method, str(shots), str(steps), *means, seconds, *gains])
    heads = ("method", "rows", "steps", "accuracy", "AUROC", "log loss", "s a fit")
    table = write_markdown((*heads, f"AUROC over {BASE} steps'", f"log loss over {BASE} steps'"), rows)
    return f"{table}\n\nDraws of both tasks together: {'; '.join(drawn)}. {write_machine(results['machine'])}."


if __name__ == "__main__":
    run_experiment("benchmarks.steps_by_shots", __doc__, FILE, measure, write_table)
