"""The page on defaults names every method, and says what they say themselves of where their defaults come from."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from benchmarks.in_context_settings import DECIDED_AT, NO_SETTINGS
from benchmarks.in_context_settings import FILE as IN_CONTEXT
from benchmarks.method_settings import ARMS, DEFAULTS, TASKS, find_file, is_finished
from benchmarks.settings_by_shots import FILE as BY_SHOTS
from benchmarks.settings_by_shots import METHODS as COMPARED
from fewtune.methods import METHODS, get_method
from fewtune.records import load_records

PAGE = Path(__file__).parent.parent / "docs" / "defaults.md"


def test_the_table_has_every_method_with_as_many_settings_as_it_says() -> None:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("| method |"))
    told: dict[str, dict[str, int]] = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        names, *counts = (cell.strip() for cell in line.strip("|").split("|"))
        told |= {name: dict(zip(TASKS, map(int, counts[: len(TASKS)]), strict=True)) for name in names.split(", ")}
    counted = {name: {task: get_method(name).defaults_tried.get(task, 0) for task in TASKS} for name in METHODS}
    assert told == {name: counts for name, counts in counted.items() if name != "majority"}, "which has no settings"


def test_as_many_settings_are_told_as_the_records_hold() -> None:
    held: dict[tuple[str, str], set[str]] = defaultdict(set)
    for name in (
        "default-rates",
        "default-rates-cola",
        "default-settings",
        "default-settings-cola",
        "distillation-trials",
    ):
        for record in load_records(PAGE.parent.parent / "results" / name):
            task = record.trial.task.removesuffix("-training-rows")
            apart = {key: value for key, value in record.trial.settings.items() if key not in ("epochs", "pattern")}
            held[record.trial.method, task].add(json.dumps(apart, sort_keys=True))
    for name in ARMS:
        cells = json.loads(find_file(name).read_text(encoding="utf-8"))["cells"] if find_file(name).is_file() else []
        if is_finished(name, cells):  # before that it has decided nothing
            for cell in cells:
                if cell["setting"] != DEFAULTS:
                    held[name, cell["task"]].add(cell["setting"])
    stood = {"probe": ("C 0.1", "C 0.01"), "tfidf": ("C 10",), "embeddings": ("C 1",)}
    for cell in json.loads(BY_SHOTS.read_text(encoding="utf-8"))["cells"]:
        name = COMPARED[cell["method"]].method or cell["method"]
        if name in stood and cell["setting"] not in stood[name]:  # numbers of steps count already
            held[name, cell["task"]].add(f"{'prompted, ' if name == 'probe' else ''}{cell['setting']}")
    for cell in json.loads(IN_CONTEXT.read_text(encoding="utf-8"))["cells"]:
        if cell["kind"] == "neighbours":
            held["knn_prompting", cell["task"]].add(cell["calibration"])
        asks = cell["kind"] in ("random", "nearest") and cell["shots"] == DECIDED_AT  # chat is another model
        if asks and cell["calibration"] not in NO_SETTINGS:
            setting = {key: cell[key] for key in ("kind", "size", "contexts", "calibration")}
            held["in_context", cell["task"]].add(json.dumps(setting))
    held |= {("self_training", task): held["pattern", task] for task in TASKS}  # it takes the defaults of `pattern`
    told = {(name, task): count for name in METHODS for task, count in get_method(name).defaults_tried.items()}
    assert told == {place: len(settings) for place, settings in held.items() if place[0] != "majority"}
