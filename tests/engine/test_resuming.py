"""A fit that a kill cut short ends with the weights of one that nothing disturbed, wherever it was cut."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewtune.engine.language_model import LanguageModel
from fewtune.engine.options import EngineOptions
from fewtune.engine.resuming import FitState, Resumption
from fewtune.methods import get_method
from fewtune.methods.plan import Plan
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.running.job import Progress, WorkerOptions
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial import run_trial
from fewtune.running.worker import WorkerState
from fewtune.study import load_study
from fewtune.tasks.base import Draw, Task

CASES: dict[str, dict[str, Any]] = {
    "pattern": {"epochs": 3, "batch_size": 4},
    "lora": {"epochs": 3, "batch_size": 4, "dropout": 0.3},
    "vanilla": {"epochs": 3, "batch_size": 4, "validation_fraction": 0.25},
    "adaptive": {"epochs": 3, "batch_size": 4, "schedule": "plateau", "blocks": 2, "unfreeze_every": 1},
    "soft_prompt": {"epochs": 3, "batch_size": 4},
}


class KillError(Exception):
    """Stands for the end of the process."""


def fit_until(
    name: str, settings: dict[str, Any], model: LanguageModel, task: Task, draw: Draw, path: Path, cut: int | None
) -> tuple[Plan, list[float], Resumption]:
    """Fit a method anew, going on from the file, until after so many steps."""
    method, rng = get_method(name), np.random.default_rng(3)
    resolved = method.resolve(method.settings(**settings), task, len(draw.support), len(draw.pool))
    plan = make_plan(method, resolved, model, task, draw, rng)
    resumption = Resumption(path, every_seconds=0.0)

    def on_step(step: int, steps: int, loss: float) -> None:
        if step == cut:
            raise KillError

    plan, report = fit_plan(plan, rng, on_step, resumption=resumption)
    assert report is not None
    return plan, report.losses, resumption


@pytest.mark.parametrize("cut", [2, 4, 5])
@pytest.mark.parametrize("name", CASES)
def test_a_fit_goes_on_to_the_same_weights(
    name: str, cut: int, models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path
) -> None:
    """Six steps of three epochs, cut within an epoch and at its end."""
    given = (name, CASES[name], models["llama"], task, draw)
    whole, losses, _ = fit_until(*given, tmp_path / "none" / "whole.safetensors", None)
    with pytest.raises(KillError):
        fit_until(*given, tmp_path / "fit.safetensors", cut)
    with pytest.raises(KillError):
        fit_until(*given, tmp_path / "fit.safetensors", cut + 1)
    # What more or fewer workers have room for to keep is no other fit.
    given = (*given[:2], replace(models["llama"], options=EngineOptions(kept_states_share=0.01)), *given[3:])
    found, again, resumption = fit_until(*given, tmp_path / "fit.safetensors", None)
    assert resumption.resumed_at == [cut - 1, cut], "a process is killed after its step, and before that is kept"
    assert again == losses and len(losses) == 6
    assert resumption.seconds > 0 and resumption.tokens > 0
    for mine, theirs in zip(parameters_of(found), parameters_of(whole), strict=True):
        assert torch.equal(mine, theirs)


def parameters_of(plan: Plan) -> list[torch.Tensor]:
    assert plan.fitting is not None
    return [p for group in plan.fitting.groups for p in group.parameters]


def test_what_another_fit_left_or_what_cannot_be_read_is_no_beginning(tmp_path: Path) -> None:
    path, state = tmp_path / "fit.safetensors", FitState({"weight": torch.ones(2)}, {"losses": [1.0]})
    Resumption(path).write("mine", 1, state)
    assert Resumption(path).load("another") is None
    read = Resumption(path).load("mine")
    assert read is not None and read.values == {"losses": [1.0]} and torch.equal(read.tensors["weight"], torch.ones(2))
    content = path.read_bytes()
    for damaged in (b"", content[:20], content[:-1], b"\x80\x04\x95" + content):
        path.write_bytes(damaged)
        assert Resumption(path).load("mine") is None
    assert Resumption(tmp_path / "missing").load("mine") is None


def test_a_disk_without_room_keeps_nothing_and_the_fit_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    Resumption(tmp_path / "file" / "fit.safetensors").write("mine", 1, FitState({"weight": torch.ones(2)}, {}))
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_trial_that_was_killed_goes_on_and_costs_what_both_processes_took(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEWTUNE_CACHE", str(tmp_path / "cache"))
    asked = ["methods=[lora: {epochs: 30, dropout: 0.2}]", "data_seeds=[0]"]
    [job] = prepare_jobs(load_study(study_file, asked), None)[0]
    options = WorkerOptions(checkpoint_seconds=1e-9)
    whole, answers = run_trial(job, WorkerState(WorkerOptions()))
    kept = tmp_path / "cache" / "checkpoints"

    def kill(progress: Progress) -> None:
        if progress.phase == "fitting" and any(kept.glob("*")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(job, WorkerState(options), kill)
    assert [path.stem for path in kept.iterdir()] == [job.trial_id]
    record, found = run_trial(job, WorkerState(options))
    assert record.metrics == whole.metrics and record.notes.fit.losses == whole.notes.fit.losses
    assert found is not None and answers is not None and found.equals(answers)
    assert len(record.notes.fit.resumed_at) == 1
    assert record.cost is not None and whole.cost is not None
    assert record.cost.fit_tokens == whole.cost.fit_tokens, "steps that were lost with the process are not counted"
    assert sum(record.phase_seconds.values()) > (record.cost.fit_seconds or 0)
    assert not any(kept.iterdir()), "a trial that ended leaves nothing"
