"""Workers are replaced and trials recorded whatever ends them; what cannot be written stops the run, in one message.

Made-up workers stand for the real one: they are given as `_work`, and this module imports little, for each imports it.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import psutil
import pytest

from fewtune.engine import heartbeat
from fewtune.errors import RecordError
from fewtune.records import Failure, FailureKind, Notes, Record, load_events, load_record, record_path
from fewtune.running import record_writer
from fewtune.running import trial as run
from fewtune.running.executors import local
from fewtune.running.executors.in_process import InProcess
from fewtune.running.executors.process import STALL_SECONDS
from fewtune.running.job import Finished, Job, Lost, Progress, Progressed, Started, WorkerOptions
from fewtune.running.record_writer import RecordWriter
from fewtune.running.trial_metadata import describe_axes
from listening import Listener, run_jobs

DONE = {"status": "done", "failure": None}


@pytest.fixture(scope="session")
def jobs(study_file: Path) -> list[Job]:
    """Two trials of the majority, which need no model."""
    from fewtune.running.prepare import prepare_jobs
    from fewtune.study import load_study

    return prepare_jobs(load_study(study_file, ["methods=[majority]"]), None)[0]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Puts a made-up worker in the place of the real one."""
    return lambda work: monkeypatch.setattr(local, "_work", work)


def fail(job: Job, message: str = "none", kind: FailureKind = "error") -> Any:
    """A failed trial's record, without the environment: telling that imports torch, in each made-up worker."""
    failure = Failure(kind=kind, message=message)
    return Record(trial_id=job.trial_id, trial=describe_axes(job.trial), status="failed", failure=failure)


def send_failure(pipe: Connection, job: Job, message: str, kind: FailureKind = "error") -> None:
    pipe.send((fail(job, message, kind), None))


def _die(pipe: Connection, options: WorkerOptions) -> None:
    pipe.recv()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_costs_its_trial_alone_and_no_more_start_than_there_are_trials(
    jobs: list[Job], tmp_path: Path, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Mock(wraps=local._start_worker)
    given(_die)
    monkeypatch.setattr(local, "_start_worker", started)
    listener = Listener()
    run_jobs(jobs, tmp_path, listener, workers=5)
    assert started.call_count == 2
    assert [failure.kind for failure in listener.failures] == ["killed", "killed"]
    assert "SIGKILL" in listener.failures[0].message and "out of memory" in listener.failures[0].message
    assert load_record(record_path(tmp_path, jobs[0].trial_id)).status == "failed"


def _die_by_real_time_signal(pipe: Connection, options: WorkerOptions) -> None:
    pipe.recv()
    os.kill(os.getpid(), 40)


def test_a_worker_ended_by_a_signal_without_a_name_is_recorded(jobs: list[Job], tmp_path: Path, given: Any) -> None:
    given(_die_by_real_time_signal)
    listener = Listener()
    run_jobs(jobs[:1], tmp_path, listener)
    assert [failure.message for failure in listener.failures] == ["the process that ran this trial ended by signal 40."]


def _die_once_done(pipe: Connection, options: WorkerOptions) -> None:
    job = pipe.recv()
    pipe.send((fail(job).model_copy(update=DONE), None))
    os.kill(os.getpid(), signal.SIGKILL)


def test_what_was_done_before_a_worker_died_is_kept_and_the_next_trial_waits_for_another(
    jobs: list[Job], tmp_path: Path, given: Any
) -> None:
    given(_die_once_done)
    listener = Listener()
    run_jobs(jobs, tmp_path, listener)
    assert [record.status for record in listener.records] == ["done", "done"]
    assert all(load_record(record_path(tmp_path, job.trial_id)).status == "done" for job in jobs)


def _import_without_memory(pipe: Connection, options: WorkerOptions) -> None:
    local.set_up_for = Mock(side_effect=MemoryError)
    local._work(pipe, options)


def _record_without_memory(pipe: Connection, options: WorkerOptions) -> None:
    local.set_up_for = Mock()  # seconds of imports that nothing here needs
    local.run_trial = Mock(side_effect=MemoryError)
    local._work(pipe, options)


def _tell_without_memory(pipe: Connection, options: WorkerOptions) -> None:
    local._take_jobs = Mock(side_effect=MemoryError)
    local._work(pipe, options)


@pytest.mark.parametrize(
    ("work", "kind", "told"),
    [
        (_import_without_memory, "out_of_memory", "the process for this trial could not start: MemoryError"),
        (_record_without_memory, "out_of_memory", "MemoryError"),
        (_tell_without_memory, "killed", "out of memory"),
    ],
)
def test_a_worker_that_memory_fails_costs_each_trial_a_message_and_prints_no_traceback(
    jobs: list[Job], tmp_path: Path, given: Any, capfd: pytest.CaptureFixture[str], work: Any, kind: str, told: str
) -> None:
    given(work)
    listener = Listener()
    run_jobs(jobs, tmp_path / "out", listener)
    assert [failure.kind for failure in listener.failures] == [kind] * 2
    assert all(told in failure.message for failure in listener.failures)
    assert "Traceback" not in capfd.readouterr().err


def _tell_pid(pipe: Connection, options: WorkerOptions) -> None:
    while (job := pipe.recv()) is not None:
        send_failure(pipe, job, str(os.getpid()))


def test_a_worker_waits_for_the_next_run_and_ends_when_let_go_of(jobs: list[Job], given: Any) -> None:
    given(_tell_pid)
    executor = local.LocalProcesses()
    ends = [event for _ in range(2) for event in executor.run(jobs) if isinstance(event, Finished)]
    assert len({end.record.failure.message for end in ends if end.record.failure is not None}) == 1
    [child] = multiprocessing.active_children()
    executor.close()
    child.join(30)
    assert child.exitcode == 0


def _run_out_of_memory(pipe: Connection, options: WorkerOptions) -> None:
    while (job := pipe.recv()) is not None:
        send_failure(pipe, job, str(os.getpid()), "out_of_memory")


def _lose_its_gpu(pipe: Connection, options: WorkerOptions) -> None:
    while (job := pipe.recv()) is not None:
        send_failure(pipe, job, f"AcceleratorError: CUDA error: device-side assert triggered {os.getpid()}")


@pytest.mark.parametrize("work", [_run_out_of_memory, _lose_its_gpu])
def test_a_worker_whose_libraries_are_of_no_more_use_runs_no_other_trial(
    jobs: list[Job], tmp_path: Path, given: Any, work: Any
) -> None:
    given(work)
    listener = Listener()
    run_jobs(jobs, tmp_path, listener)
    assert len({failure.message for failure in listener.failures}) == 2, "each in a process of its own"


def test_signals_that_end_the_command_do_not_reach_its_workers(jobs: list[Job], given: Any) -> None:
    given(_tell_pid)
    worker = local._start_worker(multiprocessing.get_context("spawn"), WorkerOptions())
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # while it still imports what it needs
            os.kill(worker.process.pid or 0, number)
        worker.pipe.send(jobs[0])
        assert worker.pipe.recv()[0].status == "failed"
        os.kill(worker.process.pid or 0, signal.SIGTERM)
        worker.pipe.send(jobs[0])
        assert worker.pipe.recv()[0].status == "failed"
    finally:
        local._end(worker)
    assert worker.process.exitcode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a stopped process cannot be ended by its parent's end")
def test_a_worker_that_is_stopped_as_it_starts_ends_with_its_command() -> None:
    """Long before it has imported what it needs: as soon as its second thread watches over the command."""
    code = (
        "import multiprocessing, os, signal, sys, time; from fewtune.running.executors import local; "
        "from fewtune.running.job import WorkerOptions; "
        "worker = local._start_worker(multiprocessing.get_context('spawn'), WorkerOptions()); "
        "import psutil; process = psutil.Process(worker.process.pid); "
        "[time.sleep(0.005) for _ in iter(process.num_threads, 2)]; process.suspend(); "
        "print(process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=False, timeout=120)
    assert command.returncode == -signal.SIGKILL
    stopped, until = int(command.stdout), time.monotonic() + 20
    while (lives := _lives(stopped)) and time.monotonic() < until:
        time.sleep(0.05)
    if lives:
        os.kill(stopped, signal.SIGKILL)
    assert not lives


def _lives(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _hang(pipe: Connection, options: WorkerOptions) -> None:
    pipe.recv()
    pipe.send(Progress("fitting", 3, 10, 0.5))
    while True:  # alive and busy, and getting nowhere
        time.sleep(0.01)


def test_a_worker_without_progress_is_ended_and_its_trial_recorded(jobs: list[Job], tmp_path: Path, given: Any) -> None:
    given(_hang)
    listener = Listener()
    began = time.monotonic()
    run_jobs(jobs[:1], tmp_path, listener, stall_after=6.0)
    assert time.monotonic() - began < 60
    [failure] = listener.failures
    assert failure.kind == "killed"
    assert "no progress for" in failure.message and "fitting at step 3 of 10" in failure.message
    assert "--stall-after" in failure.message
    assert load_record(record_path(tmp_path, jobs[0].trial_id)).failure == failure


def test_a_command_that_was_itself_stopped_holds_no_worker_for_silent(
    jobs: list[Job], given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after Ctrl-Z or a laptop's sleep: one wait of a second takes two hours, and none of the workers could tell."""
    given(_tell_pid)
    asleep = 0.0

    def sleep_once(pipes: list[Connection], timeout: float) -> list[Any]:
        nonlocal asleep
        if asleep:
            return wait(pipes, timeout)
        asleep = 2 * STALL_SECONDS
        return []

    monkeypatch.setattr(local, "wait", sleep_once)
    monkeypatch.setattr(local, "time", Mock(monotonic=lambda: time.monotonic() + asleep))
    executor = local.LocalProcesses()
    events = list(executor.run(jobs[:1]))
    executor.close()
    assert asleep and [type(event) for event in events] == [Started, Finished]


def test_a_long_trial_that_tells_of_progress_is_left_alone(jobs: list[Job]) -> None:
    hour_ago, process, pipe = time.monotonic() - 3600, Mock(), Mock()
    worker = local._Worker(process, pipe, jobs[0], heard=hour_ago)
    pipe.recv.return_value, pipe.poll.return_value = Progress("scoring"), False
    assert local._listen(worker, [], WorkerOptions()) == (Progressed(jobs[0], Progress("scoring")), True)
    assert local._check_stall(worker, stall_after=60.0) == (None, True)
    process.kill.assert_not_called()
    worker.heard = hour_ago
    lost, stays = local._check_stall(worker, stall_after=60.0)
    assert isinstance(lost, Lost) and not stays
    process.kill.assert_called_once()
    idle = local._Worker(process, pipe, heard=hour_ago)
    assert local._check_stall(idle, stall_after=60.0) == (None, True), "without a trial there is nothing to tell"


def test_a_worker_that_spoke_while_the_command_stood_still_is_not_stalled(jobs: list[Job]) -> None:
    process, (pipe, far) = Mock(), multiprocessing.Pipe()
    worker = local._Worker(process, pipe, job=jobs[0], heard=time.monotonic() - 100.0)
    far.send(Progress("fitting"))
    assert local._check_stall(worker, stall_after=60.0) == (None, True)
    event, stays = local._listen(worker, [], WorkerOptions())
    assert isinstance(event, Progressed) and stays
    assert local._check_stall(worker, stall_after=60.0) == (None, True), "and it was heard now"
    process.kill.assert_not_called()


def test_a_phase_without_steps_tells_of_progress_while_networks_run(
    study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewtune.running.prepare import prepare_jobs
    from fewtune.study import load_study

    monkeypatch.setattr(heartbeat, "SECONDS_APART", 0.0)
    [job] = prepare_jobs(load_study(study_file, ["methods=[in_context]", "data_seeds=[0]"]), None)[0]
    told: list[Progress] = []
    record, _ = run.run_trial(job, run.WorkerState(), told.append)
    assert record.status == "done"
    phases = [progress.phase for progress in told]
    assert phases.count("scoring in_domain") > 2, "once as it begins, and at every layer"
    told.clear()
    heartbeat.beat()
    assert not told, "a trial that has ended hears no more"


def test_a_record_that_cannot_be_encoded_costs_its_trial_and_says_why(jobs: list[Job], tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path, WorkerOptions())
    record = fail(jobs[0]).model_copy(update=DONE)
    for broken, words in (
        ({"labels": ["good", "\ud83d"]}, "surrogates"),
        ({"notes": Notes(other={"loss": object()})}, "serialize"),
    ):
        finished = writer.write(Finished(jobs[0], record.model_copy(update=broken), None))
        assert isinstance(finished, Finished)
        failure = finished.record.failure
        assert finished.record.status == "failed" and failure is not None and failure.kind == "error"
        assert failure.message.startswith("what came of this trial cannot be written as a record")
        assert words in failure.message
        assert load_record(record_path(tmp_path, jobs[0].trial_id)) == finished.record


def test_a_study_whose_names_cannot_be_written_still_gets_its_records(jobs: list[Job], tmp_path: Path) -> None:
    trial = jobs[0].trial
    odd = replace(jobs[0], trial=replace(trial, task=trial.task.model_copy(update={"label": "half \udc00"})))
    RecordWriter(tmp_path, WorkerOptions()).write(Finished(odd, fail(odd), None))
    assert load_record(record_path(tmp_path, odd.trial_id)).trial.task == "half ?"


def _tell_of_an_end(pipe: Connection, options: WorkerOptions) -> None:
    while (job := pipe.recv()) is not None:
        send_failure(pipe, job, "done with")


@pytest.mark.parametrize("failing", ["write_files", "append_event"])
def test_a_full_disk_stops_the_run_with_one_message_that_names_the_file(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def refuse(out: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(out / "that.json"))

    monkeypatch.setattr(record_writer, failing, refuse)
    with pytest.raises(RecordError) as told:
        run_jobs(jobs, tmp_path, Listener(), executor=InProcess())
    assert f"{tmp_path / 'that.json'}: No space left on device" in str(told.value)
    assert f"Finished trials are kept in {tmp_path}" in str(told.value)


def test_a_folder_that_is_deleted_while_its_study_runs_is_not_made_again(jobs: list[Job], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RecordError, match="was deleted, moved or replaced while its study ran"):
        run_jobs(jobs, out, Listener(on_finished=lambda: shutil.rmtree(out)), executor=InProcess())
    assert not out.exists()


def test_events_tell_of_an_interruption_and_the_workers_end(jobs: list[Job], tmp_path: Path, given: Any) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    given(_tell_of_an_end)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, tmp_path, Listener(on_finished=interrupt))
    assert [event["event"] for event in load_events(tmp_path)] == ["started", "finished", "interrupted"]
