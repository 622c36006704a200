"""Runs a whole study into its folder: prepares it, reuses finished trials, runs the others, passes on every event.

Owns that order, and what is told of a study beside what executors tell of its trials. Does not know where trials run
(`executors`), or how what is told is shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fewtune.analysis.time_left import TimedTrials
from fewtune.errors import ExecutorError, RecordError
from fewtune.models import resolve_precision
from fewtune.plurals import pluralise
from fewtune.records import (
    Cell,
    Record,
    Status,
    append_event,
    record_path,
    write_looks,
    write_planned,
)
from fewtune.running.executors.base import Executor
from fewtune.running.forecast import StudyForecast, forecast_trials, refuse_beyond
from fewtune.running.job import Event, Finished, Job, Started
from fewtune.running.look_count import begin_looks, check_counted, look_at_end, look_at_whole, plan_no_look
from fewtune.running.order import put_methods_in_turn, take_longest_first
from fewtune.running.output_folder import check_whole, claim_folder, open_folder
from fewtune.running.precision_choice import recall_precision
from fewtune.running.prepare import prepare_jobs
from fewtune.running.race import Race, RaceStanding
from fewtune.running.record_writer import RecordWriter
from fewtune.running.row_choice import ASSUMED_ROWS, choose_rows, leaves_rows_open, recall_rows, set_rows
from fewtune.running.shard import Shard, check_shardable
from fewtune.running.time_budget import TimeBudget
from fewtune.running.trial_metadata import describe_axes, stopped_record
from fewtune.study import Budget, Study
from fewtune.system.processor import name_processor
from fewtune.system.signals import as_interrupted
from fewtune.tasks.base import Task


@dataclass(frozen=True)
class Preparing:
    """The folder is the study's; models and data are being found."""

    study: Study
    folder: Path


@dataclass(frozen=True)
class Prepared:
    """Every trial of the study is known, and nothing has run."""

    jobs: Sequence[Job]
    tasks: Mapping[str, Task]
    """By their labels."""


@dataclass(frozen=True)
class Noticed:
    """Something about the folder that its user should know, in words."""

    text: str


@dataclass(frozen=True)
class Opened:
    """The folder is held; trials begin."""

    jobs: Sequence[Job]
    """Those that will run."""
    reused: int
    """How many trials were done before."""
    timed: TimedTrials
    """What those took that ran so far."""
    workers: int
    """Processes that run them."""


@dataclass(frozen=True)
class Measuring:
    """An excerpt of this trial runs, to forecast it and those like it."""

    job: Job


@dataclass(frozen=True)
class Forecasted:
    """What the trials that wait are thought to take, and those that are skipped for that."""

    forecast: StudyForecast
    skipped: Sequence[Job]


@dataclass(frozen=True)
class TrialsLeftOut:
    """What the budget had no time for: these trials did not run, or not to their end."""

    jobs: Sequence[Job]
    seconds: float
    """The budget."""


@dataclass(frozen=True)
class Looked:
    """A race looked at its draws."""

    number: int
    """Which round it was, from 1; of a race by bounds, which look."""
    looks: Sequence[int]
    """The draws of each look that may be; the first round's alone where it is not known how many there will be."""
    standings: Sequence[RaceStanding]
    """Of every task and number of shots that was still open."""


@dataclass(frozen=True)
class Closed:
    """Every trial that was to run has its record, and the folder is let go of."""


StudyEvent = Preparing | Prepared | Noticed | Measuring | Forecasted | Opened | Event | TrialsLeftOut | Looked | Closed
"""What is told while a study runs, in this order; of trials, what their executor tells, once it is written down."""

OnEvent = Callable[[StudyEvent], None]


def conduct_study(
    study: Study,
    out: Path,
    executor: Executor,
    on_event: OnEvent,
    forecast: bool = False,
    shard: Shard | None = None,
) -> None:
    """Run those of a study's trials that are not done yet into its folder; told to, forecast them first.

    Of a `shard` those that are in it; it is no look at the study. A study with a budget of memory is always forecast:
    trials beyond it are skipped. Each record is written whole as its trial ends: an interrupted study loses the running
    trials only. Raises StudyError with everything that does not fit, RecordError where the folder cannot be used; a
    signal (KeyboardInterrupt) ends the trials and is raised again.
    """
    budget = Budget() if study.budget is None else study.budget
    time_budget = None if budget.minutes is None else TimeBudget(60 * budget.minutes)
    study = recall_rows(study, out)
    settled = recall_precision(study, out)  # of the trials; the folder's study.yaml stays as it was asked for
    if shard is not None:
        check_shardable(study)
    claim_folder(out, study)
    on_event(Preparing(study, out))
    if study.precision != settled.precision != resolve_precision("auto"):
        told = f"precision: auto: {settled.precision}, as in the trials that lie in {out}; here it is another."
        on_event(Noticed(told))
    if leaves_rows_open(study):
        study = _settle_rows(study, executor, on_event, lambda: time_budget is not None and time_budget.is_spent)
        settled = recall_precision(study, out)
    jobs: Sequence[Job]
    jobs, tasks = prepare_jobs(settled, executor.options.data_dir)
    whole = {job.trial_id: describe_axes(job.trial).cell for job in jobs}
    if shard is not None:
        jobs = shard.pick(jobs)
    on_event(Prepared(jobs, tasks))
    if time_budget is not None:  # every method once before any twice
        jobs = put_methods_in_turn(jobs, study.data_seeds, study.fit_seeds)
    cells = {job.trial_id: whole[job.trial_id] for job in jobs}
    with open_folder(out, study, cells, lambda line: on_event(Noticed(line)), whole) as done, closing(executor):
        executor.settle(jobs, done.values())
        here = name_processor() if executor.runs_here else None  # what another machine took says nothing of this one
        timed = TimedTrials(r for r in done.values() if here is None or r.environment.get("processor") == here)
        known = {trial_id: record.status for trial_id, record in done.items()}
        run = _Run(out, executor, on_event, time_budget, known, timed, shard)
        if forecast or budget.memory is not None:
            jobs = run.forecast(jobs, done.values(), budget.memory)
        race, history = None, None
        if study.until is not None:
            race = Race(jobs, study.data_seeds, out, done.values(), study.guarantee)
        else:
            check_counted(out, whole)
            if shard is not None:
                plan_no_look(out, [len(study.data_seeds)])
            else:
                history = begin_looks(out, [len(study.data_seeds)], done.values())
        done.clear()  # thousands of records that nothing asks for any more
        if race is not None:
            _race(race, run, {trial_id: cells[trial_id] for trial_id in known if trial_id in cells})
        else:
            run.take(jobs)
            if history is not None:
                write_looks(out, look_at_end(history, jobs, cells, study.data_seeds, run.known))
            else:  # the last part of several in one folder makes it whole
                look_at_whole(out, whole, study.data_seeds)
    on_event(Closed())


def _settle_rows(study: Study, executor: Executor, on_event: OnEvent, is_spent: Callable[[], bool]) -> Study:
    """Choose the number of in-domain test rows by an excerpt of a trial of each method."""
    jobs, _ = prepare_jobs(set_rows(study, ASSUMED_ROWS), executor.options.data_dir)
    executor.settle(jobs, ())
    measured = forecast_trials(jobs, (), executor, partial(_tell_measuring, on_event=on_event), is_spent)
    rows = ASSUMED_ROWS if is_spent() else choose_rows(measured.records)  # of some methods alone they would be others
    on_event(Noticed(f"evaluation.in_domain_rows: auto: {pluralise(rows, 'row')}, by what the methods take here."))
    return set_rows(study, rows)


def _tell_measuring(event: Event, on_event: OnEvent) -> None:
    if isinstance(event, Started):
        on_event(Measuring(event.job))


@dataclass
class _Run:
    """A run of trials into a folder that is held."""

    out: Path
    executor: Executor
    on_event: OnEvent
    time_budget: TimeBudget | None
    known: dict[str, Status]
    """What came of trials that are done or have run now, by id: thousands of records are in the folder, not here."""
    timed: TimedTrials
    """What they took."""
    shard: Shard | None = None
    forecasted: TimedTrials = field(default_factory=TimedTrials)
    """What trials were forecast to take, where they were."""

    def forecast(self, jobs: Sequence[Job], done: Iterable[Record], most_bytes: int | None) -> Sequence[Job]:
        """Forecast what has not run, tell it, and mark those to be skipped that would hold more memory than that."""
        todo = [job for job in jobs if job.trial_id not in self.known]
        tell = partial(_tell_measuring, on_event=self.on_event)
        found = forecast_trials(todo, done, self.executor, tell, self._is_spent)
        self.forecasted = TimedTrials(found.records)
        refused = jobs if most_bytes is None else refuse_beyond(jobs, found, most_bytes)
        skipped = [job for job, before in zip(refused, jobs, strict=True) if job.skip_reason != before.skip_reason]
        self.on_event(Forecasted(found, [job for job in skipped if job.trial_id not in self.known]))
        return refused

    def lacking(self, stopped: Iterable[tuple[Job, str]]) -> list[tuple[Job, str]]:
        """Those of the trials that did not run before their methods were stopped."""
        return [(job, reason) for job, reason in stopped if job.trial_id not in self.known]

    def leave_out(self, stopped: Iterable[tuple[Job, str]]) -> None:
        """Write down trials that do not run, and why."""
        writer = RecordWriter(self.out, self.executor.options)
        for job, reason in stopped:
            if not record_path(self.out, job.trial_id).is_file():
                writer.write(Finished(job, stopped_record(job, reason), None))

    def take(self, jobs: Sequence[Job]) -> bool:
        """Run those of the jobs that have not run; False where the budget left some of them out."""
        todo = [job for job in jobs if job.trial_id not in self.known]
        reused = len(jobs) - len(todo)
        part = {} if self.shard is None else {"shards": [[self.shard.number, self.shard.count]]}
        append_event(self.out, "run", trials=len(jobs), reused=reused, **part)
        workers = self.executor.options.workers
        self.on_event(Opened(todo, reused, self.timed, workers))
        if self.time_budget is not None:
            fitting: Iterable[Job] = self.time_budget.ration(todo, self.timed, self.forecasted)
        else:
            fitting = todo if workers == 1 else take_longest_first(todo, self.timed, self.forecasted)
        carry_out(fitting, self.out, self.executor, self._hear, self._is_spent)
        left = [job for job in todo if job.trial_id not in self.known]
        if left:
            assert self.time_budget is not None
            self.on_event(TrialsLeftOut(left, self.time_budget.seconds))
        check_whole(self.out, [job.trial_id for job in jobs if job.trial_id in self.known])
        return not left

    def _hear(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.known[event.job.trial_id] = event.record.status
            self.timed.add(event.record)
        self.on_event(event)

    def _is_spent(self) -> bool:
        return self.time_budget is not None and self.time_budget.is_spent


def _race(race: Race, run: _Run, before: Mapping[str, Cell]) -> None:
    """Run a study round by round, until every race is over; the folder's trials are those of the rounds so far.

    While rounds that were looked at `before` are looked at again, the trials that are there stay planned.
    """
    cells: dict[str, Cell] = {}
    while not race.is_over:
        planned = race.plan()
        left_out = run.lacking(planned.left_out)
        cells |= {job.trial_id: describe_axes(job.trial).cell for job in [*planned.jobs, *(job for job, _ in left_out)]}
        write_planned(run.out, {**before, **cells})
        run.leave_out(left_out)
        whole = run.take(planned.jobs)
        standings = race.look() if whole else race.look_early()
        run.on_event(Looked(race.number, race.looks, standings))
        if race.is_over:
            write_planned(run.out, cells if whole else {**before, **cells})  # what was looked at last, in any case


def carry_out(
    jobs: Iterable[Job],
    out: Path,
    executor: Executor,
    on_event: Callable[[Event], None],
    is_spent: Callable[[], bool] = lambda: False,
) -> None:
    """Run every job and write what comes of it into a folder that is held; each event is passed on once written.

    What still runs is ended once `is_spent` says so.
    """
    writer = RecordWriter(out, executor.options)
    with closing(executor.run(jobs)) as events:
        try:
            with as_interrupted():
                for event in events:
                    on_event(writer.write(event))
                    if is_spent():
                        break
        except (KeyboardInterrupt, ExecutorError) as error:
            with contextlib.suppress(RecordError):  # the run ends, whether or not it can be written down
                writer.tell("interrupted")
            if isinstance(error, ExecutorError):
                kept = f"Finished trials are kept in {out}; the same command goes on from there."
                raise ExecutorError(f"{error} {kept}") from error
            raise
