"""What the settings of methods that fit give, about ten for each, on rows that are no evidence.

    python -m benchmarks.method_settings METHOD DATA_DIR    one of `ARMS`; goes on where it was stopped

Writes benchmarks/results/settings_METHOD.json. SmolLM2 135M (a sentence encoder where `MODELS` names one), 32 labelled
rows and 64 unlabelled, on the development rows of four tasks (halves of their training rows). Every setting runs on one
draw of the two tasks with the shortest rows, those of the lowest sum of ranks in AUROC and log loss on one draw of the
others, and the best of these on fresh draws of all (`KEPT` says how many; `MORE_STEPS` and `BESIDES` what else); the
defaults run everywhere. On fresh draws alone are differences from the defaults told: the best of ten is too good where
it was chosen. Their intervals are Student's, of draws, and too narrow: draws of a task share half of their test rows.
Every setting meets the same draws. One process a method; two methods may run beside each other (OMP_NUM_THREADS=1).
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
from scipy import stats

from benchmarks.apart import ROOT, start_as_worker
from benchmarks.cells import Cell, Cells, format_gain_over, place_cells
from benchmarks.development_rows import SNLI, load_screened_task
from benchmarks.in_context_settings import MODEL, judge
from benchmarks.markdown import write_machine, write_markdown
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.methods import get_method
from fewtune.models import find_model
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.tasks.base import Draw, Task
from fewtune.tasks.draw import Sampling, make_draw

SHORT = ("sentiment", "cola")
TASKS = (*SHORT, "qqp", SNLI)
SHOTS, POOL, TESTED = 32, 64, 300
FRESH = 2
"""Draws of each task on which what is left runs."""
DEFAULTS = "as it stands"
Arms = Mapping[str, Mapping[str, Any]]
"""Settings by what tells them apart."""

HEADS: Arms = {
    "head as the rest, 2e-5": {"head_learning_rate": 2e-5},
    "head 1e-3": {"head_learning_rate": 1e-3},
    "head 1e-3 from zero": {"head_learning_rate": 1e-3, "head_start": "zero"},
    "head 2e-5 from a regression": {"head_learning_rate": 2e-5, "head_start": "regression"},
}
VANILLA: Arms = {
    f"{'prompted' if prompted else 'plain'}, {told}": {**head, "prompted": prompted, "steps": 40}
    for prompted, (told, head) in product((False, True), HEADS.items())
}
ADAPTIVE: Arms = {
    f"{share:.2g} of the blocks, {rate:g}": {"blocks": share, "learning_rate": rate}
    for share, rate in product((0.125, 0.5, 0.667), (1e-5, 2e-5, 5e-5, 2e-4))
    if (share, rate) != (0.125, 1e-5)  # as it stood, four of thirty blocks
}
DISTILLATION: Arms = {
    f"alpha {alpha}{', tuned teacher' if tuned else ''}, {steps if steps != 'worth' else '40 to 160'} steps": {
        "alpha": alpha,
        "steps": steps,
        "tuned_teacher_epochs": tuned,
    }
    for alpha, tuned, steps in (
        *product((0.3, 0.9, "worth"), (0,), (48, 160)),
        ("worth", 0, "worth"),
        *product((0.3, 0.9), (10,), (48,)),
    )
}
PROBES: Arms = {
    f"{'prompted' if prompted else 'plain'}, C {inverse:g}": {"prompted": prompted, "inverse_penalty": inverse}
    for prompted, inverse in product((True, False), (0.01, 0.03, 0.1, 0.3, 1.0))
    if (prompted, inverse) != (True, 0.1)  # as it stands
}
WORDS: Arms = {
    f"runs of {longest}, C {inverse:g}": {"longest_phrase": longest, "inverse_penalty": inverse}
    for longest, inverse in product((1, 2, 3), (1.0, 10.0, 100.0, 1000.0))
    if (longest, inverse) != (2, 10.0)  # as it stands
}
PENALTIES: Arms = {
    f"C {inverse:g}": {"inverse_penalty": inverse}
    for inverse in (0.01, 0.03, 0.1, 0.3, 3.0, 10.0, 30.0, 100.0, 300.0)  # as it stands: 1
}
PAIRS: Arms = {
    f"{rate:g}, {epochs} {'epoch' if epochs == 1 else 'epochs'}": {"learning_rate": rate, "epochs": epochs}
    for rate, epochs in product((5e-6, 1e-5, 2e-5, 5e-5, 1e-4), (1, 4))
    if (rate, epochs) != (2e-5, 1)  # as it stands
}
STOOD: Arms = {
    "adaptive": {"blocks": 4, "learning_rate": 1e-5},
    "bitfit": {"readout": "head"},
    "contrastive": {"learning_rate": 2e-5},
    "embeddings": {"inverse_penalty": 1.0},
    "ia3": {"epochs": 40},
    "lora": {"epochs": 40},
    "pattern": {"epochs": 40, "learning_rate": 2e-5},
    "probe": {"inverse_penalty": 0.1},
    "soft_prompt": {"epochs": 40, "learning_rate": 3e-3},
    "tfidf": {"inverse_penalty": 10.0},
}
"""What stood, by method, where it is not the defaults: these changed since, or the model has no label words."""
ARMS: Mapping[str, Arms] = {
    name: {DEFAULTS: STOOD.get(name, {}), **arms}
    for name, arms in (
        ("vanilla", VANILLA),
        ("adaptive", ADAPTIVE),
        ("context_distillation", DISTILLATION),
        ("probe", PROBES),
        ("tfidf", WORDS),
        ("embeddings", PENALTIES),
        ("contrastive", PAIRS),
        *(
            (
                name,
                {
                    f"{rate:g}, {steps} steps": {**read, "learning_rate": rate, "steps": steps}
                    for rate, steps in product(rates, (20, 80))
                    if (rate, steps) != (usual, 80)  # as it stands
                },
            )
            for name, usual, rates, read in (
                ("pattern", 2e-5, (5e-6, 1e-5, 2e-5, 5e-5, 1e-4), {}),
                ("lora", 5e-4, (1e-4, 2e-4, 5e-4, 1e-3, 2e-3), {}),
                ("ia3", 3e-3, (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), {}),
                ("soft_prompt", 3e-3, (1e-3, 3e-3, 1e-2, 3e-2, 1e-1), {}),
                ("bitfit", 1e-3, (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), {"readout": "head"}),
            )
        ),
    )
}
KEPT = {"vanilla": (4, 2), "adaptive": (4, 2)}
USUALLY_KEPT = (2, 1)
"""Settings beside the defaults that go on after the short tasks, and after all; by method, for those that ran first."""
MORE_STEPS = {"vanilla": 200}
"""Steps with which a method's best setting runs besides."""
BESIDES = {"context_distillation": "alpha 0.3, 48 steps"}
"""A setting that runs on fresh draws besides: for distillation, the best one under a teacher that is not tuned."""
MODELS = {"bitfit": "minilm-l6", "embeddings": "minilm-l6", "contrastive": "minilm-l6"}
"""A method's model where it is a sentence encoder: for `bitfit` because SmolLM2 has no biases."""
FIGURES = ("accuracy", "auroc", "log_loss")
GAINS = {"auroc": "AUROC over the defaults'", "log_loss": "log loss over the defaults'"}
"""Figures whose differences are told, and the heads of their columns."""


def find_file(method: str) -> Path:
    """Where a method's cells are kept."""
    return ROOT / "benchmarks" / "results" / f"settings_{method}.json"


def choose_survivors(name: str, cells: Sequence[Cell]) -> Arms:
    """The settings that run on the longer tasks: the defaults and the best on the short ones."""
    return _keep_best(ARMS[name], cells, SHORT, KEPT.get(name, USUALLY_KEPT)[0])


def choose_finalists(name: str, cells: Sequence[Cell]) -> Arms:
    """The settings that run on fresh draws: the defaults and the best survivors; for some methods another besides."""
    chosen = _keep_best(choose_survivors(name, cells), cells, TASKS, KEPT.get(name, USUALLY_KEPT)[1])
    if not chosen:
        return chosen
    first = next(told for told in chosen if told != DEFAULTS)
    if name in MORE_STEPS:
        steps = MORE_STEPS[name]
        chosen = {**chosen, f"{first}, {steps} steps": {**chosen[first], "steps": steps}}
    if name in BESIDES:
        chosen = {**chosen, BESIDES[name]: ARMS[name][BESIDES[name]]}
    return chosen


def is_finished(name: str, cells: Sequence[Cell], fresh: int = FRESH) -> bool:
    """Whether the finalists have run on so many fresh draws of every task."""
    finalists = choose_finalists(name, cells)
    have = {(cell["task"], cell["draw"], cell["setting"]) for cell in cells}
    wanted = product(TASKS, range(1, 1 + fresh), finalists)
    return bool(finalists) and all(place in have for place in wanted)


def _keep_best(arms: Arms, cells: Sequence[Cell], tasks: Sequence[str], kept: int) -> Arms:
    """The defaults, and the arms of the lowest sum of ranks in mean AUROC and mean log loss on the tasks' first draws.

    None before every arm has run on all of them.
    """
    of_tasks = [cell for cell in cells if cell["draw"] == 0 and cell["task"] in tasks]
    by_setting = [[cell for cell in of_tasks if cell["setting"] == told] for told in arms]
    if not arms or any(len(own) < len(tasks) for own in by_setting):
        return {}
    aurocs, losses = ([fmean(cell[figure] for cell in own) for own in by_setting] for figure in ("auroc", "log_loss"))
    standing = dict(zip(arms, stats.rankdata(losses) - stats.rankdata(aurocs), strict=True))
    best = sorted((told for told in arms if told != DEFAULTS), key=lambda told: standing[told])[:kept]
    return {told: arms[told] for told in (DEFAULTS, *best)}


def measure_cell(
    model: LanguageModel, task: Task, draw: Draw, name: str, settings: Mapping[str, Any], seed: int
) -> dict[str, float]:
    """Figures on the draw's test rows (`judge`), and the fit's seconds with its preparation."""
    method, rng = get_method(name), np.random.default_rng(seed)
    resolved = method.resolve(method.settings(**settings), task, len(draw.support), len(draw.pool))
    began = time.perf_counter()
    plan, _ = fit_plan(make_plan(method, resolved, model, task, draw, rng), rng)
    seconds = time.perf_counter() - began
    rows = draw.test_sets[0].rows
    scores = plan.predictor.scorer.log_probabilities([row.without_label() for row in rows])
    return {**judge(scores, np.array([row.label for row in rows])), "seconds": round(seconds, 2)}


def measure(name: str, data_dir: Path, fresh: int) -> None:
    """Every cell that is not done yet, kept as it comes."""
    cells = Cells(find_file(name), method=name)
    model = load_model(find_model(MODELS.get(name, MODEL)), cells.precision)
    tasks = {task_name: load_screened_task(task_name, data_dir) for task_name in TASKS}
    for seed, (task_name, task) in product(range(1 + fresh), tasks.items()):
        draw = make_draw(task, Sampling(SHOTS, pool_rows=POOL, in_domain_rows=TESTED), seed)
        if seed:
            arms = choose_finalists(name, cells.found)
        else:
            arms = ARMS[name] if task_name in SHORT else choose_survivors(name, cells.found)
        for told, settings in arms.items():
            place = {"task": task_name, "draw": seed, "setting": told}
            if cells.lack(place):
                cells.keep(place, measure_cell(model, task, draw, name, settings, seed))


def write_table(results: dict[str, Any]) -> str:
    """Up to three tables: all settings on the short tasks, the survivors on all, and the finalists on fresh draws."""
    name, cells = results["method"], results["cells"]
    first, fresh = ([cell for cell in cells if (cell["draw"] > 0) is later] for later in (False, True))
    parts = [_tabulate(ARMS[name], [cell for cell in first if cell["task"] in SHORT], SHORT, fresh=False)]
    if survivors := choose_survivors(name, cells):
        parts.append(_tabulate(survivors, first, TASKS, fresh=False))
    if finalists := choose_finalists(name, cells):
        parts.append(_tabulate(finalists, fresh, TASKS, fresh=True))
    return "\n\n".join([*parts, f"{write_machine(results['machine'])}."])


def _tabulate(arms: Arms, cells: Sequence[Cell], tasks: Sequence[str], *, fresh: bool) -> str:
    """A row a setting: accuracy by task, then means over tasks, of the draws that every setting has."""
    whole = place_cells(cells, "setting", arms)
    if not whole:
        kind = "fits on fresh draws" if fresh else "fits"
        return f"{len(cells)} {kind} are measured, and no draw of a task has all {len(arms)} settings yet."
    rows = []
    for told in arms:
        own = {task: [each[told] for (of, _), each in whole.items() if of == task] for task in tasks}
        by_task = [f"{fmean(cell['accuracy'] for cell in members):.3f}" if members else "" for members in own.values()]
        gains = [format_gain_over(whole, told, DEFAULTS, figure) for figure in GAINS] if fresh else []
        rows.append([told, *by_task, *_average(list(own.values())), *gains])
    heads = ("setting", *tasks, "accuracy", "AUROC", "log loss", "s a fit", *(GAINS.values() if fresh else ()))
    drawn = ", ".join(f"{task} {sum(place[0] == task for place in whole)}" for task in tasks)
    return f"{write_markdown(heads, rows)}\n\n{'Fresh draws' if fresh else 'Draws'}: {drawn}."


def _average(by_task: Sequence[Sequence[Cell]]) -> list[str]:
    present = [cells for cells in by_task if cells]
    if not present:
        return [""] * (len(FIGURES) + 1)
    means = [fmean(fmean(cell[figure] for cell in cells) for cells in present) for figure in (*FIGURES, "seconds")]
    return [*(f"{mean:.3f}" for mean in means[:-1]), f"{means[-1]:.0f}"]


def main() -> None:
    """Measure what is missing and print the tables."""
    start_as_worker("benchmarks.method_settings")
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.method_settings", description=summary)
    parser.add_argument("method", choices=sorted(ARMS))
    parser.add_argument("data_dir", type=Path, help="where the tasks' files lie")
    parser.add_argument("--fresh", type=int, default=FRESH, help="draws of each task for the finalists")
    given = parser.parse_args()
    measure(given.method, given.data_dir, given.fresh)
    print(write_table(json.loads(find_file(given.method).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
