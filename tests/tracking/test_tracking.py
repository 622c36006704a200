"""A tracker is told what the folder holds, whether it is quick, slow or down; the study never waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fewtune.api import run_study
from fewtune.cli import main
from fewtune.errors import RecordError
from fewtune.records import (
    Record,
    RecordFiles,
    TrialAxes,
    load_record,
    load_records,
    predictions_path,
    record_path,
    write_record,
)
from fewtune.running.executors.in_process import InProcess
from fewtune.running.job import Started
from fewtune.running.run_study import Preparing, StudyEvent
from fewtune.study import load_study
from fewtune.tracking import follow
from fewtune.tracking.base import TrackedRun, fingerprint_files, list_axes, list_metrics, list_settings, name_run
from fewtune.tracking.fill import fill_tracker
from fewtune.tracking.follow import Follower
from waiting import wait_for

STUDY = """
name: tracked
models: []
tasks: [{{own_files: {{train: {data}, text: text, label: label, as: feelings}}}}]
methods: [majority, tfidf]
shots: [4]
data_seeds: [0, 1]
baselines: false
"""


class Memory:
    """A tracker that remembers; down, it raises."""

    def __init__(self) -> None:
        self.down = False
        self.begun: dict[str, tuple[str, TrialAxes]] = {}
        self.steps: list[tuple[str, int, float]] = []
        self.ended: dict[str, tuple[Record, RecordFiles]] = {}
        self.left: list[str] = []
        self.concluded: list[str] = []
        self.calls = 0

    def list_runs(self) -> Mapping[str, TrackedRun]:
        self._answer()
        told = {run_id: fingerprint_files(files) for run_id, (_, files) in self.ended.items()}
        return {trial: TrackedRun(run_id, told.get(run_id)) for run_id, (trial, _) in self.begun.items()}

    def begin(self, trial_id: str, axes: TrialAxes) -> str:
        self._answer()
        run_id = f"run {len(self.begun)}"
        self.begun[run_id] = (trial_id, axes)
        return run_id

    def conclude(self, decision: str) -> None:
        self._answer()
        self.concluded.append(decision)

    def step(self, run_id: str, step: int, loss: float) -> None:
        self._answer()
        self.steps.append((run_id, step, loss))

    def end(self, run_id: str, record: Record, files: RecordFiles) -> None:
        self._answer()
        self.ended[run_id] = record, files

    def leave(self, run_id: str) -> None:
        self._answer()
        self.left.append(run_id)

    def _answer(self) -> None:
        self.calls += 1
        if self.down:
            raise ConnectionError("nobody answers")


@pytest.fixture
def study(study_file: Path, tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.format(data=study_file.parent / "feelings.csv"))
    return path


def follow_study(study: Path, out: Path, tracker: Memory) -> list[str]:
    """Run a study that a tracker is told of; returns what the user is told."""
    said: list[str] = []
    with Follower(lambda name: tracker, said.append, lambda folder: "Use it.") as follower:
        run_study(study, out, executor=InProcess(), on_event=follower.hear)
    return said


def require_equal(tracker: Memory, out: Path) -> None:
    """The tracker has each trial of the folder once, as it stands there."""
    assert sorted(trial for trial, _ in tracker.begun.values()) == sorted(r.trial_id for r in load_records(out))
    for record, _ in tracker.ended.values():
        assert record == load_record(record_path(out, record.trial_id))
    assert len(tracker.ended) == len(tracker.begun)


def test_a_study_is_told_as_it_runs_and_told_again_it_is_told_nothing(study_file: Path, tmp_path: Path) -> None:
    tracker = Memory()
    assert follow_study(study_file, tmp_path / "out", tracker) == []
    require_equal(tracker, tmp_path / "out")
    losses = {run_id: [loss for told, _, loss in tracker.steps if told == run_id] for run_id in tracker.begun}
    fitted = {axes.method for run_id, (_, axes) in tracker.begun.items() if losses[run_id]}
    assert fitted == {"pattern", "lora"}
    assert fill_tracker(tmp_path / "out", tracker) == (0, len(tracker.begun))


def test_a_tracker_that_is_down_is_told_of_once_and_filled_afterwards(study: Path, tmp_path: Path) -> None:
    out, tracker = tmp_path / "out", Memory()
    tracker.down = True
    first, last = follow_study(study, out, tracker)
    assert first.startswith("The tracker cannot be told (ConnectionError: nobody answers). The study goes on")
    assert last.startswith("The tracker was not told all trials (") and "`fewtune track` tells it the rest" in last
    assert {record.status for record in load_records(out)} == {"done"}
    assert tracker.calls < 5, "it is left alone for a while"
    with pytest.raises(ConnectionError):
        fill_tracker(out, tracker)
    tracker.down = False
    assert fill_tracker(out, tracker) == (4, 4)
    require_equal(tracker, out)


def test_a_tracker_that_comes_back_is_told_what_it_missed(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PAUSE_SECONDS", 0.0)
    out, tracker = tmp_path / "out", Memory()

    class Shaky(Memory):
        def _answer(self) -> None:
            super()._answer()
            if self.calls in (3, 4, 5):
                raise TimeoutError("too slow")

    tracker = Shaky()
    said = follow_study(study, out, tracker)
    assert len(said) == 1 and "too slow" in said[0]
    require_equal(tracker, out)


def test_a_tracker_that_hangs_keeps_no_study_waiting(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "CLOSING_SECONDS", 0.2)
    free = threading.Event()

    class Hanging(Memory):
        def _answer(self) -> None:
            free.wait(60)

    began = time.monotonic()
    [said] = follow_study(study, tmp_path / "out", Hanging())
    assert time.monotonic() - began < 30
    assert "(it takes long)" in said
    free.set()


def test_a_trial_that_ran_again_is_told_again_in_its_run(study: Path, tmp_path: Path) -> None:
    out, tracker = tmp_path / "out", Memory()
    follow_study(study, out, tracker)
    changed = next(iter(load_records(out)))
    write_record(out, changed.model_copy(update={"started_at": "2026-01-01T00:00:00+00:00"}))
    assert fill_tracker(out, tracker) == (1, 4)
    require_equal(tracker, out)


def test_a_failed_trial_that_is_tried_again_has_one_run(study: Path, tmp_path: Path) -> None:
    out, tracker = tmp_path / "out", Memory()
    follow_study(study, out, tracker)
    failed = next(iter(load_records(out)))
    change = {"status": "failed", "failure": {"kind": "out_of_memory", "message": "no room"}, "metrics": {}}
    write_record(out, Record.model_validate(failed.model_dump() | change))
    fill_tracker(out, tracker)
    assert follow_study(study, out, tracker) == []
    assert {record.status for record in load_records(out)} == {"done"}
    require_equal(tracker, out)


def test_a_trial_that_was_begun_and_left_is_told_so(study: Path, tmp_path: Path) -> None:
    out, tracker = tmp_path / "out", Memory()
    begun: list[Started] = []
    with Follower(lambda name: tracker, lambda line: None, lambda folder: "Use it.") as follower:

        def hear(event: StudyEvent) -> None:
            follower.hear(event)
            if isinstance(event, Started):
                begun.append(event)

        run_study(study, out, executor=InProcess(), on_event=hear)
        follower.hear(Started(replace(begun[0].job, trial_id="interrupted")))
        wait_for(lambda: len(tracker.begun) == 5)
    [run_id] = tracker.left
    assert tracker.begun[run_id][0] == "interrupted"
    for path in (out / "trials").glob("*.json"):
        path.unlink()
    with Follower(lambda name: tracker, lambda line: None, lambda folder: "Use it.") as follower:
        follower.hear(Preparing(load_study(study), out))
        follower.hear(Started(replace(begun[0].job, trial_id="the first")))
        wait_for(lambda: len(tracker.begun) == 6)
    assert tracker.begun[tracker.left[-1]][0] == "the first", "where no trial has a record yet"


def test_a_trial_with_damaged_predictions_keeps_no_other_from_being_told(study: Path, tmp_path: Path) -> None:
    out, tracker = tmp_path / "out", Memory()
    run_study(study, out, executor=InProcess())
    first, *others = load_records(out)
    predictions_path(out, first.trial_id).write_bytes(b"no table")
    with pytest.raises(RecordError):
        fill_tracker(out, tracker)
    assert {trial for trial, _ in tracker.begun.values()} == {record.trial_id for record in others}


def test_what_is_told_of_a_trial_is_all_of_its_axes_and_measures(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run_study(study, out, executor=InProcess())
    record = next(record for record in load_records(out) if record.trial.variant == "tfidf")
    assert name_run(record.trial) == f"tfidf · feelings · 4 shots · draw {record.trial.data_seed} · fit 0"
    assert list_axes(record.trial) == {
        "task": "feelings",
        "method": "tfidf",
        "variant": "tfidf",
        "shots": "4",
        "data_seed": str(record.trial.data_seed),
        "fit_seed": "0",
    }
    assert list_settings(record.trial) == {f"settings.{name}": str(it) for name, it in record.trial.settings.items()}
    metrics = list_metrics(record)
    assert {"accuracy", "macro_f1", "log_loss", "ece"} <= record.metrics["in_domain"].keys()
    for test, scores in record.metrics.items():
        assert {name: metrics[f"{test}.{name}"] for name in scores} == scores
        assert metrics[f"{test}.majority"] == record.baselines[test]["majority"]
    cost = record.cost
    assert cost is not None
    assert {name for name in metrics if name.startswith("cost.")} == {
        f"cost.{name}" for name in type(cost).model_fields if getattr(cost, name) is not None
    }
    assert metrics["cost.fit_seconds"] == cost.fit_seconds


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "study.yaml", "--track-uri", "http://127.0.0.1:1"], "give --track with it"),
        (["track", "nowhere", "--to", "mlflow"], "no 'trials' folder here"),
    ],
)
def test_mistakes_are_told_in_words(
    study: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(study.parent)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and words in " ".join(capsys.readouterr().err.split())
