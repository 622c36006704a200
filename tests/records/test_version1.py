"""Records of schema version 1 are read: every note finds its field, and what cannot be is refused by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewtune.errors import RecordError
from fewtune.records import CutInputs, Record, load_record, record_path
from study_maker import make_study

OLD: dict[str, Any] = {
    "template": "{text} It is",
    "pattern": "it_is",
    "label_words": [" bad", " good"],
    "label_word_tokens": [[4], [9, 2]],
    "label_words_split_cleanly": True,
    "truncated_rows": 3,
    "truncated_tokens": 5,
    "losses": [0.7, 0.3],
    "parameter_groups": [
        {
            "name": "all",
            "tensors": 2,
            "parameters": 10,
            "peak_learning_rate": 1e-4,
            "starts_at_epoch": 1,
            "rates": [0.0],
        }
    ],
    "validation_losses": [0.5],
    "kept_epoch": 0,
    "demonstrations_shown": 1,
    "demonstration_rows": ["x"],
    "calibration_log_prior": [0.0, -0.5],
    "teacher_model": "large",
    "teacher_contexts": [["y"]],
    "teacher_truncated_rows": 1,
    "teacher_truncated_tokens": 2,
    "teacher_beats_untaught_student": {"in_domain": False},
    "rows_taught": 8,
    "rows_labelled": 4,
    "scratchpad": "Thoughts:",
    "scratchpad_tokens": 24,
    "scratchpad_mean_tokens": 7.5,
    "nothing_taught": "no pool",
    "warning": "no better",
    "companions": {"teacher": {"in_domain": {"accuracy": 0.8}}, "untaught_student": {"in_domain": {"accuracy": 0.9}}},
    "companion_agreement": {"teacher": {"in_domain": 0.75}},
    "companion_seconds": 1.5,
    "tuning": {
        "trials": 2,
        "folds": 4,
        "metric": "mcc",
        "chosen": {"epochs": 2},
        "tried": [
            {"settings": {"epochs": 2}, "mcc": 0.5, "log_loss": 0.6, "seconds": 1.0},
            {"settings": {}, "failure": "no"},
        ],
        "seconds": 3.0,
    },
    "shared_rows": [{"sets": ["support", "far"], "rows": 2, "exact": 1, "example": ["a", "b"]}],
    "task": ["2 rows left out"],
    "norm": 3.5,
}


def read_old(out: Path, notes: Any) -> Record:
    """A record of version 1 with these notes, as it is read."""
    (record,) = make_study(out, {"lora": [0.8]}, rows=10)
    path = record_path(out, record.trial_id)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 1, "notes": notes}))
    return load_record(path)


def test_every_note_finds_its_field(tmp_path: Path) -> None:
    notes = read_old(tmp_path, OLD).notes
    assert (notes.prompt.template, notes.prompt.pattern) == ("{text} It is", "it_is")
    assert (notes.prompt.label_words, notes.prompt.label_word_tokens) == ([" bad", " good"], [[4], [9, 2]])
    assert notes.prompt.splits_cleanly and notes.prompt.cut == CutInputs(rows=3, tokens=5)
    assert (notes.fit.losses, notes.fit.validation_losses, notes.fit.kept_epoch) == ([0.7, 0.3], [0.5], 0)
    assert [(group.name, group.starts_at_epoch, group.rates) for group in notes.fit.groups] == [("all", 1, [0.0])]
    assert notes.demonstrations is not None and notes.teacher is not None and notes.tuning is not None
    assert (notes.demonstrations.rows, notes.demonstrations.log_prior) == (["x"], [0.0, -0.5])
    teacher = notes.teacher
    assert (teacher.model, teacher.contexts, teacher.cut) == ("large", [["y"]], CutInputs(rows=1, tokens=2))
    assert (teacher.rows_taught, teacher.rows_labelled, teacher.beats_untaught_student) == (8, 4, {"in_domain": False})
    assert teacher.scratchpad is not None and teacher.scratchpad.mean_tokens == 7.5
    assert notes.warnings == ["no pool", "no better"]
    assert notes.references["teacher"].metrics == {"in_domain": {"accuracy": 0.8}}
    assert notes.references["teacher"].agreement == {"in_domain": 0.75}
    assert notes.references["untaught_student"].agreement == {} and notes.reference_seconds == 1.5
    assert (notes.tuning.chosen, notes.tuning.folds, notes.tuning.metric) == ({"epochs": 2}, 4, "mcc")
    assert [(each.score, each.failure) for each in notes.tuning.tried] == [(0.5, None), (None, "no")]
    assert (notes.shared_rows[0].sets, notes.task, notes.other) == (
        ["support", "far"],
        ["2 rows left out"],
        {"norm": 3.5},
    )


@pytest.mark.parametrize(
    ("edited", "told"),
    [
        ({"losses": "x"}, "notes.fit.losses"),
        ({"companions": 3}, "notes.references"),
        ({"companion_agreement": []}, "notes.references.teacher"),
        ({"tuning": {"tried": 3}}, "notes.tuning"),
        ({"tuning": {"tried": [3]}}, "notes.tuning"),
        ({"teacher_truncated_rows": "many"}, "notes.teacher.cut.rows"),
    ],
)
def test_notes_that_cannot_be_are_refused(tmp_path: Path, edited: dict[str, Any], told: str) -> None:
    with pytest.raises(RecordError, match=told):
        read_old(tmp_path, {**OLD, **edited})
    with pytest.raises(RecordError, match="notes"):
        read_old(tmp_path, [OLD])


def test_a_setting_with_another_name_now_is_read_under_it(tmp_path: Path) -> None:
    (record,) = make_study(tmp_path, {"lora": [0.8]}, rows=10)
    path = record_path(tmp_path, record.trial_id)
    raw = json.loads(path.read_text())
    tuning = {**OLD["tuning"], "chosen": {"reads": "head"}, "tried": [{"settings": {"reads": "head"}, "failure": "no"}]}
    raw |= {"schema_version": 1, "notes": {"tuning": tuning}, "trial": {**raw["trial"], "settings": {"reads": "head"}}}
    path.write_text(json.dumps(raw))
    read = load_record(path)
    assert read.notes.tuning is not None
    renamed = {"readout": "head"}
    assert read.trial.settings == read.notes.tuning.chosen == read.notes.tuning.tried[0].settings == renamed
