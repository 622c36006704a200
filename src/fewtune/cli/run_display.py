"""Display of `fewtune run`: what was found first, then each trial as `run_study` reports it.

Owns what is shown of each event, and the command's clock. How trials are shown is `progress`.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding

from fewtune.analysis.time_left import TimedTrials
from fewtune.cli.forecast import show_forecast
from fewtune.cli.progress import LiveProgress, PlainProgress, TimeLeft, pass_on
from fewtune.models import format_terms
from fewtune.plurals import pluralise
from fewtune.records import NEVER_RUN, Record
from fewtune.report.profile import CommandSeconds
from fewtune.report.race import tabulate_race
from fewtune.report.wording import format_about, format_decision, format_question, format_seconds
from fewtune.running.job import Job
from fewtune.running.run_study import (
    Closed,
    Forecasted,
    Looked,
    Measuring,
    Noticed,
    Opened,
    Prepared,
    Preparing,
    StudyEvent,
    TrialsLeftOut,
)
from fewtune.system.terminal import make_message


class RunDisplay:
    """Shows a study that runs, told event by event: what was found first, then its trials; use as a context."""

    def __init__(self, console: Console, began: float) -> None:
        """`began` is when the command did, on `time.perf_counter`."""
        self.folder: Path | None = None
        """Where records are kept, once trials have begun."""
        self._console = console
        self._workers = 1
        self._clock = [began, time.perf_counter()]
        """When the command began, was ready to run a study, and each event of that study that ends a part of it."""
        self._study: Preparing | None = None
        self._jobs: list[Job] = []
        self.reused = 0
        """How many trials were done before."""
        self._forecast = TimedTrials()
        self._listener: LiveProgress | PlainProgress | None = None
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> RunDisplay:
        return self

    def __exit__(self, *exception: object) -> None:
        self._exits.close()

    def hear(self, event: StudyEvent) -> None:
        """Show an event."""
        match event:
            case Preparing():
                self._study = event
                self._print(*format_terms(model.name for model in event.study.models))
                self._print("Finding models and data (fetched once and kept) …")
            case Prepared(jobs, tasks):
                self._clock.append(time.perf_counter())
                notes = [f"{label}: {note}" for label, task in tasks.items() for note in task.notes]
                self._print(*notes, *list_skips(jobs))
            case Noticed(text):
                self._print(text)
            case Measuring(job):
                self._print(f"measuring {job.trial.method.variant} on {job.trial.task.label} …")
            case Forecasted(forecast, skipped):
                self._forecast = TimedTrials(forecast.records)
                assert self._study is not None
                show_forecast(self._console, forecast, self._study.study.until is not None)
                self._print(*list_skips(skipped))
            case Opened(jobs, reused, timed, workers):
                self._workers = workers
                assert self._study is not None
                if self.folder is None:
                    self.folder, self.reused = self._study.folder, reused
                    already = f"{reused} already done"
                else:
                    already = f"{len(jobs)} of them new"
                left = TimeLeft(jobs, workers, timed, self._forecast)
                if self._jobs and left.seconds is not None:
                    already += f" ({format_about(left.seconds)})"
                self._jobs.extend(jobs)
                name, total = self._study.study.name, len(jobs) + reused
                running = sum(map(_runs, jobs))
                without = f", {len(jobs) - running} skipped" if running < len(jobs) else ""
                self._print(f"{name}: {pluralise(total, 'trial')}, {already}{without}, in {self.folder}")
                kind = LiveProgress if self._console.is_terminal else PlainProgress
                self._listener = kind(self._console, running, left)
                self._exits.enter_context(self._listener)
            case TrialsLeftOut():
                self._exits.close()
                self._print(format_trials_left_out(event))
            case Looked():
                self._exits.close()
                for standing, line in zip(event.standings, format_race_look(event), strict=True):
                    self._print(line)
                    self._console.print(Padding(tabulate_race(standing.decision, standing.running), (0, 0, 0, 2)))
            case Closed():
                self._clock.append(time.perf_counter())
                self._exits.close()
            case _ if _runs(event.job):  # of those that are skipped all is said before
                assert self._listener is not None
                pass_on(self._listener, event)

    def pick_run(self, records: Iterable[Record]) -> list[Record]:
        """Of a study's records, those of trials that ran just now."""
        ran = {job.trial_id for job in self._jobs}
        return [record for record in records if record.trial_id in ran and record.status not in NEVER_RUN]

    def read_clock(self) -> CommandSeconds:
        """Where the command's time went, of a study that ran to its end."""
        began, ready, prepared, closed = self._clock
        return CommandSeconds(
            check=prepared - ready,
            run=closed - prepared,
            analyse=time.perf_counter() - closed,
            rest=ready - began,
            workers=min(self._workers, len(self._jobs)),
        )

    def _print(self, *lines: str) -> None:
        for line in lines:
            self._console.print(make_message(line), soft_wrap=not self._console.is_terminal)


def _runs(job: Job) -> bool:
    return job.skip_reason is None


def format_trials_left_out(event: TrialsLeftOut) -> str:
    """Say which trials a budget left out."""
    counts = Counter(job.trial.method.variant for job in event.jobs)
    kinds = ", ".join(f"{count} of {variant}" for variant, count in counts.items())
    trials = pluralise(len(event.jobs), "trial")
    return f"The budget of {format_seconds(event.seconds)} has no time for more: left out are {trials} ({kinds})."


def format_race_look(event: Looked) -> list[str]:
    """Say what a race found, a line a task and number of shots: after a round its answer, by bounds after a look."""
    lines = []
    for decision in (standing.decision for standing in event.standings):
        head = f"round {event.number}"
        if decision.question.guarantee == "bound":
            head = f"look {event.number} of {len(event.looks)}, after {pluralise(decision.draws, 'draw')}"
        lines.append(f"{head} · {format_question(decision)}: {format_decision(decision)}")
    return lines


def list_skips(jobs: Sequence[Job]) -> list[str]:
    """Say which methods cannot be used on which models, a line a reason."""
    skipped: dict[str, dict[str, Counter[str]]] = {}
    for job in jobs:
        if job.skip_reason is not None:
            on = "without a model" if job.trial.model is None else f"on {job.trial.model.name}"
            skipped.setdefault(job.skip_reason, {}).setdefault(on, Counter())[job.trial.method.variant] += 1
    lines = []
    for reason, places in skipped.items():
        trials = pluralise(sum(variants.total() for variants in places.values()), "trial")
        which = "; ".join(f"{', '.join(variants)} {on}" for on, variants in places.items())
        lines.append(f"{trials} will be skipped ({which}): {reason}")
    return lines
