"""Writes what executors report: records, predictions and events of a study's folder.

Owns the order of writing, and what is recorded where a trial was lost or its record cannot be written.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fewtune.errors import RecordError
from fewtune.records import Failure, Record, RecordFiles, append_event, encode_record, write_files
from fewtune.running.job import Event, Finished, Lost, Started, WorkerOptions
from fewtune.running.output_folder import Presence
from fewtune.running.trial_metadata import failed_record
from fewtune.system.failure_kinds import find_failure_kind
from fewtune.system.signals import as_interrupted


class RecordWriter:
    """The one writer of a folder that is held while its study runs; `options` are those its trials run under."""

    def __init__(self, out: Path, options: WorkerOptions) -> None:
        self._out = out
        self._options = options
        self._presence = Presence(out)

    def write(self, event: Event) -> Event:
        """Write down what an event says, and return it; a lost job as finished, with the record of its failure.

        Raises RecordError where records cannot be written: the folder is gone, or the disk full.
        """
        self._presence.check()
        if isinstance(event, Started):
            self.tell("started", trial_id=event.job.trial_id)
        elif isinstance(event, Lost):
            failure = Failure(kind="killed", message=event.reason)
            return self.write(Finished(event.job, failed_record(event.job, failure, None, self._options), None))
        elif isinstance(event, Finished):
            event, files = self.encode(event)
            with self._writing():
                write_files(self._out, files)
            self.tell("finished", trial_id=event.job.trial_id, status=event.record.status)
        return event

    def tell(self, event: str, **values: Any) -> None:
        """Add a line to the study's events."""
        with self._writing():
            append_event(self._out, event, **values)

    def encode(self, finished: Finished) -> tuple[Finished, RecordFiles]:
        """A trial's end and its files; where its record cannot be written, a failed one says why."""
        job, record = finished.job, finished.record
        try:
            with as_interrupted():
                return finished, encode_record(record, finished.predictions)
        except Exception as error:  # whatever a method noted: it costs this trial, not the study
            why = f"what came of this trial cannot be written as a record: {type(error).__name__}: {error}"
            kind, trace = find_failure_kind(error), traceback.format_exc()
            failure = Failure(kind=kind, message=" ".join(why.split()), trace=trace)
            failed = failed_record(job, failure, record.started_at, self._options)
            # Names of the study may be what cannot be written.
            failed = Record.model_validate(_replace_surrogates(failed.model_dump()))
            return Finished(job, failed, None), encode_record(failed)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        self._presence.check()
        try:
            yield
        except OSError as error:
            self._presence.check()
            raise RecordError(
                f"{error.filename}: {error.strerror}. The run stops, for its records cannot be written. Finished "
                f"trials are kept in {self._out}: mend this, and the same command goes on from there."
            ) from error


def _replace_surrogates(value: Any) -> Any:
    """A value with a question mark for every half of a character, which no file in UTF-8 can hold."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, Mapping):
        return {_replace_surrogates(key): _replace_surrogates(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_surrogates(each) for each in value]
    return value
