"""Batches rows of many requests: one thread runs the model while rows that arrive wait for the next batch.

Owns the queue, the window and the thread. A batch begins with the row that waited longest and is scored once the window
since that row came is over, or the batch is full; while the model is busy the next one gathers. Does not know HTTP.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from fewtune.plurals import choose_verb, pluralise
from fewtune.predictors.predictor import Predictor
from fewtune.serving.limits import RequestLimits

LONGEST_WAIT = 60
"""Seconds that a refused client is told to wait at most."""

Row = Mapping[str, str]
"""A row's texts by column."""


@dataclass(frozen=True)
class Answers:
    """What came of a request's rows: probabilities (rows, labels), and the tokens that a language model read."""

    probabilities: np.ndarray
    tokens: int


@dataclass(frozen=True)
class Batch:
    """One call of the model that gave answers: its rows and seconds."""

    rows: int
    seconds: float


class QueueFullError(Exception):
    """So many rows wait that no more are taken; `seconds` is about how long they will take."""

    def __init__(self, waiting: int, seconds: int) -> None:
        self.seconds = seconds
        wait = choose_verb(waiting, "waits", "wait")
        super().__init__(f"{pluralise(waiting, 'row')} {wait} for the model already: ask again in about {seconds} s.")


class StoppedError(Exception):
    """The model's thread ended while a request's rows were in its hands."""


@dataclass(eq=False)
class _Job:
    """A request's rows; `taken` of them are in a batch or answered."""

    rows: Sequence[Row]
    counted: bool
    future: Future[Answers]
    arrived: float
    taken: int = 0
    tokens: int = 0
    answered: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """Rows of one job that are in a batch."""

    job: _Job
    rows: Sequence[Row]


class Batcher:
    """Scores rows on a thread of its own; `heard` is told of each call of the model, on that thread."""

    def __init__(self, predictor: Predictor, limits: RequestLimits, heard: Callable[[Batch], None]) -> None:
        self._predictor = predictor
        self._limits = limits
        self._heard = heard
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._seconds_a_row = 0.0
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the batch that it scores; rows that wait are given up."""
        with self._changed:
            self._stopping = True
            for job in self._jobs:
                job.future.cancel()
            self._changed.notify()
        self._thread.join()

    def is_running(self) -> bool:
        """Whether rows are scored."""
        return self._thread.is_alive()

    def count_waiting(self) -> int:
        """Rows that no batch has yet."""
        return self._waiting

    def submit(self, rows: Sequence[Row], counted: bool = False) -> Future[Answers]:
        """Have rows scored; with `counted`, their tokens counted too. Raises QueueFullError where too many wait."""
        job = _Job(rows, counted, Future(), time.monotonic())
        with self._changed:
            if self._stopping:
                job.future.cancel()
                return job.future
            if self._waiting and self._waiting + len(rows) > self._limits.waiting_rows:
                raise QueueFullError(self._waiting, self._guess_wait())
            self._jobs.append(job)
            self._waiting += len(rows)
            self._changed.notify()
        return job.future

    def _guess_wait(self) -> int:
        return min(LONGEST_WAIT, max(1, math.ceil(self._waiting * self._seconds_a_row)))

    def _run(self) -> None:
        parts: list[_Part] = []
        try:
            while parts := self._take():
                began = time.perf_counter()
                self._answer(parts)
                self._seconds_a_row = (time.perf_counter() - began) / sum(len(part.rows) for part in parts)
        finally:  # however it ends, nobody is left waiting
            with self._changed:
                self._stopping = True
                for job in [*self._jobs, *(part.job for part in parts)]:
                    if not job.future.cancel() and not job.future.done():  # it is in the batch that was not answered
                        job.future.set_exception(StoppedError())

    def _take(self) -> list[_Part]:
        """The next batch, once it is due; nothing where the server stops."""
        with self._changed:
            while not self._stopping:
                if not self._jobs:
                    self._changed.wait()
                    continue
                left = self._jobs[0].arrived + self._limits.window_seconds - time.monotonic()
                if left > 0 and self._waiting < self._limits.batch_rows:
                    self._changed.wait(left)
                    continue
                if parts := self._fill():
                    return parts
            return []

    def _fill(self) -> list[_Part]:
        parts: list[_Part] = []
        room = self._limits.batch_rows
        while self._jobs and room:
            job = self._jobs[0]
            if job.taken == 0 and not job.future.set_running_or_notify_cancel():
                self._waiting -= len(job.rows)  # whoever asked has gone
                self._jobs.popleft()
                continue
            rows = job.rows[job.taken : job.taken + room]
            job.taken += len(rows)
            room -= len(rows)
            self._waiting -= len(rows)
            parts.append(_Part(job, rows))
            if job.taken == len(job.rows):
                self._jobs.popleft()
        return parts

    def _answer(self, parts: Sequence[_Part]) -> None:
        began = time.perf_counter()
        try:
            probabilities = self._predictor.predict_probabilities([row for part in parts for row in part.rows])
            tokens = [sum(self._predictor.count_tokens(part.rows)) if part.job.counted else 0 for part in parts]
        except BaseException as error:  # a tokenizer's panic is no Exception
            if len(parts) == 1:
                self._fail(parts[0].job, error)
            else:  # one request's rows are to fail no other's
                for part in parts:
                    self._answer([part])
            return
        self._heard(Batch(len(probabilities), time.perf_counter() - began))
        ends = np.cumsum([len(part.rows) for part in parts])
        for part, count, own in zip(parts, tokens, np.split(probabilities, ends[:-1]), strict=True):
            self._keep(part.job, own, count)

    def _keep(self, job: _Job, probabilities: np.ndarray, tokens: int) -> None:
        job.answered.append(probabilities)
        job.tokens += tokens
        if sum(map(len, job.answered)) == len(job.rows):
            job.future.set_result(Answers(np.concatenate(job.answered), job.tokens))

    def _fail(self, job: _Job, error: BaseException) -> None:
        with self._changed:
            if job.taken < len(job.rows):  # it stands first: the rest of it is not scored
                self._jobs.remove(job)
                self._waiting -= len(job.rows) - job.taken
                job.taken = len(job.rows)
        if not isinstance(error, Exception):  # which nothing that answers requests would catch
            told = RuntimeError(f"{type(error).__name__}: {error}")
            told.__cause__ = error
            error = told
        job.future.set_exception(error)
