"""Actors that die, nodes that leave, rows and models that a node does not have: what Ray's executor does about each."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from polars.testing import assert_frame_equal

from fewtune.data.cache_folder import cache_folder
from fewtune.errors import ExecutorError, FewtuneError, ModelError
from fewtune.models import find_model
from fewtune.models.folder_copy import pack_model, put_down_model
from fewtune.records import load_events, load_records
from fewtune.running.executors import ray as executor_module
from fewtune.running.executors import ray_cluster, trial_actor
from fewtune.running.executors.ray import MOST_ATTEMPTS, RayActors
from fewtune.running.executors.trial_actor import TrialActor
from fewtune.running.job import Event, Finished, Job, Lost, Progressed, Started, WorkerOptions
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial import run_trial
from fewtune.running.worker import Supplies, WorkerState
from fewtune.study import Resources, load_study
from waiting import wait_for

ROOM = Resources(memory=2**28)


@pytest.fixture(scope="module")
def jobs(study_file: Path) -> list[Job]:
    """A fit long enough to be caught at work, and trials beside it."""
    methods = "methods=[lora: {epochs: 120}, majority, tfidf]"
    return prepare_jobs(load_study(study_file, [methods, "data_seeds=[0]"]), None)[0]


def run(executor: RayActors, jobs: list[Job], on_event: Callable[[RayActors, Event], None]) -> list[Event]:
    """What is told of the jobs; each event is acted on as it comes."""
    events = []
    with closing(executor), closing(executor.run(jobs)) as told:
        for event in told:
            events.append(event)
            on_event(executor, event)
    return events


def kill_actor(executor: RayActors, job: Job) -> None:
    import ray

    [actor] = [actor for actor in executor._team if actor.job is job]
    ray.kill(actor.handle)


def test_a_trial_whose_actor_died_runs_again_and_gives_what_it_gives_undisturbed(
    cluster: Any, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "fewtune.running.executors.ray.HEAR_SECONDS", 0.05
    )  # a fast machine ends the fit within a second
    killed: list[Job] = []

    def disturb(executor: RayActors, event: Event) -> None:
        if isinstance(event, Progressed) and event.progress.step and not killed:
            killed.append(event.job)
            kill_actor(executor, event.job)

    # One actor and its successor, not one a core: each takes seconds to start.
    events = run(RayActors(WorkerOptions(1), ROOM, auto=False), jobs, disturb)
    assert [job.trial.method.name for job in killed] == ["lora"]
    ends = {event.job.trial_id: event for event in events if isinstance(event, Finished)}
    assert ends.keys() == {job.trial_id for job in jobs}
    assert sum(isinstance(event, Started) and event.job is killed[0] for event in events) == 2
    for job in jobs:
        record, predictions = run_trial(job, WorkerState(WorkerOptions(threads=1)))
        assert ends[job.trial_id].record.metrics == record.metrics
        found = ends[job.trial_id].predictions
        assert found is not None and predictions is not None
        assert_frame_equal(found, predictions, check_exact=True)


def test_a_trial_that_ends_every_actor_is_lost_and_says_so(cluster: Any, jobs: list[Job]) -> None:
    def disturb(executor: RayActors, event: Event) -> None:
        if isinstance(event, Started) and event.job is jobs[0]:
            kill_actor(executor, event.job)

    events = run(RayActors(resources=ROOM), jobs[:1], disturb)
    assert sum(isinstance(event, Started) for event in events) == MOST_ATTEMPTS
    assert isinstance(events[-1], Lost)
    assert f"{MOST_ATTEMPTS} actors that ran this trial ended with it" in events[-1].reason


def test_a_node_that_leaves_costs_no_trial_and_one_that_comes_is_used(cluster: Any, jobs: list[Job]) -> None:
    extra, places = [cluster.add_node(num_cpus=1)], list[int]()

    def disturb(executor: RayActors, event: Event) -> None:
        if isinstance(event, Started):
            places.append(sum(executor._list_places()))
            if extra:
                cluster.remove_node(extra.pop(), allow_graceful=False)

    events = run(RayActors(resources=ROOM), jobs, disturb)
    assert places[0] == 3 and not extra
    assert {event.job.trial_id for event in events if isinstance(event, Finished)} == {job.trial_id for job in jobs}


def test_an_actor_that_tells_nothing_is_ended_and_its_trial_lost(cluster: Any, jobs: list[Job]) -> None:
    events = run(RayActors(resources=ROOM, stall_after=0.0), jobs[:1], lambda executor, event: None)
    assert isinstance(events[-1], Lost) and "no progress for" in events[-1].reason


def test_an_actor_of_another_version_is_refused_with_both(
    cluster: Any, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "version", lambda name: "99.0")
    with pytest.raises(FewtuneError, match=r"a node has fewtune \d.*and the command that asks 99\.0"):
        run(RayActors(resources=ROOM), jobs[:1], lambda executor, event: None)


def test_a_cluster_without_room_says_what_a_trial_asks_for(
    cluster: Any, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "NO_ROOM_SECONDS", 0.0)
    with pytest.raises(FewtuneError, match=r"each asks for 64 CPUs, 0 GPUs and 0\.2 GiB"):
        run(RayActors(resources=Resources(cpus=64, memory=2**28)), jobs[:1], lambda executor, event: None)


def test_a_run_whose_own_node_ends_says_so_keeps_its_trials_and_goes_on(study_file: Path, tmp_path: Path) -> None:
    """Ray would end the command with code 1 and no word."""
    methods = "methods=[majority, lora: {epochs: 400}]"  # the second is at work when the first is done
    given = [str(study_file), "--out", str(tmp_path / "out"), "--set", methods, "--set", "resources={memory: 256MiB}"]
    command = [sys.executable, "-m", "fewtune.cli", "run", *given]
    # A cluster of its own: by its folder Ray finds those of other tests. A short name, for sockets' are bounded.
    folder = tempfile.mkdtemp(prefix="ray")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"RAY_TMPDIR": folder}
    running = subprocess.Popen(
        [*command, "--executor", "ray", "--workers", "1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip
    try:
        wait_for(lambda: running.poll() is not None or any((tmp_path / "out" / "trials").glob("*.json")), 120)
        own = psutil.Process(running.pid).children(recursive=True)
        [raylet] = [process for process in own if process.name() == "raylet"]
        raylet.kill()
        told = " ".join(running.communicate(timeout=120)[0].split())
    finally:
        running.kill()
        shutil.rmtree(folder, ignore_errors=True)
    assert "fewtune: the Ray node that this command runs on has ended" in told and "its raylet at" in told
    assert "Finished trials are kept in" in told and "; the same command goes on from there." in told
    if running.returncode != 1:  # which is Ray's, where it was faster
        assert running.returncode == 2 and str(tmp_path / "out") in told
        assert [event["event"] for event in load_events(tmp_path / "out")][-1] == "interrupted"
    assert load_records(tmp_path / "out")


def test_a_head_that_stays_away_ends_the_run_before_ray_ends_the_command(
    cluster: Any, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    away: list[str] = []
    answers = ray_cluster.answers
    head = int(cluster.address.rpartition(":")[2])
    monkeypatch.setattr(ray_cluster, "answers", lambda address: answers(address) and not (away and address[1] == head))
    monkeypatch.setattr(ray_cluster, "HEAD_SECONDS", 0.0)
    with pytest.raises(ExecutorError, match=r"the head of the Ray cluster at .* is gone"):
        run(RayActors(resources=ROOM), jobs[:1], lambda executor, event: away.append(event.job.trial_id))


def test_a_process_takes_the_rows_it_is_given_and_finds_a_model_where_it_was_put(
    jobs: list[Job], study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine that has neither the rows' file nor the model's folder."""
    from fewtune.running.prepare import load_task

    monkeypatch.setenv("FEWTUNE_CACHE", str(tmp_path / "cache"))
    [job] = prepare_jobs(load_study(study_file, ["methods=[pattern: {epochs: 1}]", "data_seeds=[0]"]), None)[0]
    expected, _ = run_trial(job, WorkerState())
    task, [(name, fingerprint)] = load_task(job.trial.task, None), job.weights.items()
    files = pack_model(find_model(name))
    assert files is not None
    supplies = Supplies({job.rows_key: task}, {fingerprint: put_down_model(name, files, fingerprint)})
    assert supplies.models[fingerprint].path.is_relative_to(cache_folder())

    def fail(*given: object) -> None:
        raise ModelError("it is not here")

    monkeypatch.setattr("fewtune.running.worker.find_model", fail)
    monkeypatch.setattr("fewtune.running.worker.load_task", fail)
    record, _ = run_trial(job, WorkerState(WorkerOptions(), supplies))
    assert record.status == "done", record.failure
    assert record.metrics == expected.metrics


def test_what_travels_of_a_model_is_neither_pickle_nor_code_and_cannot_leave_its_folder(
    model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWTUNE_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(model_folders["llama"], tmp_path / "model")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(print))
    (folder / "modeling_own.py").write_text("raise SystemExit")
    (folder / "checkpoint-8").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "checkpoint-8")
    snapshot = find_model(str(folder))
    files = pack_model(snapshot)
    assert files is not None and {"config.json", "model.safetensors"} <= files.keys()
    assert not {"pytorch_model.bin", "modeling_own.py", "checkpoint-8/model.safetensors"} & files.keys()
    with pytest.raises(ModelError, match="lies outside"):
        put_down_model("evil", {**files, "../../config.json": b"{}"}, snapshot.weights_fingerprint)
    assert not (tmp_path / "config.json").exists() and not (tmp_path / "cache" / "config.json").exists()
    with pytest.raises(ModelError, match="another model than 'changed' was"):
        put_down_model("changed", {**files, "config.json": b"{}"}, snapshot.weights_fingerprint)
    assert pack_model(replace(snapshot, name="smollm2-135m")) is None, "every machine finds it by its name"


def test_an_actor_tells_each_progress_once_and_a_failure_of_its_own_as_a_value(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = TrialActor(WorkerOptions())
    (record, _), told = actor.run(jobs[1], [], {})
    assert record.status == "done" and told and len(told) == len(set(told))
    assert actor.stand() == []
    monkeypatch.setattr(trial_actor, "run_trial", lambda *given: 1 / 0)
    failure, _ = actor.run(jobs[1], [], {})
    assert failure.kind == "error" and "ZeroDivisionError" in failure.message
