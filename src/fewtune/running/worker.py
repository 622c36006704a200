"""The state of a worker process between trials: the models and tasks that it has read.

Owns finding them, the check that they are those the job was made for, and the engine's options here. Does not know how
a trial runs (`trial`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fewtune.engine.model_cache import ModelCache
from fewtune.engine.options import DEFAULTS, EngineOptions
from fewtune.engine.score_cache import ScoreCache
from fewtune.errors import DataError, ModelError
from fewtune.models import ModelSnapshot, find_model, resolve_precision
from fewtune.records import Cell, SharedRows
from fewtune.running.job import Job, WorkerOptions
from fewtune.running.prepare import load_task
from fewtune.running.trial_metadata import describe_axes
from fewtune.study.grid import Trial
from fewtune.tasks.base import Draw, Task
from fewtune.tasks.draw import Sampling, make_draw
from fewtune.tasks.overlap import find_shared_rows

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel

MOST_OTHERS = 2
"""Models beside that of its trials that a process keeps, such as teachers; more where one trial asks for more."""
MOST_DRAWS = 64
"""Draws that are kept; one holds references to rows alone."""


@dataclass
class Supplies:
    """What a process was given of what jobs name, where it may not find it itself."""

    tasks: dict[str, Task] = field(default_factory=dict)
    """By the `rows_key` of jobs."""
    models: dict[str, ModelSnapshot] = field(default_factory=dict)
    """By the fingerprint of their weights."""


class WorkerState:
    """What one process keeps between trials, and how it is told to run them."""

    def __init__(self, options: WorkerOptions | None = None, supplies: Supplies | None = None) -> None:
        self.options = WorkerOptions() if options is None else options
        self._supplies = Supplies() if supplies is None else supplies
        self._models = ModelCache()
        self._scores = ScoreCache()
        self._found: dict[tuple[str, str], ModelSnapshot] = {}
        self._held: tuple[str, ...] = ()
        self._tasks: dict[str, Task] = {}
        self._draws: dict[tuple[str, Sampling, int], Draw] = {}
        """The latest used last."""
        self._shared_rows: dict[tuple[str, str], list[SharedRows]] = {}
        self._cell: Cell | None = None

    def repeats(self, trial: Trial) -> bool:
        """Whether the trial before this one was of its cell: what that one held, this one will hold."""
        cell = describe_axes(trial).cell
        repeats, self._cell = cell == self._cell, cell
        return repeats

    def model(self, job: Job) -> tuple[LanguageModel | None, float | None]:
        """The trial's model with the others its settings name, ready to use, and the seconds it took to load.

        Raises ModelError where a model is not the one that the job was made for.
        """
        if not job.weights:
            return None, None
        precision = resolve_precision(job.trial.precision)
        snapshots = [self._find(job, name, fingerprint) for name, fingerprint in job.weights.items()]
        self._scores.begin_trial()
        own = snapshots[0].weights_fingerprint
        # A study runs a model's trials together; what the latest of them asked for besides stays with it.
        asked = [snapshot.weights_fingerprint for snapshot in snapshots[1:]]
        before = [each for each in self._held[1:] if each not in asked] if self._held[:1] == (own,) else []
        dropped = max(0, len(before) + len(asked) - MOST_OTHERS) if asked else 0
        self._held = (own, *before[dropped:], *asked)
        self._models.keep_only(self._held)
        loaded = []
        load_seconds = 0.0
        for snapshot in snapshots:
            each = self._models.get(snapshot, precision)
            load_seconds += self._models.load_seconds
            _ = each.frozen  # made before memory is watched: it is shared, and no trial's own cost
            max_tokens = job.trial.max_tokens
            assert max_tokens is not None  # resolved where there is a model
            loaded.append(
                replace(
                    each,
                    name=snapshot.name,
                    max_tokens=max_tokens,
                    options=self._engine_options(),
                    cache=self._scores,
                )
            )
        return replace(loaded[0], others={each.name: each for each in loaded[1:]}), load_seconds

    def _engine_options(self) -> EngineOptions:
        """The engine's options on a machine whose memory all workers share."""
        asked = self.options.cache_share
        share = DEFAULTS.kept_states_share if asked is None else asked
        return EngineOptions(kept_states_share=share / (self.options.workers * self.options.devices_per_trial))

    def _find(self, job: Job, name: str, fingerprint: str) -> ModelSnapshot:
        if (name, fingerprint) not in self._found:
            given = self._supplies.models.get(fingerprint)
            snapshot = find_model(name, job.revisions.get(name)) if given is None else replace(given, name=name)
            if snapshot.weights_fingerprint != fingerprint:
                raise ModelError(
                    f"model {name!r} is another here than when the study was prepared: its weights, tokenizer or "
                    "configuration changed. Run the study again."
                )
            self._found[name, fingerprint] = snapshot
        return self._found[name, fingerprint]

    def task(self, job: Job) -> Task:
        """The trial's task; raises DataError where its rows are not those that the job was made for."""
        key = job.rows_key
        if key not in self._tasks:
            given = self._supplies.tasks.get(key)
            task = load_task(job.trial.task, self.options.data_dir) if given is None else given
            if task.fingerprint != job.data:
                raise DataError(
                    f"task {job.trial.task.label!r}: its rows are others here than when the study was prepared: a "
                    "file of it changed. Run the study again."
                )
            self._tasks[key] = task
        return self._tasks[key]

    def draw(self, job: Job, task: Task, sampling: Sampling) -> Draw:
        """A draw of a task, sampled once for all trials that work on it, as long as there are not too many."""
        key = job.rows_key, sampling, job.trial.data_seed
        draw = self._draws.pop(key, None)
        self._draws[key] = make_draw(task, sampling, job.trial.data_seed) if draw is None else draw
        while len(self._draws) > MOST_DRAWS:
            del self._draws[next(iter(self._draws))]
        return self._draws[key]

    def shared_rows(self, task: Task, draw: Draw) -> list[SharedRows]:
        """What the sets of a task's draw share, looked for once a draw."""
        key = task.fingerprint, draw.fingerprint
        if key not in self._shared_rows:
            self._shared_rows[key] = find_shared_rows(draw)
        return self._shared_rows[key]
