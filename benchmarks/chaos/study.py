"""The study that is disturbed: a tiny model, trials of tenths of a second, and what an undisturbed run of it leaves.

Owns reading back what a run left, and setting two of these side by side.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from benchmarks.apart import ROOT
from fewtune.analysis.decision import Decision
from fewtune.analysis.study import analyse_folder
from fewtune.records import Record, load_looks, load_predictions, load_records

sys.path.append(str(ROOT / "tests"))  # the tests' tiny models

STUDY = """\
name: chaos
models: [{folder}/model]
tasks:
  - own_files: {{train: {folder}/rows.csv, text: text, label: label, as: feelings}}
methods:
  - majority
  - tfidf
  - in_context: {{demonstrations: 2}}
  - pattern: {{epochs: {epochs}}}
  - lora: {{epochs: {epochs}}}
shots: [4, 8]
data_seeds: {{count: {draws}}}
evaluation: {{in_domain_rows: 16}}
precision: float32
baselines: false
{more}
"""
RACE = "until: {most_draws: 5}\nwithin: 0.02"
"""Added lines that make the study a race."""
KEPT = re.compile(
    r"(trials/\w+\.json|predictions/\w+\.parquet|study\.yaml|planned\.json|looks\.json|events\.jsonl|report\.html|\.lock)"
)
"""The files of an output folder, when nothing was left behind."""


@dataclass(frozen=True)
class Outcome:
    """A trial as a run left it: all of its record but what it cost, and its answers row by row."""

    record: Record
    predictions: pl.DataFrame


def write_study(folder: Path, draws: int, more: str = "", times_wider: int = 1, epochs: int = 2) -> Path:
    """Write model, rows and study; `more` is added lines. A wider model and more epochs make longer trials."""
    import tiny_models

    tiny_models.save("llama", folder / "model", times_wider)
    task = tiny_models.make_task()
    rows = [*task.train, *(row for test in task.test_sets for row in test.rows)]
    lines = [f"{row.fields['text']},{task.labels[row.label or 0]}" for row in rows]
    (folder / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    path = folder / "study.yaml"
    path.write_text(STUDY.format(folder=folder, draws=draws, more=more, epochs=epochs), encoding="utf-8")
    return path


def read_outcomes(out: Path) -> dict[str, Outcome]:
    """Every trial of a folder by its id."""
    return {record.trial_id: Outcome(record, load_predictions(out, record.trial_id)) for record in load_records(out)}


def find_differences(out: Path, undisturbed: dict[str, Outcome]) -> list[str]:
    """What of a folder is not as the undisturbed run left it, in words; empty where all is."""
    try:
        found = read_outcomes(out)
    except Exception as error:  # whatever reading raises is a finding of its own
        return [f"cannot be read: {type(error).__name__}: {error}"]
    told = [f"trial {trial_id} is lost" for trial_id in undisturbed.keys() - found.keys()]
    told += [f"trial {trial_id} is none of the study's" for trial_id in found.keys() - undisturbed.keys()]
    for trial_id in undisturbed.keys() & found.keys():
        told += _compare(found[trial_id], undisturbed[trial_id])
    files = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    return told + [f"left behind: {name}" for name in files if KEPT.fullmatch(name) is None]


def find_other_looks(out: Path, undisturbed: Path) -> list[str]:
    """What of a folder's looks, or of what its decisions say, is not as the undisturbed run left it, in words."""
    try:
        told = ["its looks differ"] if load_looks(out) != load_looks(undisturbed) else []
        mine, theirs = ({_tell(decision) for decision in analyse_folder(each).decisions} for each in (out, undisturbed))
    except Exception as error:  # as above
        return [f"cannot be analysed: {type(error).__name__}: {error}"]
    return told + [f"it decides otherwise: {each}" for each in sorted(map(str, mine ^ theirs))]


def _tell(decision: Decision) -> tuple[str, int, str | None, tuple[tuple[str, float | None], ...]]:
    bounds = tuple((each.name, each.regret.bound if each.regret else None) for each in decision.compared)
    chosen = decision.choice.name if decision.choice is not None else None
    return decision.question.task, decision.question.shots, chosen, bounds


def _compare(found: Outcome, undisturbed: Outcome) -> list[str]:
    mine, theirs = (
        each.record.model_dump(include={"trial", "status", "labels", "metrics", "baselines", "fingerprints", "notes"})
        for each in (found, undisturbed)
    )
    for each in (mine, theirs):
        each["notes"].pop("reference_seconds", None)
        each["notes"]["fit"].pop("resumed_at", None)
    differing = [key for key in mine if mine[key] != theirs[key]]
    told = [f"trial {found.record.trial_id} differs in {key}" for key in differing]
    try:
        assert_frame_equal(found.predictions, undisturbed.predictions, check_exact=True)
    except AssertionError:
        told.append(f"trial {found.record.trial_id} answers otherwise")
    return told
