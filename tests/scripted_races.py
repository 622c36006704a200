"""Executors whose trials have the accuracies and seconds that a test tells, and a small study for them to run."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from fewtune.api import run_study
from fewtune.records import Failure, Record
from fewtune.report.results import StudyResult
from fewtune.running.job import Event, Finished, Job, Started, WorkerOptions
from fewtune.running.run_study import Looked, StudyEvent
from fewtune.running.trial_metadata import describe_axes, failed_record
from study_maker import make_answers, make_record

LABELS = ("bad", "good")
ROWS = 400
MEANS, SPREAD = {"majority": 0.5, "a": 0.8, "b": 0.827}, 0.01
"""Of a race of eight draws: `majority` stops at the first of three looks, and `b` is not credibly better than `a` at
the level of the third; it would be at four times that level."""


class Scripted:
    """An executor whose trials have the accuracies that a test tells, by variant and data seed."""

    options, runs_here = WorkerOptions(), True

    def __init__(self, means: Mapping[str, float], spread: float = 0.01, stop_after: int | None = None) -> None:
        self._means, self._spread, self._stop_after = means, spread, stop_after
        self.ran: list[tuple[str, int, int]] = []

    def close(self) -> None:
        return

    def settle(self, jobs: Sequence[Job], known: Iterable[Record]) -> None:
        return

    def run(self, jobs: Iterable[Job]) -> Generator[Event]:
        for job in jobs:
            if self._stop_after is not None and len(self.ran) == self._stop_after:
                raise KeyboardInterrupt
            yield Started(job)
            variant, seed, shots = job.trial.method.variant, job.trial.data_seed, job.trial.shots
            self.ran.append((variant, shots, seed))
            yield Finished(job, *self._answer(job, variant, seed))

    def _answer(self, job: Job, variant: str, seed: int) -> tuple[Record, pl.DataFrame]:
        rng = np.random.default_rng([seed, *variant.encode()])
        accuracy = float(np.clip(rng.normal(self._means[variant], self._spread), 0, 1))
        table = make_answers("in_domain", accuracy, seed, LABELS, ROWS, rng)
        record = make_record(describe_axes(job.trial), {"in_domain": table}, LABELS, "accuracy", ())
        return record.model_copy(update={"trial_id": job.trial_id}), table

    def draws(self, variant: str, shots: int = 4) -> int:
        return len([each for each in self.ran if each[:2] == (variant, shots)])


class FailingOnce(Scripted):
    """The same, but for the first trial of `a`, which fails."""

    def _answer(self, job: Job, variant: str, seed: int) -> tuple[Record, pl.DataFrame]:
        if (variant, seed) == ("a", 0):
            return failed_record(job, Failure(kind="error", message="no"), None, self.options), pl.DataFrame()
        return super()._answer(job, variant, seed)


class Priced(Scripted):
    """The same, whose fits take so many seconds by their records."""

    def __init__(self, means: Mapping[str, float], seconds: Mapping[str, float], spread: float = 0.01) -> None:
        super().__init__(means, spread)
        self._seconds = seconds

    def _answer(self, job: Job, variant: str, seed: int) -> tuple[Record, pl.DataFrame]:
        record, table = super()._answer(job, variant, seed)
        assert record.cost is not None
        cost = record.cost.model_copy(update={"fit_seconds": self._seconds[variant]})
        return record.model_copy(update={"cost": cost}), table


class Clock:
    """Seconds that pass where a test lets them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed(Scripted):
    """An executor each of whose trials takes so many seconds of a clock, and says so in its record."""

    def __init__(self, means: Mapping[str, float], seconds: Mapping[str, float], clock: Clock) -> None:
        super().__init__(means, 0.05)
        self._seconds, self._clock = seconds, clock

    def run(self, jobs: Iterable[Job]) -> Generator[Event]:
        for event in super().run(jobs):
            if isinstance(event, Finished):
                seconds = self._seconds[event.job.trial.method.variant]
                self._clock.now += seconds
                record = event.record.model_copy(update={"phase_seconds": {"fit": seconds}})
                yield Finished(event.job, record, event.predictions)
            else:
                yield event


def write_study(folder: Path) -> dict[str, object]:
    """A study of three methods."""
    rows = "".join(f"{word} {i},{word}\n" for i in range(20) for word in LABELS)
    (folder / "rows.csv").write_text("text,label\n" + rows)
    features = [{"tfidf": {"as": name, "inverse_penalty": strength}} for name, strength in (("a", 1.0), ("b", 2.0))]
    return {
        "name": "raced",
        "tasks": [{"own_files": {"train": str(folder / "rows.csv"), "as": "feelings"}}],
        "methods": ["majority", *features],
        "shots": [4],
        "until": "decided",
    }


def race(values: Mapping[str, object], out: Path, executor: Scripted) -> tuple[StudyResult, list[Looked]]:
    looks: list[Looked] = []

    def hear(event: StudyEvent) -> None:
        if isinstance(event, Looked):
            looks.append(event)

    return run_study(values, out, executor=executor, on_event=hear), looks


def run_race(folder: Path, out: Path | None = None, executor: Scripted | None = None, **values: object) -> Path:
    """A race by bounds, of three looks at MEANS, run into `out` or a folder of its own; its rows lie in `folder`."""
    study = {
        **write_study(folder),
        "guarantee": "bound",
        "until": {"within": 0.0005, "most_draws": 8},
        "baselines": False,
    }
    out = folder / "raced" if out is None else out
    race({**study, **values}, out, executor or Scripted(MEANS, SPREAD))
    return out


LOST = ("file", "looks", "first look", "names")
"""What a raced folder may lack of its looks."""


def lose_looks(out: Path, what: str) -> None:
    """Take from a raced folder one of LOST."""
    path = out / "looks.json"
    if what == "file":
        path.unlink()
        return
    told = json.loads(path.read_text())
    if what == "names":  # as merged by a fewtune that dropped them: one look at the whole
        told = {"plan": [8], "looks": [{**told["looks"][-1], "level": 0.04, "stopped": {}}]}
    else:
        told["looks"] = told["looks"][1:] if what == "first look" else []
    path.write_text(json.dumps(told))


def draws_at(look: Looked) -> int:
    return look.standings[0].decision.draws
