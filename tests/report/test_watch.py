"""A running study, watched."""

from __future__ import annotations

import json
import os
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fewtune.errors import RecordError
from fewtune.records import (
    Look,
    LookHistory,
    append_event,
    load_records,
    record_path,
    write_looks,
    write_planned,
    write_record,
)
from fewtune.report.watch import watch_study
from study_maker import make_study


def make_terminal(stream: StringIO) -> Console:
    return Console(file=stream, width=100, force_terminal=True, color_system=None)


def test_watching_follows_records_until_the_last_is_there(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.9], "lora": [0.6, 0.7]})
    records = load_records(tmp_path)
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in records})
    held = {record.trial_id: record_path(tmp_path, record.trial_id).read_bytes() for record in records}
    for trial_id in held:
        record_path(tmp_path, trial_id).unlink()
    stream, looks = StringIO(), []

    def finish_one(seconds: float) -> None:
        looks.append(seconds)
        trial_id, content = held.popitem()
        record_path(tmp_path, trial_id).write_bytes(content)

    watch_study(make_terminal(stream), tmp_path, every=0.5, pause=finish_one)
    text = stream.getvalue()
    assert looks == [0.5] * 4
    assert "4 of 4 trials: 4 done" in text
    assert "- pattern leads (0.850 accuracy)" in text and "so far: " in text
    assert "Audit" in text


def test_a_failed_trial_that_a_run_repeats_is_waited_for(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.9]}, failures={"lora": "no memory"})
    records = load_records(tmp_path)
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in records})
    [failed] = [record for record in records if record.status == "failed"]
    path = record_path(tmp_path, failed.trial_id)
    append_event(tmp_path, "run", trials=3, reused=2)
    os.utime(path, (0, 0))
    stream, looks = StringIO(), []

    def fail_anew(seconds: float) -> None:
        looks.append(seconds)
        path.touch()

    watch_study(make_terminal(stream), tmp_path, every=0.5, pause=fail_anew)
    assert looks == [0.5]
    assert "3 of 3 trials: 2 done, 1 failed" in stream.getvalue()


def test_the_look_that_comes_after_the_last_record_is_waited_for(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.82, 0.81], "lora": [0.6, 0.62, 0.61]})
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in load_records(tmp_path)})
    early = Look(task="sentiment", shots=16, draws=2, methods=2, level=0.01)
    write_looks(tmp_path, LookHistory(plan=(2, 3), looks=(early,)))
    whole = LookHistory(plan=(2, 3), looks=(early, early.model_copy(update={"draws": 3})))
    stream, waited = StringIO(), []

    def look(seconds: float) -> None:
        waited.append(seconds)
        write_looks(tmp_path, whole)

    watch_study(make_terminal(stream), tmp_path, every=0.5, pause=look)
    assert waited == [0.5] and "6 of 6 trials: 6 done" in stream.getvalue()


@pytest.mark.parametrize("draws", [1, 2])
def test_a_folder_that_no_look_is_to_come_at_is_not_waited_for(draws: int, tmp_path: Path) -> None:
    """One draw bounds nothing, and looks at a part of a study are not counted."""
    make_study(tmp_path, {"pattern": [0.8, 0.82][:draws], "lora": [0.6, 0.62][:draws]})
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in load_records(tmp_path)})
    write_looks(tmp_path, LookHistory(plan=(draws,)))
    if draws > 1:
        append_event(tmp_path, "run", trials=4, reused=0, shards=[[1, 2]])
    for record in load_records(tmp_path):
        os.utime(record_path(tmp_path, record.trial_id))
    stream = StringIO()
    watch_study(make_terminal(stream), tmp_path, every=0.5, pause=lambda _: pytest.fail("waited for a look"))
    assert f"{2 * draws} of {2 * draws} trials: {2 * draws} done" in stream.getvalue()


def test_a_race_between_two_looks_is_not_over(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.7, 0.9], "lora": [0.75, 0.85, 0.8]})
    cells = {record.trial_id: record.trial.cell for record in load_records(tmp_path)}
    write_planned(tmp_path, cells)
    said = "name: raced\nwithin: 0\ndata_seeds: [0, 1, 2, 3, 4]\nuntil: {most_draws: 5}\n"
    (tmp_path / "study.yaml").write_text(said)
    look = Look(task="sentiment", shots=16, draws=3, methods=2, level=0.01)
    write_looks(tmp_path, LookHistory(plan=(3, 5), looks=(look,)))
    stream, waited = StringIO(), []

    def plan_more(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 1:
            write_planned(tmp_path, {**cells, "f" * 16: next(iter(cells.values()))})
        elif len(waited) == 2:
            write_planned(tmp_path, cells)

    watch_study(make_terminal(stream), tmp_path, every=20, pause=plan_more)
    assert len(waited) == 4, "it ends where nothing was added for half a minute"
    assert "6 of 7 trials" in stream.getvalue()


def test_half_written_and_malformed_events_do_not_end_the_watch(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.9]})
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in load_records(tmp_path)})
    (tmp_path / "events.jsonl").write_text('{"time": 1.0, "ev\n[1]\n{}\n{"event": "run"}\n"}"\n')
    stream = StringIO()
    watch_study(make_terminal(stream), tmp_path, every=0.5, pause=lambda _: pytest.fail("looked again"))
    assert "2 of 2 trials: 2 done" in stream.getvalue()


def test_an_unfinished_study_is_shown_once_into_a_pipe(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.9]})
    [first, second] = load_records(tmp_path)
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in (first, second)})
    for record, told in ((first, "1 of 2 trials: 1 done"), (second, "2 trials planned, none finished yet.")):
        record_path(tmp_path, record.trial_id).unlink()
        stream = StringIO()
        watch_study(Console(file=stream, width=200), tmp_path, every=0.5, pause=lambda _: pytest.fail("looked again"))
        assert stream.getvalue().count(told) == 1
        assert stream.getvalue().endswith("\n")


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(json.dumps({}))
    with pytest.raises(RecordError, match="no study was started here"):
        watch_study(Console(file=StringIO()), tmp_path, every=1.0)


def watch(out: Path) -> str:
    """What `watch` shows of a folder at once, white space made one."""
    stream = StringIO()
    watch_study(Console(file=stream, width=100), out, every=0.5)
    return "\n".join(" ".join(line.split()) for line in stream.getvalue().splitlines())


def test_a_race_shows_who_is_in_how_far_below_the_best_and_what_the_next_look_takes(tmp_path: Path) -> None:
    records = make_study(tmp_path, {"pattern": [0.8, 0.82, 0.84, 0.8], "lora": [0.8, 0.81, 0.83], "probe": [0.5] * 3})
    records = [r.model_copy(update={"phase_seconds": {"fit": 30.0}}) for r in records]
    for record in records:
        write_record(tmp_path, record)
    missing = records[3].trial.cell.model_copy(update={"variant": "lora"})
    write_planned(tmp_path, {**{record.trial_id: record.trial.cell for record in records}, "f" * 16: missing})
    (tmp_path / "study.yaml").write_text("name: raced\ndata_seeds: [0, 1, 2, 3, 4]\nguarantee: bound\n")
    reason = "stopped at look 1: not the best, pattern is above it"
    look = Look(task="sentiment", shots=16, draws=3, methods=3, level=0.02, stopped={"probe": reason})
    write_looks(tmp_path, LookHistory(plan=(3, 5), looks=(look,)))
    lines = watch(tmp_path).splitlines()
    assert "method in domain lowest highest draws fit expected loss" in lines
    (probe,) = [line for line in lines if line.startswith("probe")]
    assert "3, stopped" in probe and float(probe.split()[-1]) > 30
    assert "race: look 1 of 2 was after 3 draws; the next is after 5: 1 trial to go, about 30 s" in lines
    # The same where the study was none that races when its first look was planned.
    write_looks(tmp_path, LookHistory(plan=(3,), looks=(look,)))
    assert "the next is after 5" not in watch(tmp_path)
    (tmp_path / "study.yaml").write_text(
        "name: raced\ndata_seeds: [0, 1, 2, 3, 4]\nuntil: {most_draws: 5}\nguarantee: bound\n"
    )
    assert "race: look 1 of 2 was after 3 draws; the next is after 5: 1 trial to go, about 30 s" in watch(tmp_path)
