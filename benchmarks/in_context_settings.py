"""What in-context learning's settings give: contexts, demonstrations and calibration, on rows that are no evidence.

    python -m benchmarks.in_context_settings DATA_DIR    writes benchmarks/results/in_context_settings.json, goes on

SmolLM2 135M on the development rows of four tasks (halves of their training rows). Of each draw, contexts of several
sizes are scored once, and every calibration and number of contexts is worked out from those scores, so that all are
compared on the same contexts. Beside contexts of rows drawn at random there are the same asked by the model's chat
template, contexts of the rows nearest to each, and kNN prompting, where half of the support votes. Figures are means
over draws of each task, then over tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.cells import Cell, Cells, format_gain, run_experiment
from benchmarks.development_rows import SNLI, load_screened_task
from benchmarks.markdown import write_machine, write_markdown
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.methods import get_method
from fewtune.methods.answer import answer_by_label_words
from fewtune.methods.contexts import ContextSettings, show_nearest
from fewtune.metrics.counts import count_answers, score_all
from fewtune.metrics.probabilities import describe
from fewtune.models import find_model
from fewtune.models.chat import CHAT
from fewtune.predictors.language import Before, average
from fewtune.predictors.temperature import normalise
from fewtune.prompts.calibration import centre, estimate_prior
from fewtune.prompts.demonstrations import choose_demonstrations, write_context
from fewtune.running.adapt import make_plan
from fewtune.tasks.base import Draw, Task
from fewtune.tasks.draw import Sampling, make_draw

FILE = ROOT / "benchmarks" / "results" / "in_context_settings.json"
MODEL = "smollm2-135m"
TASKS = ("sentiment", "cola", "qqp", SNLI)
CONTEXTS, TESTED, POOL = 4, 150, 64
DRAWS = {16: 2, 64: 1}
"""Draws of each task, by shots."""
SIZES = {16: (0, 8, 16), 64: (16, 64)}
"""Demonstrations a context shows, by shots; none is zero-shot."""
KINDS: Mapping[str, Mapping[int, Sequence[int]]] = {
    "random": SIZES,
    "chat": {16: (0, 16)},
    "nearest": {16: (8,)},
    "neighbours": {16: (8,)},
}
"""What stands before rows, and how many demonstrations it shows, by shots."""
VOTES = ("vocabulary", "states")
AVERAGED = "scored, probabilities averaged"
"""As scored, by the mean of probabilities: public codes of batch calibration differ in what they average."""
REST = "batch, of the support"
"""Batch calibration where there is no pool: over labelled rows that a context does not show, without their labels."""
NO_SETTINGS = (REST, AVERAGED)
"""Calibrations that are measured and that `in_context` does not have."""
DECIDED_AT = 16
"""The shots whose figures decided on the defaults."""
FORMER = ("random", 16, 1, "contextual")
"""The default until 2026-11-29: kind, demonstrations, contexts and calibration."""
COMPARED = {
    "chat template for plain text, four contexts of sixteen": (("chat", 16, 4, "batch"), ("random", 16, 4, "batch")),
    "eight nearest, for four contexts of eight": (("nearest", 8, 1, "batch"), ("random", 8, 4, "batch")),
    "eight nearest, for one context of eight": (("nearest", 8, 1, "batch"), ("random", 8, 1, "batch")),
    **{
        f"kNN prompting by {by}, for four contexts of sixteen": (
            ("neighbours", 8, 1, f"votes by {by}"),
            ("random", 16, 4, "batch"),
        )
        for by in VOTES
    },
}
"""Settings that are set against one another besides, contexts calibrated by the pool, at the shots that decided."""
GAINS = {"mcc": "MCC", "auroc": "AUROC", "log_loss": "log loss"}
"""Figures whose differences are told, and what heads their columns."""
CALIBRATIONS = ("none", "contextual", "domain", "batch", REST, "scored", AVERAGED)


def measure_draw(model: LanguageModel, task: Task, draw: Draw, kind: str, size: int, seed: int) -> list[dict[str, Any]]:
    """The figures of every number of contexts and calibration, for contexts of so many demonstrations."""
    if kind == "neighbours":
        return measure_votes(model, task, draw, size, seed)
    forward = model.forward(model.frozen)
    answer = answer_by_label_words(model, task, draw, None, "vocabulary")
    prompting, rng = answer.prompt(forward), np.random.default_rng([seed, size])
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    gold = np.array([row.label for row in draw.test_sets[0].rows])
    by_calibration: dict[str, list[np.ndarray]] = {name: [] for name in CALIBRATIONS}
    for _ in range(CONTEXTS if size and kind != "nearest" else 1):
        before: Before
        if kind == "nearest":
            asked = ContextSettings(1, size, "none", "\n\n")
            before, _ = show_nearest(asked, prompting, task.patterns[0], draw, rng)
            shown = list(draw.support)
        else:
            shown = choose_demonstrations(draw.support, size, rng)
            before = write_context(prompting.encoder, task.patterns[0], shown, "\n\n")
        score = partial(prompting.score, before=before)
        raw = score(rows)
        rest = [row.without_label() for row in draw.support if row not in shown]
        for name in CALIBRATIONS:
            prior: np.ndarray | None
            if name == "scored":
                prior = centre(raw)
            elif name == AVERAGED:
                prior = np.log(np.exp(raw).mean(axis=0))
            elif name == REST:
                if not rest:
                    continue
                prior = centre(score(rest))
            else:
                prior = estimate_prior(score, name, draw, rng)  # type: ignore[arg-type]
            by_calibration[name].append(raw if prior is None else normalise(raw - prior))
    return [
        {"contexts": count, "calibration": name, **judge(average(each[:count]), gold)}
        for name, each in by_calibration.items()
        if each
        for count in sorted({1, len(each)})
    ]


def measure_votes(model: LanguageModel, task: Task, draw: Draw, size: int, seed: int) -> list[dict[str, Any]]:
    """The figures of kNN prompting behind one context of so many demonstrations; the other rows vote."""
    method = get_method("knn_prompting")
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    gold = np.array([row.label for row in draw.test_sets[0].rows])
    found = []
    for by in VOTES:
        settings = method.settings(demonstrations=size, by=by)
        plan = make_plan(method, settings, model, task, draw, np.random.default_rng([seed, size]))
        scores = plan.predictor.scorer.log_probabilities(rows)
        found.append({"contexts": 1, "calibration": f"votes by {by}", **judge(scores, gold)})
    return found


def judge(scores: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Accuracy, Matthews correlation, AUROC and log loss of log-probabilities (rows, labels)."""
    found = describe(np.exp(scores), gold)
    counted = score_all(count_answers(gold, scores.argmax(axis=1), scores.shape[1]), ("accuracy", "mcc"))
    return {**counted, "auroc": found["auroc"], "log_loss": found["log_loss"]}


def measure(data_dir: Path) -> None:
    """Every draw of every task that is not done yet, kept as it comes."""
    cells = Cells(FILE)
    models: dict[str, LanguageModel] = {}
    asked = [
        (kind, seed, name, shots, size)
        for kind, sizes in KINDS.items()
        for shots in sizes
        for seed, name, size in product(range(DRAWS[shots]), TASKS, sizes[shots])
    ]
    for kind, seed, name, shots, size in asked:
        place = {"task": name, "shots": shots, "kind": kind, "size": size, "draw": seed}
        if not cells.lack(place):
            continue
        model = MODEL + CHAT if kind == "chat" else MODEL
        if model not in models:
            models[model] = load_model(find_model(model), cells.precision)
        task = load_screened_task(name, data_dir)
        draw = make_draw(task, Sampling(shots, pool_rows=POOL, in_domain_rows=TESTED), seed)
        cells.keep(place, *measure_draw(models[model], task, draw, kind, size, seed))


def keep_whole(cells: Sequence[Cell], keys: Sequence[str]) -> list[Cell]:
    """The cells of draws of a task that every setting of the same shots has."""
    settings: dict[int, set[tuple[Any, ...]]] = defaultdict(set)
    places: dict[tuple[int, str, int], set[tuple[Any, ...]]] = defaultdict(set)
    for cell in cells:
        setting = tuple(cell[key] for key in keys)
        settings[cell["shots"]].add(setting)
        places[cell["shots"], cell["task"], cell["draw"]].add(setting)
    return [cell for cell in cells if places[cell["shots"], cell["task"], cell["draw"]] == settings[cell["shots"]]]


def write_table(results: dict[str, Any]) -> str:
    """Means over tasks of means over draws, a row a setting, of the draws that every setting of its shots has."""
    keys = ("shots", "kind", "size", "contexts", "calibration")
    cells = keep_whole(results["cells"], keys)
    by_setting: dict[tuple[Any, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        by_setting[tuple(cell[key] for key in keys)].append(cell)
    rows = []
    for setting, own in sorted(by_setting.items(), key=lambda item: item[0][0]):
        by_task = {task: [cell for cell in own if cell["task"] == task] for task in TASKS}
        means = {
            figure: {task: fmean(cell[figure] for cell in members) for task, members in by_task.items() if members}
            for figure in ("accuracy", *GAINS)
        }
        each = [f"{means['accuracy'][task]:.3f}" if by_task[task] else "" for task in TASKS]
        overall = [f"{fmean(values.values()):.3f}" for values in means.values()]
        former = by_setting.get((setting[0], *FORMER), own)
        gains = [_gain(own, former, figure) if own is not former else "" for figure in GAINS]
        rows.append([*map(str, setting), *each, *overall, *gains])
    heads = ("shots", "before a row", "shown", "contexts", "calibration", *TASKS, "accuracy", *GAINS.values())
    drawn = {shots: {(c["task"], c["draw"]) for c in cells if c["shots"] == shots} for shots in SIZES}
    draws = [
        f"{shots} shots: " + ", ".join(f"{task} {sum(place[0] == task for place in places)}" for task in TASKS)
        for shots, places in drawn.items()
        if places
    ]
    table = write_markdown((*heads, *(f"{told} over the former default's" for told in GAINS.values())), rows)
    drawn_of = f"Draws: {'; '.join(draws)}. {write_machine(results['machine'])}."
    return "\n\n".join([table, *_compare(by_setting), drawn_of])


def _compare(by_setting: Mapping[tuple[Any, ...], Sequence[Cell]]) -> list[str]:
    """A table of `COMPARED`, of those that were measured; none where none was."""
    rows = [
        [told, *(_gain(by_setting[DECIDED_AT, *one], by_setting[DECIDED_AT, *other], figure) for figure in GAINS)]
        for told, (one, other) in COMPARED.items()
        if (DECIDED_AT, *one) in by_setting and (DECIDED_AT, *other) in by_setting
    ]
    heads = ("contexts calibrated by the pool, 16 shots", *(f"{figure}, difference" for figure in GAINS.values()))
    return [write_markdown(heads, rows)] if rows else []


def _gain(own: Sequence[Cell], former: Sequence[Cell], figure: str) -> str:
    """What a setting's figure differs by from that of another, such as the former default, on the same draws."""
    base = {(cell["task"], cell["draw"]): cell[figure] for cell in former}
    gains: dict[str, list[float]] = defaultdict(list)
    for cell in own:
        gains[cell["task"]].append(cell[figure] - base[cell["task"], cell["draw"]])
    return format_gain(gains)


if __name__ == "__main__":
    run_experiment("benchmarks.in_context_settings", __doc__, FILE, measure, write_table)
