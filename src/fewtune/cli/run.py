"""`fewtune run` and `fewtune check`: runs a study into its folder, or only checks it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from fewtune.cli.options import (
    DataDir,
    GuaranteeOption,
    Overrides,
    Profile,
    Strict,
    StudyPath,
    check_number,
    check_seconds,
    check_share,
    make_flag,
)
from fewtune.cli.output import complain, console, say, say_to_copy
from fewtune.cli.report import end_with, show_report
from fewtune.cli.track import Tracking
from fewtune.errors import FewtuneError
from fewtune.plurals import pluralise
from fewtune.system.durations import parse_minutes, parse_seconds
from fewtune.system.signals import as_interrupted, exit_code, format_interrupt
from fewtune.system.sizes import parse_bytes

if TYPE_CHECKING:
    from fewtune.report.results import StudyResult
    from fewtune.running.executors.base import Executor
    from fewtune.running.forecast import StudyForecast
    from fewtune.running.job import Job
    from fewtune.running.run_study import StudyEvent
    from fewtune.study import Resources

MOST_WORKERS, MOST_DEVICES = 1024, 64


@Parameter(name="*")
@dataclass(frozen=True)
class Workers:
    """How many processes run trials, how, and where they find rows."""

    data_dir: DataDir = None
    workers: Annotated[
        int | Literal["auto"],
        Parameter(
            help="Trials at once, each with its share of the cores; auto: one a core, or one a GPU, as far as memory "
            "goes, and in a folder with records no more than they had."
        ),
    ] = "auto"
    cache_share: Annotated[
        float | None,
        Parameter(
            help="Share of memory for what is computed once and kept; a tenth where not given; 0 computes it anew, "
            "with equal results."
        ),
    ] = None
    stall_after: Annotated[
        float | None,
        Parameter(
            help="Seconds without a sign of progress (a step, a layer run) after which a trial is ended and recorded "
            "as killed; 1800 where not given."
        ),
    ] = None

    checkpoint_every: Annotated[
        str | None,
        Parameter(
            help="Time of a fit, such as 90s or 20m, between two writings of where it stands: killed, it goes on from "
            "there; 10m where not given."
        ),
    ] = None
    executor: Annotated[
        Literal["local", "ray"],
        Parameter(help="Where trials run: processes of this machine, or actors of a Ray cluster (`fewtune[ray]`)."),
    ] = "local"
    devices_per_trial: Annotated[
        int,
        Parameter(
            help="GPUs, or processes where there are none, that a trial's network is split among where all of its "
            "weights train; one trial at a time then."
        ),
    ] = 1
    address: Annotated[
        str | None,
        Parameter(help="The Ray cluster's address; RAY_ADDRESS, or this machine's, where not given."),
    ] = None

    def start(self, resources: Resources | None) -> Executor:
        """The executor that is asked for; raises FewtuneError for a value out of range."""
        from fewtune.running.executors.local import LocalProcesses
        from fewtune.running.executors.process import STALL_SECONDS
        from fewtune.running.job import WorkerOptions

        if self.workers != "auto":
            check_number("--workers", self.workers, 1, MOST_WORKERS)
        check_number("--devices-per-trial", self.devices_per_trial, 1, MOST_DEVICES)
        if self.devices_per_trial > 1 and (self.executor != "local" or self.workers not in ("auto", 1)):
            raise FewtuneError(
                "--devices-per-trial splits one trial at a time among processes of this machine: leave out --workers "
                "and --executor."
            )
        if self.devices_per_trial > 1:
            _check_gpus(self.devices_per_trial)
        check_share("--cache-share", self.cache_share, "keep nothing")
        check_seconds("--stall-after", self.stall_after)
        every = self.checkpoint_every
        options = WorkerOptions(
            1 if self.workers == "auto" else self.workers,
            self.data_dir,
            self.cache_share,
            None if every is None else parse_seconds("--checkpoint-every", every),
            devices_per_trial=self.devices_per_trial,
        )
        stall = STALL_SECONDS if self.stall_after is None else self.stall_after
        auto = self.workers == "auto" and self.devices_per_trial == 1
        if self.executor == "local":
            if self.address is not None:
                raise FewtuneError("--address names a Ray cluster: give --executor ray with it.")
            return LocalProcesses(options, stall, auto=auto)
        from fewtune.running.executors.ray import RayActors

        return RayActors(options, resources, self.address, stall, auto=auto)


def _check_gpus(asked: int) -> None:
    """Refuse to split a trial among more GPUs than this machine has, where it has any."""
    import torch

    there = torch.cuda.device_count()
    if 0 < there < asked:
        raise FewtuneError(f"--devices-per-trial is {asked}, and this machine has {pluralise(there, 'GPU')}.")


@Parameter(name="*")
@dataclass(frozen=True)
class Ending:
    """When a study ends, in place of what its file says."""

    until: Annotated[
        Literal["decided"] | None,
        Parameter(help="Race: add draws, to the methods where they tell most, until the decision stands."),
    ] = None
    within: Annotated[
        float | None,
        Parameter(
            help="The tolerance (0.03: three points): for `Use X` the expected loss is a sixth of it at most. Left "
            "out: the study's."
        ),
    ] = None
    guarantee: GuaranteeOption = None
    budget: Annotated[
        str | None,
        Parameter(help="Time that it may take, as 90s, 30m or 2h: what fits runs, every method once before any twice."),
    ] = None
    max_memory: Annotated[
        str | None,
        Parameter(help="Memory that a trial may hold, such as 2GiB: those forecast to hold more are skipped."),
    ] = None

    def list_overrides(self, races: bool) -> list[str]:
        """The same as overrides of the study file; of one that races by itself, the race stays as it is."""
        check_share("--within", self.within, "take the best alone")
        minutes = None if self.budget is None else parse_minutes("--budget", self.budget)
        memory = None if self.max_memory is None else parse_bytes("--max-memory", self.max_memory)
        given = {
            "until": None if races else self.until,
            "within": self.within,
            "guarantee": self.guarantee,
            "budget.minutes": minutes,
            "budget.memory": memory,
        }
        return [f"{key}={value}" for key, value in given.items() if value is not None]


@Parameter(name="*")
@dataclass(frozen=True)
class Shown:
    """What is shown besides, and what counts as a failure."""

    profile: Profile = False
    strict: Strict = False
    forecast: Annotated[bool, make_flag("Before it runs, measure what trials take, and say what all of them will.")] = (
        False
    )


def run(
    study: StudyPath,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="Output folder; `out/<study name>` where not given.")] = None,
    set_: Overrides = None,
    shard: Annotated[
        str | None,
        Parameter(help="Run one part of the study alone, such as 2/8; `fewtune merge` joins the parts' folders."),
    ] = None,
    ending: Ending = Ending(),
    workers: Workers = Workers(),
    tracking: Tracking = Tracking(),
    shown: Shown = Shown(),
) -> int:
    """Run a study's trials, reusing those already done, then show audit and leaderboard, and write the report."""
    began = time.perf_counter()
    from fewtune.api import run_study
    from fewtune.cli.run_display import RunDisplay
    from fewtune.report.profile import show_profile
    from fewtune.running.shard import parse_shard
    from fewtune.study import load_study

    part = None if shard is None else parse_shard(shard)
    races = ending.until is not None and load_study(study, set_ or []).until is not None
    plan = load_study(study, [*(set_ or []), *ending.list_overrides(races)])
    executor = workers.start(plan.resources)
    display = RunDisplay(console, began)
    try:
        with as_interrupted(), tracking.follow() as track, display:

            def hear(event: StudyEvent) -> None:
                track(event)
                display.hear(event)

            result = run_study(
                plan,
                out,
                executor=executor,
                on_event=hear,
                forecast=shown.forecast,
                shard=None if part is None else (part.number, part.count),
            )
    except KeyboardInterrupt as stopped:
        if display.folder is None:
            raise
        kept = f"Finished trials are kept in {display.folder}; the same command goes on from there."
        complain(f"{format_interrupt(stopped)}. {kept}")
        return exit_code(stopped)
    show_report(result)
    if _has_learnt(result):
        tasks = {decision.question.task for decision in result.decisions}
        more = " --task TASK" if len(tasks) > 1 else ""
        more += "" if workers.data_dir is None else f" --data-dir {workers.data_dir}"
        say_to_copy(f"a model of it, fitted on all rows: fewtune fit --from {result.folder}{more} --save MODEL")
    if shown.profile:
        ran = display.pick_run(result.records)
        command = display.read_clock() if ran else None
        show_profile(console, ran or result.records, command, reused=display.reused if ran else 0)
    return end_with(result, shown.strict)


def _has_learnt(result: StudyResult) -> bool:
    """Whether a decision is for a method that learns."""
    from fewtune.methods import get_method

    constant = {r.trial.variant for r in result.records if get_method(r.trial.method).constant}
    return any(each.choice is not None and each.choice.name not in constant for each in result.decisions)


def check(
    study: StudyPath,
    /,
    *,
    set_: Overrides = None,
    forecast: Annotated[
        bool,
        make_flag("Measure an excerpt of a trial of each method: seconds, memory and disk of all."),
    ] = False,
    out: Annotated[
        Path | None, Parameter(help="Folder whose records a forecast goes by; `out/<study name>` where not given.")
    ] = None,
    verbose: Annotated[bool, make_flag("List every trial with its id too.")] = False,
    workers: Workers = Workers(),
) -> int:
    """Tell every fault of a study at once, and the trials it would run; fits nothing but for a forecast."""
    from fewtune.cli.check_display import show_check
    from fewtune.running.precision_choice import recall_precision
    from fewtune.running.prepare import prepare_jobs
    from fewtune.running.row_choice import ASSUMED_ROWS, choose_rows, leaves_rows_open, recall_rows, set_rows
    from fewtune.study import load_study

    plan = load_study(study, set_ or [])
    folder = Path("out") / plan.name if out is None else out
    plan = recall_precision(recall_rows(plan, folder), folder)
    rows_open = leaves_rows_open(plan)
    jobs, tasks = prepare_jobs(set_rows(plan, ASSUMED_ROWS) if rows_open else plan, workers.data_dir)
    show_check(plan.name, jobs, tasks, verbose)
    if rows_open:
        say(f"evaluation.in_domain_rows: auto: chosen when the study first runs; {ASSUMED_ROWS} are assumed above.")
    if forecast:
        with contextlib.closing(workers.start(plan.resources)) as executor:
            found = _forecast(jobs, folder, executor, plan.until is not None)
        if rows_open:
            say(f"evaluation.in_domain_rows: auto: {choose_rows(found.records)} rows, by what was measured.")
    return 0


def _forecast(jobs: Sequence[Job], folder: Path, executor: Executor, is_race: bool) -> StudyForecast:
    from fewtune.cli.forecast import show_forecast
    from fewtune.records import list_written, load_planned, load_records
    from fewtune.running.forecast import forecast_trials

    written, planned = list_written(folder).keys(), load_planned(folder)
    lying = load_records(folder) if written & (written if planned is None else planned.keys()) else []
    asked = {job.trial_id for job in jobs}
    known = [record for record in lying if record.trial_id in asked]  # of other settings, rows or weights are others
    done = {record.trial_id for record in known if record.status == "done"}
    executor.settle(jobs, known)
    found = forecast_trials([job for job in jobs if job.trial_id not in done], known, executor)
    show_forecast(console, found, is_race)
    return found
