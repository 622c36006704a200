"""A study goes on as it began in its folder, in what it leaves to the machine or to a measurement."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from command_line import run_cli
from fewtune.records import (
    append_event,
    load_predictions,
    load_records,
    pack_study,
    record_path,
    write_planned,
    write_record,
)
from fewtune.running import prepare, run_study
from fewtune.running.precision_choice import recall_precision
from fewtune.running.row_choice import leaves_rows_open, recall_rows
from fewtune.study import Study
from study_maker import make_study
from study_text import minimal, read


@pytest.fixture
def run(study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a small study on a machine that takes a precision for its own; what was told."""

    def run_there(native: Literal["bfloat16", "float32"], *given: str) -> str:
        for module in (prepare, run_study):
            monkeypatch.setattr(module, "resolve_precision", lambda wanted: native if wanted == "auto" else wanted)
        study = ("methods=[zero_shot, majority]", "data_seeds=[0]", "precision=auto")
        overrides = [word for each in (*study, *given) for word in ("--set", each)]
        code, told, errors = run_cli("run", study_file, "--out", tmp_path / "out", *overrides, capsys=capsys)
        return " ".join(f"{code} {told} {errors}".split())

    return run_there


@pytest.mark.usefixtures("no_workers")
@pytest.mark.parametrize("packed", [False, True])
def test_a_study_goes_on_in_the_precision_that_it_began_with(run: Any, tmp_path: Path, packed: bool) -> None:
    out = tmp_path / "out"
    assert "2 trials, 0 already done" in run("float32")
    asked = (out / "study.yaml").read_bytes()
    if packed:
        pack_study(out)
    again = run("bfloat16")
    assert "2 trials, 2 already done" in again
    assert f"precision: auto: float32, as in the trials that lie in {out}; here it is another." in again
    assert (out / "study.yaml").read_bytes() == asked and b"precision: auto" in asked
    assert len(load_records(out)) == 2 and "here it is another" not in run("float32")
    assert "2 trials, 2 already done" in run("bfloat16", "precision=float32")
    assert run("bfloat16", "precision=bfloat16").startswith("2 ") and "it differs in precision" in run(
        "float32", "precision=bfloat16"
    )


def test_trials_that_are_no_longer_the_studys_say_nothing_of_it(tmp_path: Path) -> None:
    """As of a study that a machine of another precision began anew: what came first belongs to it no more."""
    (tmp_path / "given").mkdir()
    study, out = read(tmp_path / "given", minimal(models="[smollm2-135m]")), tmp_path / "out"
    first, second = make_study(out, {"pattern": [0.7], "lora": [0.8]})
    for record, precision in ((first, "float32"), (second, "bfloat16")):
        changed = record.model_copy(update={"environment": {"precision": precision}})
        write_record(out, changed, load_predictions(out, record.trial_id))
        os.utime(record_path(out, record.trial_id), (0, 0 if precision == "float32" else 1))
    assert recall_precision(study, out).precision == "float32", "no list says whose they are"
    write_planned(out, {second.trial_id: second.trial.cell})
    assert recall_precision(study, out).precision == "bfloat16"
    write_planned(out, {"0123456789abcdef": second.trial.cell})
    assert recall_precision(study, out).precision == "auto"
    write_planned(out, {first.trial_id: first.trial.cell.model_copy(update={"model": None})})
    assert recall_precision(study, out).precision == "auto", "a shard of baselines"


@pytest.mark.parametrize("harm", [lambda content: content[:-100], lambda content: b"{}\n" + content])
def test_a_packed_study_that_cannot_be_read_is_for_whoever_opens_it_to_tell(
    tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "given").mkdir()
    study, out = read(tmp_path / "given", minimal(models="[smollm2-135m]")), tmp_path / "out"
    (record,) = make_study(out, {"pattern": [0.7]})
    write_planned(out, {record.trial_id: record.trial.cell})
    (out / "study.yaml").write_text(study.to_yaml())
    for event in ("run", "finished"):
        append_event(out, event)
    pack_study(out)
    packed = out / "records.jsonl"
    packed.write_bytes(harm(packed.read_bytes()))
    assert recall_precision(study, out) == study


def test_what_is_open_stays_so_where_no_trial_says_it(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    study: Study = read(tmp_path / "given", minimal(models="[smollm2-135m]", evaluation="{in_domain_rows: auto}"))
    out = tmp_path / "out"
    assert recall_precision(study, out).precision == "auto" and leaves_rows_open(recall_rows(study, out))
    out.mkdir()
    (out / "trials").mkdir()
    record_path(out, "0123456789abcdef").write_text("half")
    assert recall_precision(study, out).precision == "auto" and leaves_rows_open(recall_rows(study, out))


@pytest.mark.usefixtures("no_workers")
def test_rows_that_were_chosen_are_known_though_the_studys_file_is_gone(run: Any, tmp_path: Path) -> None:
    rows = "evaluation={in_domain_rows: auto}"
    assert "2 trials, 0 already done" in run("float32", rows)
    (tmp_path / "out" / "study.yaml").unlink()
    assert "2 trials, 2 already done" in run("float32", rows)
