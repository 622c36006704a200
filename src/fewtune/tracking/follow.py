"""Reports a running study to a tracker from its own thread, so that a slow tracker does not delay the study.

Owns the queue between the two, and what is done when the tracker fails: nothing more is told for a while, and what it
missed is told at the end, as far as a little time allows.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fewtune.records import Record, encode_record, list_written, load_predictions
from fewtune.running.job import Finished, Job, Progressed, Started
from fewtune.running.run_study import Preparing, StudyEvent
from fewtune.running.trial_metadata import describe_axes
from fewtune.tracking.base import Tracker
from fewtune.tracking.fill import fill_tracker

MOST_WAITING = 10_000
"""Events that may wait to be told; further ones are told at the end."""
PAUSE_SECONDS = 30.0
"""Seconds without a word after the tracker failed."""
CLOSING_SECONDS = 20.0
"""Seconds that a study waits for the tracker when it has ended."""


class Follower:
    """Hears a study's events and passes them on; use as a context."""

    def __init__(
        self, make_tracker: Callable[[str], Tracker], tell: Callable[[str], None], format_answer: Callable[[Path], str]
    ) -> None:
        """`make_tracker` gives a study's tracker by its name; `tell` gets a line where it fails, and at the end.

        `format_answer` says what the study in a folder decides.
        """
        self._make_tracker = make_tracker
        self._tell = tell
        self._format_answer = format_answer
        self._events: queue.Queue[StudyEvent | None] = queue.Queue(MOST_WAITING)
        self._thread = threading.Thread(target=self._pass_on, name="tracking", daemon=True)
        self._folder: Path | None = None
        self._tracker: Tracker | None = None
        self._runs: dict[str, str] = {}
        """Ids of runs, by trial id."""
        self._begun: set[str] = set()
        """Trials that began here."""
        self._knows_runs = False
        self._silent_until = 0.0
        self._closing = threading.Event()
        self._left: str | None = "nothing was told"
        """Why not everything was told; None where it was."""

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._closing.set()
        self._put(None)
        self._thread.join(CLOSING_SECONDS)
        if self._folder is not None and (self._thread.is_alive() or self._left is not None):
            why = "it takes long" if self._thread.is_alive() else self._left
            self._tell(f"The tracker was not told all trials ({why}): `fewtune track` tells it the rest.")

    def hear(self, event: StudyEvent) -> None:
        """Take an event to be told; never waits."""
        if isinstance(event, Preparing | Started | Progressed | Finished):
            self._put(event)

    def _put(self, event: StudyEvent | None) -> None:
        try:
            self._events.put_nowait(event)
        except queue.Full:  # records are read from the folder at the end; steps that were not told are lost
            return

    def _pass_on(self) -> None:
        while not self._closing.is_set() or not self._events.empty():
            try:
                event = self._events.get(timeout=1.0)
            except queue.Empty:
                continue
            if event is None or self._closing.is_set():
                break
            try:
                if time.monotonic() >= self._silent_until:
                    self._pass(event)
            except Exception as error:  # whatever a tracker raises: the study goes on without it
                if not self._silent_until:
                    self._tell(f"The tracker cannot be told ({_word(error)}). The study goes on; it is told later.")
                self._silent_until = time.monotonic() + PAUSE_SECONDS
                self._knows_runs = False
        self._finish()

    def _pass(self, event: StudyEvent) -> None:
        if isinstance(event, Preparing):
            self._folder = event.folder
            self._tracker = self._make_tracker(event.study.name)
        if self._tracker is None or self._folder is None:
            return
        if not self._knows_runs:
            # Runs that a command began go on, those too that ended otherwise: a failed trial is tried again.
            self._runs = {trial_id: run.run_id for trial_id, run in self._tracker.list_runs().items()}
            self._knows_runs = True
        if isinstance(event, Started):
            self._begun.add(event.job.trial_id)
            self._begin(self._tracker, event.job)
        elif isinstance(event, Progressed) and event.progress.loss is not None:
            run_id = self._runs.get(event.job.trial_id)
            if run_id is not None:
                self._tracker.step(run_id, event.progress.step, event.progress.loss)
        elif isinstance(event, Finished):
            self._end(self._tracker, self._folder, event.record, event.job)

    def _begin(self, tracker: Tracker, job: Job) -> str:
        if job.trial_id not in self._runs:
            self._runs[job.trial_id] = tracker.begin(job.trial_id, describe_axes(job.trial))
        return self._runs[job.trial_id]

    def _end(self, tracker: Tracker, folder: Path, record: Record, job: Job) -> None:
        # As the folder has it: what is told at the end is compared with that.
        predictions = load_predictions(folder, job.trial_id) if record.status == "done" else None
        tracker.end(self._begin(tracker, job), record, encode_record(record, predictions))

    def _finish(self) -> None:
        """Tell what was missed."""
        if self._folder is None or self._tracker is None:
            return
        deadline = time.monotonic() + CLOSING_SECONDS
        try:
            fill_tracker(self._folder, self._tracker, lambda: time.monotonic() < deadline)
            self._left = None if time.monotonic() < deadline else "it takes long"
            if self._left is None:
                self._tracker.conclude(self._format_answer(self._folder))
        except Exception as error:  # likewise
            self._left = _word(error)
        try:
            for trial_id in self._begun - set(list_written(self._folder)):
                if trial_id in self._runs and time.monotonic() < deadline:  # a budget or Ctrl-C ended it
                    self._tracker.leave(self._runs[trial_id])
        except Exception as error:  # likewise
            self._left = _word(error)


def _word(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
