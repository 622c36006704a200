"""A finished study in two files: everything reads it, trials can be added, no accident loses or changes a record."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import polars as pl
import polars.selectors as cs
import pytest
from rich.console import Console

import fewtune
from fewtune.analysis.followed import FollowedFolder
from fewtune.analysis.study import analyse_folder
from fewtune.cli.pack import pack as pack_command
from fewtune.errors import RecordError
from fewtune.records import (
    StudyPredictions,
    append_event,
    find_last_run,
    load_events,
    load_planned,
    load_predictions,
    load_records,
    pack_study,
    predictions_path,
    record_path,
    unpack,
    write_planned,
    write_record,
)
from fewtune.report.export import FORMATS
from fewtune.report.watch import watch_study
from fewtune.running.executors.in_process import InProcess
from study_maker import make_study

TWO = {"predictions.parquet", "records.jsonl"}


def make_finished(out: Path) -> Path:
    """Two tasks whose labels differ, a failed trial, predictions with scores, events, and a study.yaml."""
    made = make_study(out, {"lora": [0.8, 0.7], "tfidf": [0.6, 0.5]}, failures={"ia3": "no"}, rows=20)
    made += make_study(out, {"lora": [0.8]}, task="colours", labels=("red", "green", "blue"), rows=12)
    for record in made:
        if record.status == "done":
            path = predictions_path(out, record.trial_id)
            scores = [pl.lit(-0.5, pl.Float32).alias(f"score_{label}") for label in record.labels]
            pl.read_parquet(path).with_columns(*scores).write_parquet(path)
    write_planned(out, {record.trial_id: record.trial.cell for record in made})
    for event in ("run", "started", "finished"):
        append_event(out, event)
    (out / "study.yaml").write_text("name: packed\ntasks: [sentiment, colours]\n")
    return out


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return make_finished(tmp_path / "study")


def read_all(out: Path) -> tuple[object, ...]:
    """All that a folder says."""
    records = load_records(out)
    done = [record.trial_id for record in records if record.status == "done"]
    tables = [load_predictions(out, trial_id) for trial_id in done]
    shown = [write(analyse_folder(out)) for write in FORMATS.values()]
    seen = [(table.schema, table.rows()) for table in tables]
    return records, load_planned(out), load_events(out), find_last_run(out), seen, shown


def test_a_packed_study_is_two_files_and_says_the_same(out: Path) -> None:
    before = read_all(out)
    assert pack_study(out) == 6
    assert {path.name for path in out.iterdir()} == TWO | {"study.yaml"}
    assert read_all(out) == before
    unpack(out)
    assert not TWO & {path.name for path in out.iterdir()}
    assert read_all(out) == before
    assert pack_study(out) == 6 and read_all(out) == before


def test_what_follows_a_folder_sees_a_packed_study(out: Path) -> None:
    console = Console(file=StringIO(), width=120)
    followed = FollowedFolder(out)
    before = followed.analyse(followed.read())
    pack_study(out)
    after = followed.analyse(followed.read())
    assert after.records == before.records and [g.board for g in after.groups] == [g.board for g in before.groups]
    watch_study(console, out, every=1.0, pause=lambda _: pytest.fail("looked again"))
    assert "6 of 6 trials" in console.file.getvalue()  # type: ignore[attr-defined]


def test_predictions_are_read_in_any_order_and_a_part_at_a_time(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [record.trial_id for record in load_records(out) if record.status == "done"]
    apart = {trial_id: load_predictions(out, trial_id) for trial_id in ids}
    pack_study(out)
    monkeypatch.setattr("fewtune.records.packed_files.ROWS_AT_ONCE", 21)  # a trial and a bit
    read = StudyPredictions(out)
    for trial_id in [*reversed(ids), ids[2], ids[0], ids[-1]]:
        assert read(trial_id).equals(apart[trial_id])


def test_a_study_that_was_packed_again_is_read_anew(out: Path) -> None:
    read, (last, *_) = StudyPredictions(out), [r.trial_id for r in reversed(load_records(out)) if r.status == "done"]
    pack_study(out)
    before, planned = read(last), load_planned(out)
    assert planned is not None
    unpack(out)
    (added,) = make_study(out, {"lora": [0.1]}, task="added", rows=30)
    write_planned(out, {added.trial_id: added.trial.cell, **planned})
    pack_study(out)
    assert read(last).equals(before) and read(added.trial_id).height == 30


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))


def raise_format(out: Path) -> None:
    opening, _, rest = (out / "records.jsonl").read_text().partition("\n")
    (out / "records.jsonl").write_text(json.dumps({**json.loads(opening), "packed": 9}) + "\n" + rest)


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "cut short": (lambda out: os.truncate(out / "records.jsonl", 3000), "records.jsonl", "damaged, or edited"),
    "emptied": (lambda out: (out / "records.jsonl").write_bytes(b""), "records.jsonl", "damaged, or edited"),
    "other bytes": (lambda out: (out / "records.jsonl").write_bytes(b"\xff\n"), "records.jsonl", "damaged, or edited"),
    "a list": (lambda out: (out / "records.jsonl").write_text("[]\n"), "records.jsonl", "damaged, or edited"),
    "an edited record": (lambda out: flip(out / "records.jsonl", -100), "records.jsonl", "damaged, or edited"),
    "newer": (raise_format, "records.jsonl", "packed in format 9, this fewtune reads 1"),
    "no predictions": (lambda out: (out / "predictions.parquet").unlink(), "predictions.parquet", "are missing"),
    "edited predictions": (lambda out: flip(out / "predictions.parquet", 50), "predictions.parquet", "damaged, or not"),
    "cut predictions": (lambda out: os.truncate(out / "predictions.parquet", 99), "predictions.parquet", "damaged"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_packed_study_is_refused_by_its_file(out: Path, what: str) -> None:
    damage, file, told = DAMAGE[what]
    pack_study(out)
    damage(out)
    for read in (analyse_folder, unpack):
        with pytest.raises(RecordError) as refused:
            read(out)
        assert str(refused.value).startswith(f"{out / file}: ") and told in str(refused.value)


def rewrite_packed(out: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    """Change the predictions of a packed study, and the hash of them."""
    path = out / "predictions.parquet"
    change(pl.read_parquet(path)).write_parquet(path)
    opening, _, rest = (out / "records.jsonl").read_text().partition("\n")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    (out / "records.jsonl").write_text(json.dumps({**json.loads(opening), "predictions_sha256": sha256}) + "\n" + rest)


def spoil_scores(trial_id: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """A change that makes every third score of a trial no number."""
    odd = (pl.col("trial_id") == trial_id) & (pl.int_range(pl.len()) % 3 == 0)
    return lambda table: table.with_columns(pl.when(~odd).then(cs.starts_with("score_")).otherwise(math.nan))


@pytest.mark.parametrize("what", ["behind all others", "beside its own", "every trial's", "no numbers"])
def test_packed_predictions_of_which_no_figure_can_be_made_are_told(out: Path, what: str) -> None:
    """Their hashes fit: whoever wrote them mended these."""
    pack_study(out)
    done = [record for record in load_records(out) if record.status == "done"]
    trial_id, every = done[0].trial_id, sorted(record.trial_id for record in done)
    own = pl.col("trial_id") == trial_id
    changes: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
        "behind all others": lambda table: table.vstack(table.filter(own).head(5)),
        "beside its own": lambda table: pl.concat([table.filter(own), table]),
        "every trial's": lambda table: table.vstack(table),
        "no numbers": spoil_scores(trial_id),
    }
    rewrite_packed(out, changes[what])
    study = analyse_folder(out)
    told = [finding for finding in study.findings if finding.rule == "unsound predictions"]
    named = every if what == "every trial's" else [trial_id]
    assert {finding.severity for finding in told} == {"error"}
    assert sorted(trial for finding in told for trial in finding.trials) == named
    assert {record.trial_id for record in study.records if record.metrics} == set(every) - set(named)
    assert sum(row.done for group in study.groups for row in group.board.rows) == len(every) - len(named)


def test_a_record_that_stands_twice_is_refused(out: Path) -> None:
    pack_study(out)
    opening, *lines = (out / "records.jsonl").read_bytes().splitlines(keepends=True)
    rest = b"".join([*lines, lines[-1]])
    header = json.loads(opening)
    header |= {"records": header["records"] + 1, "lines_sha256": hashlib.sha256(rest).hexdigest()}
    (out / "records.jsonl").write_bytes(json.dumps(header).encode() + b"\n" + rest)
    with pytest.raises(RecordError, match=r"records\.jsonl: trial \w+ stands in it twice\. Restore"):
        analyse_folder(out)


class Killed(BaseException):
    """What ends a process in the middle of things."""


@pytest.mark.parametrize("act", [pack_study, unpack])
def test_killed_at_any_step_the_study_is_whole_and_can_be_packed(
    act: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each renaming of a written file and each removal is a step; the process ends before each of them in turn."""
    before = without_times(read_all(make_finished(tmp_path / "whole")))
    for steps in range(100):
        out = make_finished(tmp_path / f"after{steps}")
        if act is unpack:
            pack_study(out)
        with monkeypatch.context() as patch:
            left = kill_after(steps, patch)
            with contextlib.suppress(Killed):
                act(out)
        assert without_times(read_all(out)) == before, f"killed after {steps} steps"
        if (out / "trials").exists() or not (out / "records.jsonl").exists():
            pack_study(out)
        assert without_times(read_all(out)) == before and not (out / "trials").exists()
        if left():
            break
    assert 10 < steps < 99


def kill_after(steps: int, patch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Let the process do so many steps and end before the next; what is returned says whether all were done."""
    todo = iter(range(steps))
    alive = True

    def limit(real: Callable[..., object]) -> Callable[..., object]:
        def step(path: Path, *arguments: object, **named: object) -> object:
            nonlocal alive
            if alive and next(todo, None) is None:
                alive = False
                raise Killed
            return real(path, *arguments, **named)

        return step

    for name in ("unlink", "replace"):
        patch.setattr(Path, name, limit(getattr(Path, name)))
    return lambda: alive


def without_times(said: tuple[object, ...]) -> tuple[object, ...]:
    """What a folder says, but for when its events were: each made study has its own."""
    records, planned, events, _, *rest = said
    assert isinstance(events, list)
    return records, planned, [event["event"] for event in events], *rest


def test_what_cannot_be_packed_is_refused(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (record, *_) = load_records(out)
    record_path(out, record.trial_id).unlink()
    with pytest.raises(RecordError, match="1 of 6 trials have no record yet"):
        pack_command(out)
    write_record(out, record)
    done = next(record.trial_id for record in load_records(out) if record.status == "done")
    table = load_predictions(out, done)
    table.vstack(table).write_parquet(predictions_path(out, done))
    with pytest.raises(RecordError, match="a row of a test set that stands in them twice"):
        pack_command(out)
    table.write_parquet(predictions_path(out, done))
    assert pack_command(out) == 0 and "6 trials packed" in capsys.readouterr().out
    with pytest.raises(RecordError, match="packed already"):
        pack_command(out)
    with pytest.raises(RecordError, match="no such folder"):
        pack_command(out / "nowhere")
    (out.parent / "mine").mkdir()
    (out.parent / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(RecordError, match="holds no study"):
        pack_command(out.parent / "mine")


def test_records_of_no_trial_of_the_study_stay_where_they_are(out: Path) -> None:
    planned = load_planned(out)
    assert planned is not None
    left_out, *kept = planned
    write_planned(out, {trial_id: planned[trial_id] for trial_id in kept})
    assert pack_study(out) == 5
    assert [path.stem for path in (out / "trials").iterdir()] == [left_out]
    assert left_out not in {record.trial_id for record in load_records(out)}


def test_a_packed_study_is_reused_and_grows(study_file: Path, tmp_path: Path) -> None:
    task = {"own_files": {"train": study_file.parent / "feelings.csv", "as": "feelings"}}
    values = {"name": "grows", "tasks": [task], "methods": ["majority", "tfidf"], "shots": [4], "baselines": False}
    out = tmp_path / "out"
    first = fewtune.run_study({**values, "data_seeds": [0]}, out, executor=InProcess())
    pack_command(out)
    again = fewtune.run_study({**values, "data_seeds": [0]}, out, executor=InProcess())
    assert again.records == first.records and not (out / "trials").exists(), "nothing ran: it stays packed"
    more = fewtune.run_study({**values, "data_seeds": [0, 1]}, out, executor=InProcess())
    assert len(more.records) == 4 and all(record in more.records for record in first.records)
    assert [event.get("reused") for event in load_events(out) if event["event"] == "run"] == [0, 2, 2]
    pack_command(out)
    assert {path.name for path in out.iterdir()} >= TWO and len(fewtune.analyse(out).records) == 4


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_trial_of_unsound_predictions_is_run_again_packed_or_not(
    study_file: Path, tmp_path: Path, is_packed: bool
) -> None:
    task = {"own_files": {"train": study_file.parent / "feelings.csv", "as": "feelings"}}
    values = {"name": "mends", "tasks": [task], "methods": ["majority", "tfidf"], "shots": [4], "baselines": False}
    out = tmp_path / "out"
    first = fewtune.run_study(values, out, executor=InProcess())
    trial_id = next(record.trial_id for record in first.records if record.trial.variant == "tfidf")
    before = load_predictions(out, trial_id)
    pack_study(out)
    rewrite_packed(out, spoil_scores(trial_id))
    if not is_packed:
        path = predictions_path(out, trial_id)
        unpack(out)
        before.with_columns(cs.starts_with("score_") * math.inf).write_parquet(path)
    assert [finding.rule for finding in fewtune.analyse(out).findings if finding.severity == "error"] == [
        "unsound predictions"
    ]
    told = list[str]()
    again = fewtune.run_study(
        values, out, executor=InProcess(), on_event=lambda event: told.append(getattr(event, "text", ""))
    )
    assert any("Its trial runs again now." in line for line in told)
    assert {record.status for record in again.records} == {"done"} and load_predictions(out, trial_id).equals(before)
