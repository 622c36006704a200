"""What every executor must do: each job started and ended once, with equal results, and nothing left running."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from fewtune.running.executors.base import Executor
from fewtune.running.executors.in_process import InProcess
from fewtune.running.executors.local import LocalProcesses
from fewtune.running.executors.ray import RayActors
from fewtune.running.job import Finished, Job, Progressed, Started, WorkerOptions
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial import run_trial
from fewtune.running.worker import WorkerState
from fewtune.study import Resources, load_study
from waiting import wait_for

EXECUTORS: dict[str, Callable[[WorkerOptions], Executor]] = {
    "in_process": InProcess,
    "local": lambda options: LocalProcesses(WorkerOptions(1, options.data_dir, options.cache_share)),
    "ray": lambda options: RayActors(
        WorkerOptions(1, options.data_dir, options.cache_share), Resources(memory=2**28), auto=False
    ),
}


@pytest.fixture(scope="module")
def jobs(study_file: Path) -> list[Job]:
    methods = "methods=[majority, in_context: {demonstrations: 2}, lora: {epochs: 1}]"
    return prepare_jobs(load_study(study_file, [methods, "data_seeds=[0]"]), None)[0]


@pytest.fixture(autouse=True)
def _let_workers_end(request: pytest.FixtureRequest) -> Iterator[None]:
    """Workers that were let go of end by themselves: the next test must not find them."""
    if "ray" in request.node.name:
        request.getfixturevalue("cluster")
    yield
    for child in multiprocessing.active_children():
        child.join(30)


@pytest.mark.parametrize("name", EXECUTORS)
def test_each_job_is_started_and_ends_once_with_what_it_gives_alone(name: str, jobs: list[Job]) -> None:
    executor = EXECUTORS[name](WorkerOptions(cache_share=0.05))
    with closing(executor):
        events = list(executor.run(jobs[:1])) + list(executor.run(jobs[1:]))
    for job in jobs:
        own = [event for event in events if event.job.trial_id == job.trial_id]
        assert isinstance(own[0], Started) and isinstance(own[-1], Finished)
        assert all(isinstance(event, Progressed) for event in own[1:-1])
        finished, (record, predictions) = own[-1], run_trial(job, WorkerState())
        assert finished.record.status == record.status == "done", finished.record.failure
        assert finished.record.metrics == record.metrics
        assert finished.record.environment["cache_share"] == 0.05
        assert finished.predictions is not None and predictions is not None
        assert_frame_equal(finished.predictions, predictions, check_exact=True)
    lora = [event.progress for event in events if isinstance(event, Progressed) and "lora" in str(event.job.trial)]
    assert any(progress.steps and progress.step == progress.steps for progress in lora)


@pytest.mark.parametrize("name", EXECUTORS)
def test_whoever_stops_listening_ends_what_runs(name: str, jobs: list[Job]) -> None:
    executor = EXECUTORS[name](WorkerOptions())
    events = executor.run(jobs)
    assert isinstance(next(events), Started)
    events.close()
    assert not multiprocessing.active_children()
    if isinstance(executor, RayActors):
        import ray

        wait_for(lambda: ray.available_resources().get("CPU") == 2)  # its actors let go of their cores


def test_a_job_holds_no_path_of_the_process_that_made_it(jobs: list[Job], study_file: Path) -> None:
    """What a study itself names by a path is the study's; nothing was added."""
    for job in jobs:
        added = pickle.dumps((job.trial_id, job.data, dict.fromkeys(job.weights.values()), job.skip_reason))
        assert b"/" not in added
        assert set(job.weights) <= {job.trial.model.name if job.trial.model is not None else ""}


def test_a_model_or_rows_that_changed_since_are_refused(jobs: list[Job]) -> None:
    from dataclasses import replace

    model = next(job for job in jobs if job.weights)
    for other, words in (
        (replace(model, weights=dict.fromkeys(model.weights, "0" * 64)), "is another here than when the study was"),
        (replace(model, data="0" * 64), "its rows are others here than when the study was prepared"),
    ):
        record, predictions = run_trial(other, WorkerState())
        assert predictions is None and record.status == "failed" and record.failure is not None
        assert words in record.failure.message
    assert np.isfinite(run_trial(model, WorkerState())[0].metrics["in_domain"]["accuracy"])


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_job_is_asked_for_when_it_could_start(name: str, jobs: list[Job]) -> None:
    executor, asked = EXECUTORS[name](WorkerOptions()), list[str]()

    def offer() -> Iterator[Job]:
        for job in [*jobs, *jobs]:
            asked.append(job.trial_id)
            yield job

    with closing(executor), closing(executor.run(offer())) as events:
        assert isinstance(next(events), Started)
        assert len(asked) <= executor.options.workers
    for child in multiprocessing.active_children():
        child.join(30)
    assert not multiprocessing.active_children()
