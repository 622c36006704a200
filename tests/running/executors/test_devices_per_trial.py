"""A trial whose network is split among two processes: the same plan, the same record but for rounding."""

from __future__ import annotations

import multiprocessing
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest

from fewtune.cli import main
from fewtune.running.executors.local import LocalProcesses
from fewtune.running.job import Finished, Job, Lost, Started, WorkerOptions
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial import run_trial
from fewtune.running.worker import WorkerState
from fewtune.study import load_study

METHODS = "methods=[pattern: {epochs: 2}, vanilla: {epochs: 2}, adaptive: {epochs: 2, blocks: 1}, lora: {epochs: 1}]"


@pytest.fixture(scope="module")
def jobs(study_file: Path) -> list[Job]:
    wanted = [METHODS, "data_seeds=[0]", "baselines=false", "precision=float32"]
    return prepare_jobs(load_study(study_file, wanted), None)[0]


def test_a_split_trial_is_the_same_trial(jobs: list[Job]) -> None:
    with closing(LocalProcesses(WorkerOptions(threads=1, devices_per_trial=2))) as executor:
        ended = [event for event in executor.run(jobs) if isinstance(event, Finished)]
    assert len(ended) == len(jobs) == 4
    for event in ended:
        record, predictions = run_trial(event.job, WorkerState(WorkerOptions(threads=1)))
        assert event.record.status == record.status == "done", event.record.failure
        assert event.record.trial == record.trial and event.record.fingerprints == record.fingerprints
        assert event.record.notes.fit.groups == record.notes.fit.groups
        np.testing.assert_allclose(event.record.notes.fit.losses, record.notes.fit.losses, rtol=1e-5)
        assert event.record.environment["devices_per_trial"] == 2
        assert event.predictions is not None and predictions is not None
        scores = [name for name in predictions.columns if name.startswith("score_")]
        found, alone = (table.select(scores).to_numpy() for table in (event.predictions, predictions))
        np.testing.assert_allclose(found, alone, atol=1e-4)
    for child in multiprocessing.active_children():
        child.join(30)


def find_beside(executor: LocalProcesses) -> list[psutil.Process]:
    """The processes beside the one worker, once there are any."""
    [worker] = executor._team
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if beside := [
            each for each in psutil.Process(worker.process.pid).children() if "spawn_main" in str(each.cmdline())
        ]:
            return beside
        time.sleep(0.1)
    raise AssertionError("a worker that runs a split trial has processes beside it")


def test_none_of_those_who_run_a_trial_outlives_the_others(jobs: list[Job]) -> None:
    with closing(LocalProcesses(WorkerOptions(threads=1, devices_per_trial=2))) as executor:
        events = executor.run(jobs[:2])
        assert isinstance(next(events), Started)
        [beside] = find_beside(executor)
        beside.kill()
        lost = next(event for event in events if isinstance(event, Lost))
        assert "a process beside it ending" in lost.reason
        assert isinstance(next(events), Started)  # in a worker that takes its place
        [beside] = find_beside(executor)
        events.close()
    _, alive = psutil.wait_procs([beside], timeout=60)
    assert alive == []


def test_it_is_for_one_trial_at_a_time(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in (["--workers", "2"], ["--executor", "ray"]):
        with pytest.raises(SystemExit) as ended:
            main(["run", str(study_file), "--devices-per-trial", "2", *more])
        assert ended.value.code == 2
        assert "splits one trial at a time" in " ".join(capsys.readouterr().err.split())
