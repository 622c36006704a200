"""Reads records of schema version 1, whose notes were one flat mapping, as those of version 2.

Owns that mapping, and settings' old names. Values are moved and not judged: what cannot be is refused where version 2
is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PROMPT = {
    "template": "template",
    "pattern": "pattern",
    "label_words": "label_words",
    "label_word_tokens": "label_word_tokens",
    "label_words_split_cleanly": "splits_cleanly",
}
_FIT = {
    "losses": "losses",
    "parameter_groups": "groups",
    "validation_losses": "validation_losses",
    "kept_epoch": "kept_epoch",
}
_TEACHER = {
    "teacher_model": "model",
    "teacher_contexts": "contexts",
    "rows_taught": "rows_taught",
    "rows_labelled": "rows_labelled",
    "teacher_beats_untaught_student": "beats_untaught_student",
}
_CUT = {"truncated_rows": "rows", "truncated_tokens": "tokens"}
_TEACHER_CUT = {f"teacher_{old}": new for old, new in _CUT.items()}
_DEMONSTRATIONS = {"demonstration_rows": "rows", "calibration_log_prior": "log_prior"}
_SCRATCHPAD = {"scratchpad": "cue", "scratchpad_tokens": "most_tokens", "scratchpad_mean_tokens": "mean_tokens"}
_RUNNER = {"shared_rows": "shared_rows", "task": "task", "companion_seconds": "reference_seconds"}
_WARNINGS = ("nothing_taught", "warning")
_SETTINGS = {"reads": "readout"}
"""Settings of methods that have another name now."""
_COUNTED = ("demonstrations_shown",)
"""Notes that say no more than others do."""


def convert_record(raw: dict[str, Any]) -> dict[str, Any]:
    """A record of version 1 as one of version 2; notes that are no mapping stay, to be refused."""
    notes, trial = raw.get("notes", {}), raw.get("trial")
    if isinstance(trial, dict) and "settings" in trial:
        raw = {**raw, "trial": {**trial, "settings": _rename_settings(trial["settings"])}}
    return {**raw, "schema_version": 2, "notes": _convert_notes(notes) if isinstance(notes, dict) else notes}


def _convert_notes(old: Mapping[str, Any]) -> dict[str, Any]:
    new: dict[str, Any] = _move(old, _RUNNER)
    for name, mapping, inner in (("prompt", _PROMPT, _CUT), ("teacher", _TEACHER, _TEACHER_CUT)):
        cut = _move(old, inner)
        part = {**_move(old, mapping), **({"cut": cut} if cut else {})}
        if part:
            new[name] = part
    for name, mapping in (("fit", _FIT), ("demonstrations", _DEMONSTRATIONS)):
        if part := _move(old, mapping):
            new[name] = part
    if scratchpad := _move(old, _SCRATCHPAD):
        new.setdefault("teacher", {})["scratchpad"] = scratchpad
    if warnings := [old[key] for key in _WARNINGS if key in old]:
        new["warnings"] = warnings
    if "companions" in old:
        new["references"] = _convert_references(old["companions"], old.get("companion_agreement", {}))
    if old.get("tuning") is not None:
        new["tuning"] = _convert_tuning(old["tuning"])
    known = {*_PROMPT, *_FIT, *_TEACHER, *_CUT, *_TEACHER_CUT, *_DEMONSTRATIONS, *_SCRATCHPAD, *_RUNNER, *_WARNINGS}
    known |= {*_COUNTED, "companions", "companion_agreement", "tuning"}
    if other := {key: value for key, value in old.items() if key not in known}:
        new["other"] = other
    return new


def _move(old: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {new: old[name] for name, new in names.items() if name in old}


def _convert_references(metrics: Any, agreement: Any) -> Any:
    if not isinstance(metrics, dict) or not isinstance(agreement, dict):
        return metrics
    return {
        name: {"metrics": scores, **({"agreement": agreement[name]} if name in agreement else {})}
        for name, scores in metrics.items()
    }


def _rename_settings(settings: Any) -> Any:
    return {_SETTINGS.get(name, name): v for name, v in settings.items()} if isinstance(settings, dict) else settings


def _convert_tuning(old: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(old.get("tried"), list):
        return old
    metric = old.get("metric", "accuracy")
    tried = [
        {
            "score" if key == metric else key: _rename_settings(value) if key == "settings" else value
            for key, value in entry.items()
        }
        if isinstance(entry, dict)
        else entry
        for entry in old["tried"]
    ]
    kept = {key: _rename_settings(value) if key == "chosen" else value for key, value in old.items() if key != "trials"}
    return {**kept, "metric": metric, "tried": tried}
