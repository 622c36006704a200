"""Loads a trial's inputs in the process that runs it: its task, its draw and its model.

Owns how they come together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fewtune.running.job import Job
from fewtune.running.trial_metadata import count_threads
from fewtune.running.worker import WorkerState
from fewtune.study.grid import Trial, uses_fit_seed
from fewtune.tasks.base import Draw, Task
from fewtune.tasks.draw import Sampling

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel
    from fewtune.engine.meter import Meter


@dataclass(frozen=True)
class Loaded:
    """What a trial works on."""

    task: Task
    draw: Draw
    model: LanguageModel | None
    load_seconds: float | None
    frozen_bytes: int = 0
    """What its frozen networks held when memory began to be watched."""


def load_trial(job: Job, state: WorkerState, meter: Meter) -> Loaded:
    """The trial's task, draw and model; from here on the meter watches memory."""
    import torch

    from fewtune.engine.pages import give_back_kept_pages

    trial = job.trial
    if not state.repeats(trial):
        give_back_kept_pages()
    torch.set_num_threads(count_threads(state.options))
    with meter.phase("load"):
        task = state.task(job)
        model, load_seconds = state.model(job)
        sampling = Sampling(
            trial.shots,
            balanced=trial.sampling == "balanced",
            stratified=trial.sampling == "stratified",
            pool_rows=trial.pool_rows,
            in_domain_rows=trial.evaluation.in_domain_limit,
            out_of_domain_rows=trial.evaluation.out_of_domain_rows,
        )
        draw = state.draw(job, task, sampling)
    models = [model, *model.others.values()] if model is not None else []
    meter.watch(model.device if model is not None else torch.device("cpu"), [each.tokenizer for each in models])
    return Loaded(task, draw, model, load_seconds, 0 if model is None else model.count_frozen_bytes())


def name_axes(trial: Trial, task: Task) -> tuple[str | int, ...]:
    """The axes that decide a trial's randomness, tuning's folds among it.

    A method in which nothing is random has 0 for its fit seed, which its id does not hold.
    """
    return (task.name, trial.shots, trial.data_seed, trial.fit_seed if uses_fit_seed(trial.method) else 0)
