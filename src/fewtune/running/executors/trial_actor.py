"""The Ray actor that runs trials one after the other and reports their progress.

Owns what such a process keeps: what it was sent of rows and models, and what its trial told since it was asked last.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from fewtune.models import ModelSnapshot, find_model
from fewtune.models.folder_copy import put_down_model
from fewtune.models.snapshot import lies_in_folder
from fewtune.running.executors.process import describe_failure, set_up_for
from fewtune.running.job import Job, Progress, WorkerOptions
from fewtune.running.trial import run_trial
from fewtune.running.worker import Supplies, WorkerState


class TrialActor:
    """Runs one trial after the other, and tells meanwhile how the one at work stands."""

    def __init__(self, options: WorkerOptions) -> None:
        self._supplies = Supplies()
        self._state: WorkerState | None = None
        self._options = options
        self._lock = threading.Lock()
        self._told: dict[Progress, None] = {}
        """What the trial at work told since it was asked last, in order, each once."""

    def name_version(self) -> str:
        """The fewtune that this node has."""
        return version("fewtune")

    def stand(self) -> list[Progress]:
        """What the trial at work told since it was asked last."""
        with self._lock:
            told, self._told = list(self._told), {}
        return told

    def run(self, job: Job, rows: Sequence[Any], models: Mapping[str, Any]) -> tuple[Any, list[Progress]]:
        """A trial's record and predictions, or the failure of this process to make any, and what it told last.

        `rows` and `models` are references to what was sent along, boxed, so that they are fetched only if they lack.
        """
        self.stand()
        try:
            set_up_for(job)
            if self._state is None:
                self._state = WorkerState(self._options, self._supplies)
            self._take_over(job, rows, models)
            return run_trial(job, self._state, self._hear), self.stand()
        except Exception as error:  # the command makes a record of it
            return describe_failure(error), self.stand()

    def _take_over(self, job: Job, rows: Sequence[Any], models: Mapping[str, Any]) -> None:
        import ray

        if rows and job.rows_key not in self._supplies.tasks:
            self._supplies.tasks[job.rows_key] = ray.get(rows[0])
        for name, files in models.items():
            fingerprint = job.weights[name]
            if fingerprint not in self._supplies.models:
                self._supplies.models[fingerprint] = _find_or_put_down(name, files, fingerprint)

    def _hear(self, progress: Progress) -> None:
        with self._lock:
            self._told[progress] = None


def _find_or_put_down(name: str, files: Any, fingerprint: str) -> ModelSnapshot:
    """A model of the asking machine's folder: that folder itself where this machine has it too."""
    import ray

    found = find_model(name) if lies_in_folder(name) else None
    if found is not None and found.weights_fingerprint == fingerprint:
        return found
    return put_down_model(name, ray.get(files), fingerprint)
