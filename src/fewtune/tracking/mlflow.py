"""A study as an MLflow experiment: one run a trial, with parameters, metrics, record and predictions.

Owns what is MLflow's. Source: https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html
"""

from __future__ import annotations

import logging
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fewtune.records import Record, RecordFiles, TrialAxes
from fewtune.tracking.base import TrackedRun, fingerprint_files, list_axes, list_metrics, list_settings, name_run

DEFAULT_URI = "sqlite:///mlflow.db"
TRIAL, RECORD = "fewtune.trial_id", "fewtune.record_sha256"
"""Tags of a run."""
_FAILURE = "fewtune.failure"
_QUIET = {
    # A server that is down is found out soon; a study goes on without it.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
DECISION, _NOTE = "fewtune.decision", "mlflow.note.content"
"""Tags of the experiment; the second is what MLflow shows as its description."""
_LONGEST_VALUE = 500
"""Characters of a parameter that every store takes."""
_BATCH = 100
"""Parameters or metrics that one call brings."""
_ENDS = {"done": "FINISHED", "skipped": "KILLED", "stopped": "KILLED", "failed": "FAILED"}


class MlflowTracker:
    """Tells one study's trials to a tracking server or store."""

    def __init__(self, study: str, uri: str | None = None) -> None:
        """`uri` is a server's or a store's; None: what MLFLOW_TRACKING_URI says, else an SQLite file here."""
        self._study = study
        self._uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
        self._connected: tuple[Any, str] | None = None
        self._last_step: dict[str, int] = {}
        """The step told last, by run."""

    def list_runs(self) -> Mapping[str, TrackedRun]:
        found: dict[str, TrackedRun] = {}
        for run in self._search():
            tags = run.data.tags
            if TRIAL in tags:
                found.setdefault(tags[TRIAL], TrackedRun(run.info.run_id, tags.get(RECORD)))
        return found

    def begin(self, trial_id: str, axes: TrialAxes) -> str:
        client, experiment = self._connect()
        run = client.create_run(experiment, run_name=name_run(axes), tags={TRIAL: trial_id})
        self._tell_parameters(run.info.run_id, list_axes(axes), {})
        return str(run.info.run_id)

    def step(self, run_id: str, step: int, loss: float) -> None:
        client, _ = self._connect()
        if self._last_step.get(run_id) != step:  # an executor repeats where a trial stands, as a sign of life
            client.log_metric(run_id, "loss", loss, step=step)
            self._last_step[run_id] = step

    def end(self, run_id: str, record: Record, files: RecordFiles) -> None:
        from mlflow.entities import Metric, RunTag

        client, _ = self._connect()
        now = time.time_ns() // 10**6
        metrics = [Metric(_clean(name), value, now, 0) for name, value in list_metrics(record).items()]
        tags = [RunTag("fewtune.status", record.status)]
        if record.failure is not None:
            tags.append(RunTag(_FAILURE, record.failure.message[:_LONGEST_VALUE]))
        elif _FAILURE in client.get_run(run_id).data.tags:  # of the attempt before
            client.delete_tag(run_id, _FAILURE)
        told = {point.step: point.value for point in client.get_metric_history(run_id, "loss")}
        for step, loss in enumerate(record.notes.fit.losses, start=1):
            # Those that no step told, as where the server was down, and those of an attempt before that went otherwise.
            if loss is not None and not math.isclose(told.get(step, math.nan), loss, rel_tol=1e-5, abs_tol=1e-5):
                metrics.append(Metric("loss", loss, now, step))
        for first in range(0, len(metrics), _BATCH):
            client.log_batch(run_id, metrics=metrics[first : first + _BATCH])
        client.log_batch(run_id, tags=tags)
        known = client.get_run(run_id).data.params  # which never change
        self._tell_parameters(run_id, list_axes(record.trial) | list_settings(record.trial), known)
        with tempfile.TemporaryDirectory() as scratch:
            for name, content in (("record.json", files.record), ("predictions.parquet", files.predictions)):
                if content is not None:
                    path = Path(scratch) / name
                    path.write_bytes(content)
                    client.log_artifact(run_id, str(path))
        client.set_terminated(run_id, _ENDS[record.status])
        # Last: a run that has it was told everything.
        client.set_tag(run_id, RECORD, fingerprint_files(files))

    def leave(self, run_id: str) -> None:
        client, _ = self._connect()
        client.set_terminated(run_id, "KILLED")

    def conclude(self, decision: str) -> None:
        client, experiment = self._connect()
        for tag in (DECISION, _NOTE):
            client.set_experiment_tag(experiment, tag, decision)

    def _tell_parameters(self, run_id: str, values: Mapping[str, str], known: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        client, _ = self._connect()
        cleaned = {_clean(name): value[:_LONGEST_VALUE] for name, value in values.items()}
        told = [Param(name, value) for name, value in cleaned.items() if name not in known]
        for first in range(0, len(told), _BATCH):
            client.log_batch(run_id, params=told[first : first + _BATCH])

    def _connect(self) -> tuple[Any, str]:
        """The client and the study's experiment, made where it is not there yet."""
        if self._connected is None:
            for name, value in _QUIET.items():
                os.environ.setdefault(name, value)
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException

            for name in ("mlflow", "alembic"):
                logging.getLogger(name).setLevel(logging.ERROR)
            client = MlflowClient(self._uri)
            found = client.get_experiment_by_name(self._study)
            if found is None:
                try:
                    experiment = client.create_experiment(self._study)
                except MlflowException:  # another command made it since
                    found = client.get_experiment_by_name(self._study)
                    if found is None:
                        raise
            self._connected = client, str(experiment if found is None else found.experiment_id)
        return self._connected

    def _search(self) -> Iterator[Any]:
        """Every run of the study, the newest first."""
        client, experiment = self._connect()
        token = None
        while True:
            page = client.search_runs([experiment], order_by=["attributes.start_time DESC"], page_token=token)
            yield from page
            token = page.token
            if not token:
                return


def _clean(name: str) -> str:
    """A name with what MLflow's names may not have replaced."""
    return re.sub(r"[^\w\-. :/]", "_", name)
