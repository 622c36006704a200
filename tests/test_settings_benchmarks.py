"""Experiments on settings: every arm can be asked for, a cell is what a fit gives, tables compare like with like."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import BertConfig, LlamaConfig

from benchmarks import cola_patterns
from benchmarks.cells import Cells
from benchmarks.cola_pattern_fits import COMPARED
from benchmarks.cola_pattern_fits import write_table as write_pattern_fits
from benchmarks.cola_patterns import OTHERS, score_pattern
from benchmarks.cola_patterns import judge as judge_odds
from benchmarks.constrained_words import PHRASES
from benchmarks.constrained_words import write_table as write_constrained
from benchmarks.development_rows import SNLI, TEST_ROWS, load_development_task, load_exchanged_task
from benchmarks.in_context_settings import KINDS, measure_draw
from benchmarks.in_context_settings import write_table as write_contexts
from benchmarks.method_settings import (
    ARMS,
    DEFAULTS,
    KEPT,
    MODELS,
    SHORT,
    TASKS,
    choose_finalists,
    choose_survivors,
    measure_cell,
    write_table,
)
from benchmarks.settings_by_shots import METHODS
from benchmarks.settings_by_shots import write_table as write_by_shots
from fewtune.engine.language_model import LanguageModel
from fewtune.methods import get_method
from fewtune.prompts.tokens import Encoder
from fewtune.tasks.base import Draw, Pattern, Task
from fewtune.tasks.patterns import check_pattern

MACHINE = {"processor": "made-up", "threads": 2, "packages": {"torch": "2.0"}}


@pytest.mark.parametrize("name", ARMS)
def test_methods_get_about_as_many_settings_and_each_can_be_used(name: str, task: Task, draw: Draw) -> None:
    assert 9 <= len(ARMS[name]) <= 12
    method = get_method(name)
    config = BertConfig(num_hidden_layers=2) if name in MODELS else LlamaConfig(num_hidden_layers=30)
    for settings in ARMS[name].values():
        resolved = method.resolve(method.settings(**settings), task, 32, 64)
        assert method.skip_reason(resolved, config, task) is None


def test_snli_is_read_as_mnli_is_and_halved(tmp_path: Path) -> None:
    (tmp_path / "snli").mkdir()
    rows = [{"premise": f"p {number}", "hypothesis": "h", "label": number % 4 - 1} for number in range(40)]
    (tmp_path / "snli" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = load_development_task(SNLI, tmp_path)
    halves = [{row.fields["premise"]: row.label for row in half} for half in (task.train, task.test_sets[0].rows)]
    # Of -1, 0, 1 and 2 in turn, no agreed label and neutral are left out.
    assert halves[0] | halves[1] == {f"p {n}": {1: 0, 3: 1}[n % 4] for n in range(40) if n % 4 in (1, 3)}
    assert [len(half) for half in halves] == [10, 10]


def test_exchanged_halves_hold_no_row_that_the_task_is_tested_on(tmp_path: Path) -> None:
    (tmp_path / "snli").mkdir()
    rows = [{"premise": f"p {number}", "hypothesis": "h", "label": 2 * (number % 2)} for number in range(2600)]
    (tmp_path / "snli" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    usual, exchanged = (load(SNLI, tmp_path) for load in (load_development_task, load_exchanged_task))
    assert exchanged.test_sets[0].rows == usual.train[TEST_ROWS:], "the first ones are known too"
    taught = {row.row_id for row in exchanged.train}
    assert len(taught) == 1300 - TEST_ROWS
    assert not taught & {row.row_id for row in (*usual.train, *usual.test_sets[0].rows)}


def test_a_cell_is_a_fit_judged_on_the_test_rows(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    settings = {"steps": 2, "head_start": "zero", "head_learning_rate": 1e-3}
    found = measure_cell(models["llama"], task, draw, "vanilla", settings, 0)
    again = measure_cell(models["llama"], task, draw, "vanilla", settings, 0)
    assert {key: value for key, value in found.items() if key != "seconds"} == {
        key: value for key, value in again.items() if key != "seconds"
    }
    assert 0 <= found["accuracy"] <= 1 and 0 <= found["auroc"] <= 1 and found["log_loss"] > 0


def test_cells_are_kept_as_they_come_and_what_is_missing_is_known(tmp_path: Path) -> None:
    file, place = tmp_path / "results" / "cells.json", {"task": "cola", "draw": 0}
    Cells(file, method="lora").keep(place, {"kind": "a", "auroc": 0.5}, {"kind": "b", "auroc": 0.6})
    again = Cells(file, method="lora")
    assert not again.lack(place) and again.lack({**place, "draw": 1}) and again.lack({**place, "kind": "c"})
    again.keep({**place, "draw": 1}, {"auroc": 0.7})
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept["method"] == "lora" and kept["machine"]["threads"]
    assert [(cell["draw"], cell.get("kind"), cell["auroc"]) for cell in kept["cells"]] == [
        (0, "a", 0.5),
        (0, "b", 0.6),
        (1, None, 0.7),
    ]
    other = {"float32": "bfloat16", "bfloat16": "float32"}[kept["precision"]]
    file.write_text(json.dumps({**kept, "precision": other}))
    assert Cells(file, method="lora").precision == other, "cells of one file are compared: one precision"


def make_cell(task: str, draw: int, told: str, **figures: float) -> dict[str, Any]:
    usual = {"accuracy": 0.5, "mcc": 0.1, "auroc": 0.5, "log_loss": 1.0, "seconds": 3.0}
    return {"task": task, "draw": draw, "setting": told, **usual, **figures}


def test_a_table_leaves_out_draws_that_a_setting_lacks() -> None:
    arms = list(ARMS["adaptive"])
    begun = [make_cell("sentiment", 0, told, accuracy=0.9) for told in arms[:2]]
    text = write_table({"method": "adaptive", "cells": begun, "machine": MACHINE})
    assert text.startswith("2 fits are measured, and no draw of a task has all 12 settings yet.")
    cells = [make_cell("cola", 0, told, accuracy=0.5) for told in arms]
    text = write_table({"method": "adaptive", "cells": begun + cells, "machine": MACHINE})
    row = text.splitlines()[2].split("|")[2:-1]
    assert row == ["  ", " 0.500 ", " 0.500 ", " 0.500 ", " 1.000 ", " 3 "]
    assert "Draws: sentiment 0, cola 1." in text


def test_the_best_distillation_goes_on_with_the_same_under_a_teacher_that_is_not_tuned() -> None:
    arms = ARMS["context_distillation"]
    best = "alpha 0.3, tuned teacher, 48 steps"
    cells = [make_cell(task, 0, told, auroc=0.9 if told == best else 0.5) for task in TASKS for told in arms]
    finalists = choose_finalists("context_distillation", cells)
    assert list(finalists) == [DEFAULTS, best, "alpha 0.3, 48 steps"]
    changed = {key for key in finalists[best] if finalists[best][key] != finalists["alpha 0.3, 48 steps"][key]}
    assert changed == {"tuned_teacher_epochs"}


def test_the_best_settings_and_the_defaults_go_on_to_fresh_draws_where_alone_they_are_told_apart() -> None:
    arms = list(ARMS["vanilla"])
    figures = {told: {"auroc": 0.5 + place / 100} for place, told in enumerate(arms)}
    figures[arms[-1]]["log_loss"] = 9.0
    cells = [make_cell(task, 0, told, **figures[told]) for task in SHORT for told in arms]
    assert choose_survivors("vanilla", cells[:-1]) == {}, "before all have run nobody is chosen"
    survivors = choose_survivors("vanilla", cells)
    # The last is first by AUROC and last by log loss, which is as good as the fifth.
    assert list(survivors) == [DEFAULTS, *arms[-2 : -2 - KEPT["vanilla"][0] : -1]]
    longer = [task for task in TASKS if task not in SHORT]
    cells += [make_cell(task, 0, told, **figures[told]) for task in longer for told in survivors]
    assert choose_finalists("vanilla", cells[:-1]) == {}
    cells += [make_cell(longer[0], 0, arms[1], auroc=1.0, log_loss=0.1)]  # a setting that had been left out stays out
    finalists = choose_finalists("vanilla", cells)
    best = [arms[-2], arms[-3]]
    assert list(finalists) == [DEFAULTS, *best, f"{best[0]}, 200 steps"]
    assert finalists[f"{best[0]}, 200 steps"] == {**ARMS["vanilla"][best[0]], "steps": 200}
    # In fresh draws the best gains .02 and .04 in turn; of four tasks the interval is t(4) x sqrt(.0002 / 8), and of
    # its log loss, .1 and .2 lower, t(4) x sqrt(.005 / 8).
    for task, draw in product(TASKS, (1, 2)):
        cells += [make_cell(task, draw, told, auroc=0.6) for told in finalists if told != best[0]]
        place = draw - 1
        cells.append(make_cell(task, draw, best[0], auroc=0.62 + 0.02 * place, log_loss=0.9 - 0.1 * place))
    table = write_table({"method": "vanilla", "cells": cells, "machine": MACHINE})
    row = next(line for line in table.splitlines() if line.startswith(f"| {best[0]} ") and "[" in line)
    assert "| +0.030 [+0.016, +0.044] | -0.150 [-0.219, -0.081] |" in row
    assert "Draws: sentiment 1, cola 1, qqp 1, snli 1." in table
    assert "Fresh draws: sentiment 2, cola 2, qqp 2, snli 2." in table


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "chat"])
def test_each_way_of_asking_is_measured(kind: str, models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    cells = measure_draw(models["llama"], replace(task, patterns=task.patterns[:1]), draw, kind, 2, 0)
    settings = [(cell["contexts"], cell["calibration"]) for cell in cells]
    assert len(settings) == len(set(settings)) == {"random": 14, "nearest": 6, "neighbours": 2}[kind]
    place = {"task": "sentiment", "shots": 16, "kind": kind, "size": 2, "draw": 0}
    table = write_contexts({"cells": [place | cell for cell in cells], "machine": MACHINE})
    assert len(table.splitlines()) == 2 + len(cells) + 2


def test_nearest_demonstrations_are_set_against_random_ones_draw_by_draw() -> None:
    place = {"shots": 16, "size": 8, "calibration": "batch"}
    kinds = [("random", 1, 0.6), ("random", 4, 0.7), ("nearest", 1, 0.5)]
    cells = [
        make_cell("cola", draw, "", auroc=auroc + draw * contexts / 100) | place | {"kind": kind, "contexts": contexts}
        for draw in range(2)
        for kind, contexts, auroc in kinds
    ]
    table = write_contexts({"cells": cells, "machine": MACHINE})
    # Against four contexts it is .20 and .23 lower: t(1) x sqrt(.00045 / 2).
    rows = {
        cells[1]: cells[3] for line in table.splitlines() if len(cells := [c.strip() for c in line.split("|")]) == 6
    }
    assert rows["eight nearest, for four contexts of eight"] == "-0.215 [-0.406, -0.024]"
    assert rows["eight nearest, for one context of eight"] == "-0.100 [-0.100, -0.100]" and len(rows) == 4


def test_patterns_are_told_apart_by_the_way_their_answers_go(
    models: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cola_patterns, "RESAMPLES", 20)  # no interval is looked at
    gold = np.array([0, 0, 1, 1] * 20)
    right, wrong = (judge_odds(sign * (gold - 0.5), gold, np.random.default_rng(0)) for sign in (1, -1))
    assert (right["auroc"], wrong["auroc"]) == (1.0, 0.0) and right["accuracy_at_shares"] == 1.0
    model = models["llama"]
    for pattern in OTHERS:
        check_pattern(pattern, ("text",), ("unacceptable", "acceptable"))
    encoder = Encoder(model.tokenizer, 64, model.max_positions)
    assert all(len(encoder.encode_label_words(pattern)) == 2 for pattern in OTHERS)


def test_a_fitted_pattern_is_set_against_minimal_draw_by_draw() -> None:
    cells = [
        {**make_cell("cola", draw, "", auroc=0.5 + place / 10 + draw * place / 100), "method": "pattern"}
        | {"pattern": pattern.name}
        for draw in range(3)
        for place, pattern in enumerate(COMPARED)
    ]
    cells.append({**make_cell("cola", 3, ""), "method": "pattern", "pattern": COMPARED[0].name})
    table = write_pattern_fits({"cells": cells, "machine": MACHINE})
    # The second gains .10, .11 and .12: t(2) x .01 / sqrt(3).
    row = next([part.strip() for part in line.split("|")[2:-1]] for line in table.splitlines() if "swapped" in line)
    assert row == ["minimal, swapped", "Yes / No", "0.500", "0.100", "0.610", "1.000", "+0.110 [+0.085, +0.135]"]
    assert "Draws: in_context 0; in_context, four contexts, scored 0; pattern 3." in table


def test_constrained_words_are_set_beside_whole_ones_of_the_same_draw() -> None:
    cells = [
        {
            **make_cell("sentiment", draw, ""),
            "method": "lora",
            "words": words,
            "accuracy": 0.8 + gain,
            "seconds": seconds,
        }
        for draw in range(3)
        for words, gain, seconds in (("whole", 0.0, 30.0), ("constrained", 0.01 + draw / 100, 10.0))
    ]
    cells.append({**cells[0], "draw": 3})  # has no constrained one yet
    table = write_constrained({"cells": cells, "machine": MACHINE})
    rows = [[part.strip() for part in line.split("|")[1:-1]] for line in table.splitlines() if "| lora" in line]
    # .01, .02 and .03: t(2) x .01 / sqrt(3).
    told = ["3", "0.800", "+0.020 [-0.005, +0.045]"]
    assert [row[:5] for row in rows] == [["lora", "sentiment", *told], ["lora", "all", *told]]
    assert [row[-1] for row in rows] == ["3.0", "3.0"] and "zero_shot" not in table


def test_settings_of_other_numbers_of_rows_are_told_from_their_base_on_the_same_draws() -> None:
    cells = [
        {**make_cell("cola", draw, "", auroc=0.7 - steps / 1000 + draw * steps / 10000), "log_loss": steps / 10}
        | {"method": "lora", "shots": 128, "setting": f"{steps} steps"}
        for draw in range(2)
        for steps in (20, 40, 80)
    ]
    cells.append({**cells[0], "draw": 2})  # has no other number of steps yet
    assert {cell["setting"] for cell in cells} == set(METHODS["lora"].arms[128])
    table = write_by_shots({"cells": cells, "machine": MACHINE})
    rows = {row[2]: row for line in table.splitlines() if (row := [part.strip() for part in line.split("|")[1:-1]])}
    # Draws differ by -.020 and -.018: t(1) x .001.
    assert rows["40 steps"][-2:] == ["-0.019 [-0.032, -0.006]", "+2.000 [+2.000, +2.000]"]
    assert rows["20 steps"][-2:] == ["", ""]
    assert "lora 128 rows: 2" in table and "pattern 16 rows: 0" in table


def test_phrases_begin_no_other() -> None:
    for phrases in PHRASES.values():
        words = tuple(f" {phrase}" for phrase in phrases.values())
        check_pattern(Pattern("phrases", "{text}\nIt is", words), ("text",), tuple(phrases))


def test_odds_are_of_the_second_word_over_the_first(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    rows = [row.without_label() for row in draw.test_sets[0].rows][:4]
    pattern = task.patterns[0]
    turned = replace(pattern, label_words=pattern.label_words[::-1])
    model = models["llama"]
    assert score_pattern(model, rows, pattern) == pytest.approx(-score_pattern(model, rows, turned), abs=1e-5)
