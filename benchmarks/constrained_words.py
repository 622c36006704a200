"""What constraining label words of several tokens to what tells them apart does to scores and to seconds.

    python -m benchmarks.constrained_words DATA_DIR    writes benchmarks/results/constrained_words.json, goes on

SmolLM2 135M, labels said as phrases: fourteen topics of questions, two of `sentiment` that begin alike, two of SNLI.
Every draw is fitted and scored with the same phrases whole and constrained (`ARMS`: by what methods), `sentiment` and
SNLI on rows of training files, questions on the task's own test rows. Whole and constrained share draws and seeds;
intervals are Student's, of draws, and too narrow: draws of a task share test rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.cells import Cell, Cells, format_gain, run_experiment
from benchmarks.development_rows import SNLI, load_screened_task
from benchmarks.in_context_settings import MODEL
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.method_settings import measure_cell
from fewtune.engine.loading import load_model
from fewtune.models import find_model
from fewtune.tasks import questions
from fewtune.tasks.base import Pattern, Task
from fewtune.tasks.draw import Sampling, make_draw

FILE = ROOT / "benchmarks" / "results" / "constrained_words.json"
SHOTS, TESTED, DRAWS = 32, 200, 4
PHRASES: Mapping[str, Mapping[str, str]] = {
    "questions": {
        "artificial intelligence": "artificial intelligence",
        "itself": "the bot itself",
        "programming": "computer programming",
        "small talk": "small talk",
        "feelings": "feelings and emotions",
        "food": "food and drink",
        "books": "books and authors",
        "money": "money and finance",
        "films": "films and actors",
        "politics": "politics and history",
        "psychology": "psychology and the mind",
        "science": "science and nature",
        "sports": "sports and games",
        "trivia": "trivia and riddles",
    },
    "sentiment": {"negative": "very bad indeed", "positive": "very good indeed"},
    SNLI: {"entailment": "supported by it", "contradiction": "contradicted by it"},
}
"""What each label of a task is called, as a user with a file of such labels would."""
ARMS: Mapping[str, Mapping[str, Any]] = {
    "zero_shot": {},
    "in_context": {"contexts": 1},
    "pattern": {"steps": 20},
    "lora": {"steps": 20},
}
"""Settings of the methods that are compared: their defaults, but one context and twenty steps, which take less time."""
WORDINGS = {"whole": False, "constrained": True}
FIGURES = {"accuracy": "accuracy", "auroc": "AUROC", "log_loss": "log loss"}


def load_worded_task(name: str, data_dir: Path) -> Task:
    """A task's rows under a pattern whose label words are its phrases."""
    task = questions.load(questions.Settings(), None) if name == "questions" else load_screened_task(name, data_dir)
    words = tuple(f" {PHRASES[name][label]}" for label in task.labels)
    return replace(task, patterns=(Pattern("phrases", task.patterns[0].template, words),))


def measure(data_dir: Path) -> None:
    """Every cell that is not done yet, kept as it comes; a draw's wordings take turns."""
    cells = Cells(FILE)
    model = load_model(find_model(MODEL), cells.precision)
    tasks = {name: load_worded_task(name, data_dir) for name in PHRASES}
    for seed, (name, task), (method, settings) in product(range(DRAWS), tasks.items(), ARMS.items()):
        draw = make_draw(task, Sampling(SHOTS, in_domain_rows=TESTED), seed)
        for wording, constrained in WORDINGS.items():
            place = {"method": method, "task": name, "draw": seed, "words": wording}
            if cells.lack(place):
                worded = replace(task, patterns=(replace(task.patterns[0], constrained=constrained),))
                cells.keep(place, measure_cell(model, worded, draw, method, settings, seed))


def write_table(results: Mapping[str, Any]) -> str:
    """A row a method and task, of the draws that have both wordings: both means, and what constraining adds."""
    pairs: dict[tuple[str, str], dict[int, dict[str, Cell]]] = {}
    for cell in results["cells"]:
        pairs.setdefault((cell["method"], cell["task"]), {}).setdefault(cell["draw"], {})[cell["words"]] = cell
    rows = []
    for method in ARMS:
        by_task = {
            task: [both for both in pairs.get((method, task), {}).values() if len(both) == len(WORDINGS)]
            for task in PHRASES
        }
        by_task = {task: both for task, both in by_task.items() if both}
        for told, own in [*((task, {task: both}) for task, both in by_task.items()), ("all", by_task)]:
            if not own:
                continue
            row = [method, told, str(sum(map(len, own.values())))]
            for figure in FIGURES:
                gains = {
                    task: [pair["constrained"][figure] - pair["whole"][figure] for pair in both]
                    for task, both in own.items()
                }
                mean = fmean(fmean(pair["whole"][figure] for pair in both) for both in own.values())
                row += [f"{mean:.3f}", format_gain(gains)]
            seconds = [sum(pair[words]["seconds"] for both in own.values() for pair in both) for words in WORDINGS]
            rows.append([*row, f"{seconds[0] / seconds[1]:.1f}" if seconds[1] else ""])
    heads = ["method", "task", "draws"]
    for figure in FIGURES.values():
        heads += [f"{figure}, whole", "constrained over it"]
    return f"{write_markdown([*heads, 'fit, times faster'], rows)}\n\n{write_machine(results['machine'])}."


if __name__ == "__main__":
    run_experiment("benchmarks.constrained_words", __doc__, FILE, measure, write_table)
