"""Whole studies under this code and an earlier commit's, in turn on one machine: how much sooner they end, and as what.

    python -m benchmarks.since --before DIR [WORK …]    DIR: a checkout of c35af61; writes benchmarks/results/since.json
    python -m benchmarks.since --before DIR race --draws 2    its first two draws alone, on a machine that is slow

Each study is run by the command, from its start to its report, in a folder of its own; each side's own default of
workers and threads is part of what is compared. `demo` is the earlier commit's own, `race` the study of 40 trials that
`benchmarks.race` runs, `distillation` context distillation on two draws of `sentiment`, `classes` a file of four
classes whose label words have two tokens, `derived` that file without a pattern, as most users have it: these words are
its labels, and each side derives a pattern, which is constrained since. Predictions are compared row by row; of the
run now its records say where its seconds went.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks.apart import ROOT
from benchmarks.labels import choose_words
from benchmarks.labels import write_study as write_labels_study
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_commit, describe_machine, describe_moment, open_results, write_results
from benchmarks.race.whole_study import describe_study
from benchmarks.race.works import Size
from benchmarks.run_seconds import COLUMNS, look_at_run, write_cells
from fewtune.system.processor import usable_cores

FILE = ROOT / "benchmarks" / "results" / "since.json"
CLASSES, TOKENS, CLASS_DRAWS = 4, 2, 2
IN_CONTEXT = {"in_context": {"contexts": 1, "calibration": "contextual"}}
PATTERN = {"pattern": {"epochs": 40, "learning_rate": 2e-5}}
LORA = {"lora": {"epochs": 40, "learning_rate": 5e-4}}
DEMO: Mapping[str, Any] = {
    "name": "demo",
    "models": ["smollm2-135m"],
    "tasks": ["sentiment"],
    "methods": [
        "majority",
        {"tfidf": {"inverse_penalty": 10.0}},
        {"probe": {"inverse_penalty": 0.1}},
        IN_CONTEXT,
        {"vanilla": {"epochs": 40, "learning_rate": 2e-5}},
        PATTERN,
        LORA,
    ],
    "shots": [16],
    "data_seeds": [0, 1],
    "baselines": False,
    "evaluation": {"in_domain_rows": 500, "out_of_domain_rows": 200},
}
DISTILLATION: Mapping[str, Any] = {
    "name": "distillation",
    "models": ["smollm2-135m"],
    "tasks": ["sentiment"],
    "methods": [{"context_distillation": {"contexts": 4, "demonstrations": 8, "epochs": 4, "learning_rate": 5e-5}}],
    "shots": [16],
    "data_seeds": [0, 1],
    "pool_rows": 64,
    "baselines": False,
    "evaluation": {"in_domain_rows": 500, "out_of_domain_rows": 200},
}


def write_plain(study: Mapping[str, Any]) -> Callable[[Path], Path]:
    """Writes a study that needs no other file."""

    def write(folder: Path) -> Path:
        path = folder / "study.yaml"
        path.write_text(yaml.safe_dump(dict(study)), encoding="utf-8")
        return path

    return write


def write_classes(folder: Path) -> Path:
    """The study of four classes: three methods that read label words."""
    path = write_labels_study(folder, choose_words(), CLASSES, TOKENS, CLASS_DRAWS)
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    study["methods"] = [PATTERN, LORA, IN_CONTEXT]
    study["shots"] = [16]
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def write_derived(folder: Path) -> Path:
    """The study of four classes, its labels named by their words and no pattern given."""
    path = write_classes(folder)
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    task = study["tasks"][0]["own_files"]
    words = task.pop("patterns")[0]["label_words"]
    named = {f"l{number:02}": word.strip() for number, word in enumerate(words)}
    for file in (folder / "train.csv", folder / "test.csv"):
        pl.read_csv(file).with_columns(pl.col("label").replace_strict(named)).write_csv(file)
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


WORKS: Mapping[str, Callable[[Path], Path]] = {
    "classes": write_classes,
    "derived": write_derived,
    "distillation": write_plain(DISTILLATION),
    "demo": write_plain(DEMO),
    "race": write_plain(describe_study(Size())),
}


def write_for(source: Path, study: Path, path: Path) -> Path:
    """A study written as a checkout reads it: before in-context learning counted its contexts, it had one."""
    body = yaml.safe_load(study.read_text(encoding="utf-8"))
    settings = (source / "src" / "fewtune" / "methods" / "in_context.py").read_text(encoding="utf-8")
    if "\n    contexts: " not in settings:
        for method in body["methods"]:
            if isinstance(method, dict) and "in_context" in method:
                method["in_context"].pop("contexts", None)
    path.write_text(yaml.safe_dump(body), encoding="utf-8")
    return path


def keep_draws(study: Path, most: int) -> None:
    """A study's file with no more than its first draws."""
    body = yaml.safe_load(study.read_text(encoding="utf-8"))
    seeds = body["data_seeds"]
    body["data_seeds"] = {"count": min(seeds["count"], most)} if isinstance(seeds, dict) else seeds[:most]
    study.write_text(yaml.safe_dump(body), encoding="utf-8")


def run_study(source: Path, study: Path, out: Path) -> float:
    """Seconds of a study run by the code of a checkout, with its own defaults."""
    own = write_for(source, study, study.with_name(f"{out.name}.yaml"))
    command = [sys.executable, "-m", "fewtune.cli", "run", own.name, "--out", str(out), "--data-dir", "."]
    environment = os.environ | {"PYTHONPATH": str(source / "src")}
    began = time.perf_counter()
    ran = subprocess.run(command, cwd=study.parent, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if ran.returncode != 0:
        raise SystemExit(f"{source}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return seconds


def read_answers(out: Path) -> dict[tuple[str, int], pl.DataFrame]:
    """Each trial's predictions, by method and draw; the layout is older than either side."""
    found = {}
    for path in sorted((out / "trials").glob("*.json")):
        trial = json.loads(path.read_text(encoding="utf-8"))["trial"]
        [table] = out.rglob(f"{path.stem}*.parquet")
        found[trial["method"], int(trial["data_seed"])] = pl.read_parquet(table)
    return found


def compare(before: Path, now: Path) -> dict[str, Any]:
    """Trials that both have, rows answered by both, and the share of them with the same label."""
    first, second = read_answers(before), read_answers(now)
    rows = same = 0
    for key in first.keys() & second.keys():
        joined = first[key].join(second[key], on=["test_set", "row_id"], suffix="_now")
        rows += len(joined)
        same += int((joined["predicted"] == joined["predicted_now"]).sum())
    both, either = first.keys() & second.keys(), first.keys() | second.keys()
    return {"trials": len(both), "only_one": len(either) - len(both), "rows": rows, "same": same}


def name_baselines(study: Path, source: Path) -> Path:
    """The study as a tree reads it: `baselines` was `floors` before 2026-12-04."""
    text = study.read_text(encoding="utf-8")
    if "floors: bool" not in (source / "src" / "fewtune" / "study" / "values.py").read_text(encoding="utf-8"):
        return study
    older = study.with_name("older.yaml")
    older.write_text(text.replace("baselines:", "floors:"), encoding="utf-8")
    return older


def measure(work: str, before: Path, draws: int | None = None) -> dict[str, Any]:
    """One study, or its first draws, by both sides."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study = WORKS[work](folder)
        if draws is not None:
            keep_draws(study, draws)
        sides = {"before": before, "now": ROOT}
        seconds = {
            side: run_study(source, name_baselines(study, source), folder / side) for side, source in sides.items()
        }
        spent = look_at_run(folder / "now", seconds["now"])
        return {"seconds": seconds, "spent": spent, **compare(folder / "before", folder / "now")}


def write_table(results: dict[str, Any]) -> str:
    """A row a study; below, what the seconds now went into where that was looked at."""
    rows = []
    for work, found in results["works"].items():
        seconds = found["seconds"]
        rows.append(
            [
                work,
                str(found["trials"]),
                f"{seconds['before']:.0f} s",
                f"{seconds['now']:.0f} s",
                f"{seconds['before'] / seconds['now']:.2f}",
                f"{found['same']} of {found['rows']}",
            ]
        )
    head = ("study", "trials", f"under {results['before']}", "now", "times faster", "rows answered alike")
    parts = [write_markdown(head, rows)]
    spent = [[work, *write_cells([found["spent"]])] for work, found in results["works"].items() if "spent" in found]
    if spent:
        parts.append(write_markdown(("study, now", *COLUMNS.values()), spent))
    return "\n\n".join([*parts, f"{write_machine(results['machine'])}."])


def main() -> None:
    """Measure what is asked for, print and keep it; what was measured on this machine, beside that commit, stays."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.since", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("works", nargs="*", help=f"of {', '.join(WORKS)}; all where none is given")
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the earlier commit")
    parser.add_argument("--draws", type=int, help="no more than so many draws of each study; all where not given")
    given = parser.parse_args()
    commit = describe_commit(given.before)
    if commit is None:  # the installed package would be run in its place
        parser.error(f"{given.before} is no checkout: git worktree add --detach {given.before} c35af61")
    results = open_results(FILE, describe_machine(usable_cores()), {"before": commit}, works={})
    for work in given.works or WORKS:
        results["works"][work] = measure(work, given.before.resolve(), given.draws)
        write_results(FILE, results | {"before": commit, **describe_moment()})
        print(work, results["works"][work], flush=True)
    print(write_table(results | {"before": commit}))


if __name__ == "__main__":
    main()
