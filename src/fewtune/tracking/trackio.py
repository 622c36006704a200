"""A study as a Trackio project: one run a trial, with configuration, metrics, record and predictions.

Owns what is Trackio's. It keeps runs in a folder of this machine; `trackio show` shows them, `trackio sync` brings them
to a Space. Source: https://huggingface.co/docs/trackio
"""

from __future__ import annotations

import contextvars
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewtune.errors import FewtuneError
from fewtune.records import Record, RecordFiles, TrialAxes
from fewtune.tracking.base import TrackedRun, fingerprint_files, list_axes, list_metrics, list_settings, name_run

TRIAL, RECORD = "fewtune.trial_id", "fewtune.record_sha256"
"""Names in a run's configuration."""
ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")
"""What in the environment sends runs away from this machine."""


DECISION = "decision"
"""The name of the run that says what the study decides, and of the entry that does."""


class TrackioTracker:
    """Tells one study's trials to a folder of Trackio's.

    A run is written as its trial goes, for whoever looks on, and anew when the trial has ended: then it is whole,
    whatever of it was told before. Runs are named by what their trial is, and its id.
    """

    def __init__(self, study: str, folder: str | None = None) -> None:
        """None: what TRACKIO_DIR says, else Trackio's own. Raises FewtuneError where runs would not lie in a folder."""
        if set_there := [name for name in ELSEWHERE if os.environ.get(name)]:
            raise FewtuneError(
                f"{set_there[0]} sends what Trackio is told away from this machine: unset it. `trackio sync` brings a "
                "project to a Space."
            )
        if folder is not None and "://" in folder:
            raise FewtuneError(
                f"Trackio's runs lie in a folder, and {folder} is none. Give a folder; `trackio sync` brings it to a "
                "Space."
            )
        self._study = study
        self._folder = folder
        self._runs: dict[str, Any] = {}
        """Runs that are open, by name."""

    def list_runs(self) -> Mapping[str, TrackedRun]:
        found: dict[str, TrackedRun] = {}
        for run in self._list():
            config = run.config or {}
            if TRIAL in config:
                found[config[TRIAL]] = TrackedRun(run.name, config.get(RECORD))
        return found

    def begin(self, trial_id: str, axes: TrialAxes) -> str:
        name = f"{name_run(axes)} · {trial_id}"
        self._runs[name] = self._open(name, {TRIAL: trial_id, **list_axes(axes)})
        return name

    def step(self, run_id: str, step: int, loss: float) -> None:
        if run_id in self._runs:  # one that another command began is written when its trial ends
            self._runs[run_id].log({"loss": loss}, step=step)

    def end(self, run_id: str, record: Record, files: RecordFiles) -> None:
        if run_id in self._runs:
            begun = self._runs.pop(run_id)
            begun.finish()
            self._find(run_id, begun.id).delete()
        else:
            for earlier in [run for run in self._list() if run.name == run_id]:
                earlier.delete()
        told = {TRIAL: record.trial_id, "fewtune.status": record.status}
        if record.failure is not None:
            told["fewtune.failure"] = record.failure.message
        told |= list_axes(record.trial) | list_settings(record.trial)
        run = self._open(run_id, told)
        losses = record.notes.fit.losses
        for step, loss in enumerate(losses, start=1):
            if loss is not None:
                run.log({"loss": loss}, step=step)
        self._keep_files(run, record.trial_id, files)
        run.finish()
        # Last, and together: a run whose configuration has this was told everything.
        told[RECORD] = fingerprint_files(files)
        run = self._open(run_id, told, run.id)
        run.log(list_metrics(record), step=len(losses) + 1)
        run.finish()
        if (self._find(run_id, run.id).config or {}).get(RECORD) != told[RECORD]:
            raise OSError("what it was told is not in its folder")  # it warns, and raises nothing

    def leave(self, run_id: str) -> None:
        if run_id in self._runs:
            self._runs.pop(run_id).finish()

    def conclude(self, decision: str) -> None:
        # A project has no words of its own: they stand in a run that is no trial's, once.
        told = [run.config[DECISION] for run in self._list() if DECISION in (run.config or {})]
        if decision not in told:
            run = self._open(f"{DECISION} {len(told) + 1}", {DECISION: decision})
            run.log({"told": len(told) + 1})  # a run without a figure is none
            run.finish()

    def _keep_files(self, run: Any, trial_id: str, files: RecordFiles) -> None:
        from trackio import Artifact

        with tempfile.TemporaryDirectory() as scratch:
            kept = Artifact(name=trial_id, type="trial")
            for name, content in (("record.json", files.record), ("predictions.parquet", files.predictions)):
                if content is not None:
                    path = Path(scratch) / name
                    path.write_bytes(content)
                    kept.add_file(path)
            run.log_artifact(kept)

    def _open(self, name: str, config: Mapping[str, str], run_id: str | None = None) -> Any:
        """Open a new run, or one that there is."""
        trackio = self._import()
        # In a context of its own: another run that is open in this one would be ended.
        start = contextvars.Context().run
        return start(
            trackio.init,
            self._study,
            name=name,
            config=dict(config),
            resume="never" if run_id is None else "allow",
            auto_log_gpu=False,
            auto_log_cpu=False,
            embed=False,
        )

    def _find(self, name: str, run_id: str) -> Any:
        from trackio.api import Run

        return Run(self._study, name, run_id)

    def _list(self) -> list[Any]:
        trackio = self._import()
        try:
            return list(trackio.Api().runs(self._study))
        except ValueError:  # no such project yet
            return []

    def _import(self) -> Any:
        folder = None if self._folder is None else Path(self._folder).resolve()
        if folder is not None:
            os.environ["TRACKIO_DIR"] = str(folder)  # read when it is imported
        import trackio
        import trackio.run
        import trackio.utils

        for module in (trackio, trackio.run, trackio.utils):
            # It prints of every run, in the midst of the study's own lines, and has no word for being quiet.
            vars(module)["print"] = _say_nothing
        if folder is not None and trackio.utils.TRACKIO_DIR.resolve() != folder:
            raise FewtuneError(f"Trackio already keeps this process's runs in {trackio.utils.TRACKIO_DIR}.")
        return trackio


def _say_nothing(*words: object, **more: object) -> None:
    return None
