"""How many processes run a study where that is left open, and which of its trials start first."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from fewtune.analysis.time_left import TimedTrials
from fewtune.engine.language_model import LanguageModel
from fewtune.models import count_parameters, find_model
from fewtune.records import Record
from fewtune.running import worker_count
from fewtune.running.executors import local
from fewtune.running.executors.local import LocalProcesses
from fewtune.running.job import Job, WorkerOptions
from fewtune.running.order import take_longest_first
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial_metadata import describe_axes
from fewtune.running.worker_count import choose_workers, find_free_memory, find_wanted_memory
from fewtune.study import load_study
from fewtune.system import control_group, processor
from fewtune.system.processor import list_gpus, name_processor

GIBIBYTE = 2**30


@pytest.fixture(scope="module")
def jobs(study_file: Path) -> list[Job]:
    return prepare_jobs(load_study(study_file), None)[0]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores, free memory in plenty, no GPU."""
    monkeypatch.setattr(worker_count, "usable_cores", lambda: 4)
    monkeypatch.setattr(worker_count, "find_free_memory", lambda: 64 * GIBIBYTE)
    monkeypatch.setattr(worker_count, "_has_gpu", lambda: False)


def make_records(jobs: Sequence[Job], seconds: dict[str, float], workers: int = 1, cores: int = 4) -> list[Record]:
    """A record of each job, that took so long on this processor."""
    environment = {"processor": name_processor(), "cores": cores, "workers": workers}
    return [
        Record(
            trial_id=job.trial_id,
            trial=describe_axes(job.trial),
            status="done",
            environment=environment,
            phase_seconds={"fit": seconds.get(job.trial.method.variant, 1.0)},
        )
        for job in jobs
    ]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("trials", "workers"), [(8, 4), (3, 3), (1, 1), (0, 1)])
def test_there_is_a_process_a_core_but_none_without_a_trial(jobs: list[Job], trials: int, workers: int) -> None:
    assert len(jobs) == 8
    assert choose_workers(jobs[:trials]) == workers


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("room", "workers"), [(2.5, 2), (1.5, 1), (0.2, 1)])
def test_no_more_than_memory_has_room_for(
    jobs: list[Job], room: float, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_count, "find_free_memory", lambda: int(room * find_wanted_memory(jobs)))
    assert choose_workers(jobs) == workers


@pytest.mark.usefixtures("machine")
def test_a_gpu_is_not_shared(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_count, "_has_gpu", lambda: True)
    assert choose_workers(jobs) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    assert (choose_workers(jobs), choose_workers(jobs[:2])) == (3, 2)


def test_gpus_are_those_that_the_driver_or_the_user_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(processor, "DEVICES", tmp_path)
    assert list_gpus() == []
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert list_gpus() == ["0", "1"]
    for given, expected in (("3, GPU-ab", ["3", "GPU-ab"]), ("", []), ("0,-1,2", ["0"]), ("-1", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
        assert list_gpus() == expected


def test_each_process_sees_the_gpu_that_the_fewest_others_have(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    seen: list[str] = []

    class Process:
        """What a start would see of the environment."""

        def __init__(self, **given: object) -> None:
            self.given = given

        def start(self) -> None:
            seen.append(os.environ["CUDA_VISIBLE_DEVICES"])

    context = SimpleNamespace(Pipe=lambda: (SimpleNamespace(send=print), SimpleNamespace(close=list)), Process=Process)
    taken: list[str | None] = []
    for _ in range(3):
        taken.append(local._start_worker(context, WorkerOptions(workers=3), taken).gpu)
    local._start_worker(context, WorkerOptions(devices_per_trial=2), [])
    assert seen == ["4", "7", "4", "4,7"] and taken == ["4", "7", "4"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,7"


@pytest.mark.usefixtures("machine")
def test_a_folder_goes_on_with_the_number_that_its_records_had(jobs: list[Job]) -> None:
    assert choose_workers(jobs, make_records(jobs[:2], {}, workers=2)) == 2
    assert choose_workers(jobs, make_records(jobs[:2], {}, workers=2, cores=8)) == 4, "those are of another machine"


@pytest.mark.usefixtures("machine")
def test_a_folder_that_a_larger_model_joins_has_no_more_processes_than_memory_has_room_for(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_count, "find_free_memory", lambda: int(1.5 * find_wanted_memory(jobs)))
    assert choose_workers(jobs, make_records(jobs[:2], {}, workers=2)) == 1


def test_memory_is_reckoned_for_a_fit_of_all_weights(jobs: list[Job]) -> None:
    [name] = {name for job in jobs for name in job.weights}
    parameters = count_parameters(find_model(name))
    assert find_wanted_memory(jobs) - find_wanted_memory([]) == 18 * parameters
    assert find_wanted_memory([]) == 2 * GIBIBYTE


def test_a_model_has_as_many_parameters_as_its_files_hold(
    model_folders: dict[str, Path], models: dict[str, LanguageModel]
) -> None:
    for name, folder in model_folders.items():
        held = sum(parameter.numel() for parameter in models[name].frozen.parameters())
        assert count_parameters(find_model(str(folder))) == held, name


def test_a_group_of_processes_may_be_allowed_less_than_the_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_group, "GROUP", tmp_path)
    assert find_free_memory() > 1000
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert find_free_memory() > 1000
    (tmp_path / "memory.max").write_text("4000\n")
    assert find_free_memory() == 1000


@pytest.mark.usefixtures("machine")
def test_the_number_is_settled_once(jobs: list[Job]) -> None:
    asked, told = LocalProcesses(WorkerOptions(3)), LocalProcesses(auto=True)
    for executor in (asked, told):
        executor.settle(jobs, ())
        executor.settle(jobs[:1], ())
    assert asked.options.workers == 3 and told.options.workers == 4


def test_trials_that_take_longest_start_first(jobs: list[Job]) -> None:
    known = make_records(jobs, {"lora": 9.0, "pattern": 5.0, "in_context": 2.0})
    longest = [name for name in ("lora", "pattern", "in_context", "majority") for _ in range(2)]
    none = TimedTrials()
    for timed, forecast in ((TimedTrials(known), none), (none, TimedTrials(known))):
        assert [job.trial.method.variant for job in take_longest_first(jobs, timed, forecast)] == longest


def test_one_trial_of_each_unknown_kind_starts_and_then_those_that_take_longest(jobs: list[Job]) -> None:
    timed, took = TimedTrials(), {"lora": 9.0, "pattern": 5.0, "in_context": 2.0}
    started = []
    for job in take_longest_first(jobs, timed, TimedTrials()):
        started.append(job.trial.method.variant)
        timed.add(make_records([job], took)[0])
    kinds = list(dict.fromkeys(job.trial.method.variant for job in jobs if job.weights))
    assert started == [*kinds, "lora", "pattern", "in_context", "majority", "majority"]
    assert sorted(started) == sorted(job.trial.method.variant for job in jobs)
