"""What settings give with fewer and with more rows than the screenings had, on rows that are no evidence.

    python -m benchmarks.settings_by_shots DATA_DIR    writes benchmarks/results/settings_by_shots.json, goes on

SmolLM2 135M (MiniLM L6 for embeddings) on the development rows of `sentiment` and CoLA (halves of their training
rows), and of BANKING77 where topics are said. Screenings of settings fitted 32 rows (`method_settings`). Pattern-based
fine-tuning and LoRA at their default rates by the number of steps; probe, embeddings and TF-IDF by their regression's
penalty, a number or chosen. Every setting meets the same draws; differences are told from one of them, with Student's
intervals of draws, too narrow where draws share test rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.cells import Cells, format_gain_over, place_cells, run_experiment
from benchmarks.development_rows import BANKING, load_screened_task
from benchmarks.in_context_settings import MODEL
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.method_settings import FIGURES, MODELS, SHORT, TESTED, measure_cell
from fewtune.engine.loading import load_model
from fewtune.models import find_model
from fewtune.tasks.draw import Sampling, make_draw

FILE = ROOT / "benchmarks" / "results" / "settings_by_shots.json"
Arms = Mapping[str, Mapping[str, Any]]
"""Settings by what tells them apart."""


@dataclass(frozen=True)
class Compared:
    """A method's settings by the number of labelled rows, and the one that the others are told from."""

    base: str
    arms: Mapping[int, Arms]
    draws: int = 2
    tasks: Sequence[str] = SHORT
    method: str | None = None
    """None: that of its name."""


def _take_steps(rate: float, *numbers: int) -> Arms:
    return {f"{steps} steps": {"learning_rate": rate, "steps": steps} for steps in numbers}


CHOSEN: Arms = {"C chosen": {"inverse_penalty": "auto"}}
PENALTIES: Arms = {f"C {inverse:g}": {"inverse_penalty": inverse} for inverse in (0.003, 0.01, 0.03, 0.1)}
METHODS: Mapping[str, Compared] = {
    **{
        name: Compared("20 steps", {16: _take_steps(rate, 10, 20, 40), 128: _take_steps(rate, 20, 40, 80)})
        for name, rate in (("pattern", 1e-5), ("lora", 5e-4))
    },
    "probe": Compared("C 0.1", dict.fromkeys((16, 64, 128, 512), PENALTIES), draws=4),
    **{
        f"{name} (penalty chosen)": Compared(
            f"C {usual:g}",
            {key: {f"C {usual:g}": {"inverse_penalty": usual}, **CHOSEN} for key in (16, 64, 512)},
            method=name,
        )
        for name, usual in (("probe", 0.01), ("tfidf", 10.0), ("embeddings", 1.0))
    },
    "embeddings (77 topics)": Compared(
        "C 1",
        {key: {"C 1": {"inverse_penalty": 1.0}, "C 100": {"inverse_penalty": 100.0}, **CHOSEN} for key in (154, 400)},
        tasks=(BANKING,),
        method="embeddings",
    ),
}
GAINS = ("auroc", "log_loss")


def measure(data_dir: Path) -> None:
    """Every cell that is not done yet, kept as it comes."""
    cells = Cells(FILE)
    find_loaded = cache(lambda name: load_model(find_model(name), cells.precision))
    find_task = cache(lambda name: load_screened_task(name, data_dir))
    for told_method, compared in METHODS.items():
        method = compared.method or told_method
        for seed, (shots, arms), name in product(range(compared.draws), compared.arms.items(), compared.tasks):
            for told, settings in arms.items():
                place = {"method": told_method, "shots": shots, "task": name, "draw": seed, "setting": told}
                if cells.lack(place):
                    task, model = find_task(name), find_loaded(MODELS.get(method, MODEL))
                    draw = make_draw(task, Sampling(shots, in_domain_rows=TESTED), seed)
                    cells.keep(place, measure_cell(model, task, draw, method, settings, seed))


def write_table(results: Mapping[str, Any]) -> str:
    """A row a method, number of rows and setting, of the draws of tasks that have every setting."""
    rows, drawn = [], []
    for method, compared in METHODS.items():
        for shots, arms in compared.arms.items():
            cells = [cell for cell in results["cells"] if (cell["method"], cell["shots"]) == (method, shots)]
            whole = place_cells(cells, "setting", arms)
            drawn.append(f"{method} {shots} rows: {len(whole)}")
            for told in arms if whole else ():
                own = [each[told] for each in whole.values()]
                means = [f"{fmean(cell[figure] for cell in own):.3f}" for figure in FIGURES]
                gains = [format_gain_over(whole, told, compared.base, figure) for figure in GAINS]
                seconds = f"{fmean(cell['seconds'] for cell in own):.0f}"
                rows.append([method, str(shots), told, *means, seconds, *gains])
    heads = ("method", "rows", "setting", "accuracy", "AUROC", "log loss", "s a fit")
    table = write_markdown((*heads, "AUROC over the base's", "log loss over the base's"), rows)
    bases = ", ".join(f"{compared.base} of {name}" for name, compared in METHODS.items())
    told = f"The base is {bases}. Draws of all tasks together: {'; '.join(drawn)}."
    return f"{table}\n\n{told} {write_machine(results['machine'])}."


if __name__ == "__main__":
    run_experiment("benchmarks.settings_by_shots", __doc__, FILE, measure, write_table)
