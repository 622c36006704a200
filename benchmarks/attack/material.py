"""What attacks start from: a tiny model, labelled rows, a study of a second and its folder, a race, saved models.

Owns how these are made, and reading back what a run left behind, so that two runs can be set side by side.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.apart import ROOT
from benchmarks.attack.stage import Stage, Terms
from benchmarks.attack.verdict import Caught, Outcome, judge_crash

sys.path.append(str(ROOT / "tests"))  # the tests' tiny models and made-up studies

STUDY = """\
name: attacked
models: [{model}]
tasks:
  - own_files: {{train: {data}, text: text, label: label, as: {task}}}
methods: [{methods}]
shots: [4]
data_seeds: [0, 1]
evaluation: {{in_domain_rows: 16}}
precision: float32
baselines: false
"""
METHODS = "majority, {in_context: {demonstrations: 2}}, {pattern: {epochs: 1}}"
FROZEN = "majority, {in_context: {demonstrations: 2}}"
SAVED: dict[str, tuple[str, dict[str, Any]]] = {
    "majority": ("majority", {}),
    "tfidf": ("tfidf", {}),
    "probe": ("probe", {}),
    "knn": ("knn_prompting", {"demonstrations": 2}),
    "nearest": ("in_context", {"demonstrations": 3, "selection": "nearest", "calibration": "contextual"}),
    "contexts": ("in_context", {"demonstrations": 2, "contexts": 2, "calibration": "contextual"}),
    "weights": ("pattern", {"epochs": 1}),
    "head": ("vanilla", {"epochs": 1}),
    "lora": ("lora", {"epochs": 1}),
    "dora": ("lora", {"epochs": 1, "dora": True, "readout": "head"}),
    "ia3": ("ia3", {"epochs": 1}),
    "prompt": ("soft_prompt", {"epochs": 1}),
    "prefix": ("soft_prompt", {"epochs": 1, "kind": "prefix"}),
}
"""One model of each form that a folder has: its method and settings."""
ASKED, HEALTHY = "asked.csv", "answers.csv"
"""The file of rows that saved models are asked, and what ends the names of files of their answers."""
TEXTS = ("a pilot is a joy to know", "this kettle broke on day one!", "GOOD")
VOLATILE = ("seconds", "tokens_per_second", "memory", "started_at", "latency", "time")
"""Parts of names of figures that differ between two equal runs."""


def make_material(folder: Path, finished: bool, patience: float) -> None:
    """Make model, data, study and, where asked, the finished folder; ends the attack where the study does not run."""
    import tiny_models

    model = tiny_models.save("llama", folder / "model")
    task = tiny_models.make_task()
    rows = [*task.train, *(row for test in task.test_sets for row in test.rows)]
    lines = [f"{row.fields['text']},{task.labels[row.label or 0]}" for row in rows]
    (folder / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    (folder / "cache").mkdir()
    write_study(folder / "study.yaml", model=model, data=folder / "rows.csv")
    if not finished:
        return
    stage = Stage(folder, folder, patience)
    outcome = stage.command("run", "study.yaml", "--out", "finished", terms=Terms(limit=120))
    if outcome.code != 0:
        raise SystemExit(f"the unattacked study does not run: {outcome}\n{outcome.output}")
    told = stage.command("report", "finished", "--format", "json")
    (folder / "report.json").write_text(told.output)
    make_race(stage)
    save_models(stage, model)


def save_models(stage: Stage, model: Path) -> None:
    """Fit and save every model on a tiny base, and what each answers; ends the attack where one is refused as saved."""
    import tiny_models
    from fewtune.engine.loading import load_model
    from fewtune.methods import get_method
    from fewtune.models import find_model
    from fewtune.tasks.draw import Sampling, make_draw
    from method_cases import run

    folder, task = stage.folder, tiny_models.make_task()
    draw, base = make_draw(task, Sampling(8, pool_rows=6), data_seed=0), load_model(find_model(str(model)), "float32")
    with (folder / ASKED).open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in TEXTS)])
    for name, (method, values) in SAVED.items():
        chosen = get_method(method)
        run(chosen, chosen.settings(**values), base, task, draw).predictor.save(folder / "saved" / name)
        outcome = stage.command("predict", folder / "saved" / name, ASKED, "--out", f"{name}.{HEALTHY}")
        if outcome.code != 0:
            raise SystemExit(f"the unattacked model {name} does not answer: {outcome}\n{outcome.output}")


def make_race(stage: Stage) -> None:
    """Make the folder of a race of three looks, `raced`, and what is reported of it."""
    import scripted_races

    folder = stage.folder / "race"
    folder.mkdir()
    out = scripted_races.run_race(folder)
    told = stage.command("report", out, "--format", "json")
    (folder / "report.json").write_text(told.output)


def write_study(
    path: Path, *, model: object, data: Path, task: str = "feelings", methods: str = METHODS, more: str = ""
) -> Path:
    """Write the study; `more` is added lines."""
    text = STUDY.format(model=model, data=json.dumps(str(data)), methods=methods, task=task)
    path.write_text(text + more, encoding="utf-8")
    return path


def make_wide_study(stage: Stage) -> Path:
    """A study of a wider model, whose fits take tens of megabytes."""
    import tiny_models

    model = tiny_models.save("llama", stage.folder / "wide", times_wider=16)
    methods = "{pattern: {epochs: 1}}, majority, {in_context: {demonstrations: 2}}"
    return study_of(stage, model=model, methods=methods)


def study_of(stage: Stage, **changes: Any) -> Path:
    """The material's study in the stage's folder, with another model, data, task name or methods."""
    given: dict[str, Any] = {"model": stage.material / "model", "data": stage.material / "rows.csv"}
    return write_study(stage.folder / "study.yaml", **{**given, **changes})


def copy_model(stage: Stage, name: str = "model") -> Path:
    """A copy of the tiny model to be spoilt."""
    return Path(shutil.copytree(stage.material / "model", stage.folder / name))


def copy_finished(stage: Stage, name: str = "out") -> Path:
    """A copy of the finished folder to be damaged."""
    return Path(shutil.copytree(stage.material / "finished", stage.folder / name))


def read_outcomes(out: Path) -> dict[str, dict[str, Any]]:
    """What each trial of a folder came to: status, metrics, predictions' hash and failure, by method and draw."""
    import hashlib

    import polars as pl

    found: dict[str, dict[str, Any]] = {}
    for path in sorted((out / "trials").glob("*.json")):
        record = json.loads(path.read_text())
        axes = record["trial"]
        table = out / "predictions" / f"{path.stem}.parquet"
        answers = None
        if record["status"] == "done":
            answers = hashlib.sha256(pl.read_parquet(table, glob=False).write_csv().encode()).hexdigest()
        name = f"{axes['task']} {axes['model']} {axes['variant']} {axes['shots']} {axes['data_seed']}"
        failure = record.get("failure") or {}
        found[name] = {
            "status": record["status"],
            "metrics": record["metrics"],
            "answers": answers,
            "failure": f"{failure.get('kind')}: {failure.get('message')}" if failure else None,
            "weights": record["fingerprints"].get("weights"),
        }
    return found


def require_done(out: Path, outcome: Outcome) -> dict[str, dict[str, Any]]:
    """What a run came to; Caught where it crashed, refused, or left a trial that is not done."""
    judge_crash(outcome)
    if outcome.code != 0:
        raise Caught("unclear", f"did not go on: {outcome}")
    found = read_outcomes(out)
    undone = [f"{name}: {each['failure']}" for name, each in found.items() if each["status"] != "done"]
    if undone:
        raise Caught("silent_wrong", f"code 0 and trials that are not done: {undone[0]}")
    return found


def require_equal(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Caught where two runs do not hold the same trials with the same metrics and predictions."""
    if found.keys() != expected.keys():
        raise Caught("silent_wrong", f"trials differ: {sorted(found.keys() ^ expected.keys())[:3]}")
    for name, each in found.items():
        for key in ("status", "metrics", "answers"):
            if each[key] != expected[name][key]:
                raise Caught("silent_wrong", f"{name}: {key} {each[key]} and not {expected[name][key]}"[:400])


def strip_volatile(value: Any) -> Any:
    """A report's figures without what differs between two equal runs."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not any(part in k for part in VOLATILE)}
        return {key: strip_volatile(each) for key, each in kept.items()}
    return [strip_volatile(each) for each in value] if isinstance(value, list) else value
