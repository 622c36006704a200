"""The command line: run, check, report, audit, recommend, watch, list, schema.

Owns what the user types and what comes back: exit code 0, 1 where trials failed, 2 for a mistake the message
says how to mend, 130 after Ctrl-C, 143 and 129 after SIGTERM and SIGHUP. Heavy imports wait until a command needs them.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, CycloptsError, Parameter

from fewtune import __version__
from fewtune.errors import FewtuneError, list_names, shorten
from fewtune.interruption import exit_code, raise_on_signals, word_interrupt
from fewtune.terminal import make_text, open_console, replace_unshowable, write_export

if TYPE_CHECKING:
    from rich.console import Console

    from fewtune.engine.meter import Meter
    from fewtune.running.job import Job
    from fewtune.study import Study

app = App(
    name="fewtune",
    version=__version__,
    help="Run every way of adapting a language model on the same few labelled rows, and say which to use.",
    suppress_keyboard_interrupt=False,  # `main` has a word for it
)
MOST_WORKERS, MOST_QUERIES, LONGEST_WAIT = 1024, 10**15, 86_400
"""What options may be at most; the last in seconds."""

BYTES = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
"""Units of memory."""

_console = open_console()
_errors = open_console(stderr=True)

StudyPath = Annotated[Path, Parameter(help="The study, a YAML file.")]
Overrides = Annotated[
    list[str] | None,
    Parameter(name="--set", help="Change the study: path.to.key=value, such as shots=[4] or pool_rows=64."),
]
DataDir = Annotated[
    Path | None, Parameter(help="Folder with the tasks' files (cola/, mnli/ …), instead of fetching them.")
]

OutFolder = Annotated[Path, Parameter(help="A folder that `fewtune run` wrote.")]
Profile = Annotated[bool, Parameter(negative="", help="Print where the time went, by phase and by method.")]

Strict = Annotated[bool, Parameter(negative="", help="Exit with 1 where the audit finds an error.")]


@app.command
def run(
    study: StudyPath,
    *,
    out: Annotated[Path | None, Parameter(help="Output folder; `out/<study name>` where not given.")] = None,
    data_dir: DataDir = None,
    set_: Overrides = None,
    workers: Annotated[int, Parameter(help="Trials at once, each with its share of the cores.")] = 1,
    cache_share: Annotated[
        float | None,
        Parameter(
            help="Share of memory for what is computed once and kept; a tenth where not given; 0 computes it anew, "
            "with equal results."
        ),
    ] = None,
    stall_after: Annotated[
        float | None,
        Parameter(
            help="Seconds without a sign of progress (a step, a layer run) after which a trial is ended and recorded "
            "as killed; 1800 where not given."
        ),
    ] = None,
    profile: Profile = False,
    strict: Strict = False,
) -> int:
    """Run a study's trials, reusing those already done, then show audit and leaderboard, and write the report."""
    from fewtune.engine.meter import Meter

    meter = Meter()  # before the other imports, which take their seconds too
    from fewtune.conduct import run_jobs
    from fewtune.executors.local import STALL_SECONDS, LocalProcesses
    from fewtune.progress import show_progress
    from fewtune.running.folder import claim_folder
    from fewtune.running.job import WorkerOptions
    from fewtune.running.prepare import prepare_jobs

    plan = _load(study, set_)
    if not 1 <= workers <= MOST_WORKERS:
        raise FewtuneError(f"--workers is {shorten(str(workers))}; give 1 to {MOST_WORKERS}.")
    if cache_share is not None and not 0 <= cache_share <= 1:
        raise FewtuneError(f"--cache-share is {cache_share:g}; give 0 (keep nothing) to 1.")
    if stall_after is not None and not stall_after > 0:  # nor is what is not a number
        raise FewtuneError(f"--stall-after is {stall_after:g}; give seconds above 0.")
    folder = out if out is not None else Path("out") / plan.name
    claim_folder(folder, plan)
    _say("Finding models and data (fetched once and kept) …")
    with meter.phase("check"):
        jobs, tasks = prepare_jobs(plan, data_dir)
    for label, task in tasks.items():
        for note in task.notes:
            _say(f"{label}: {note}")
    _say_skips(jobs)
    options = WorkerOptions(workers, data_dir, cache_share)
    executor = LocalProcesses(options, STALL_SECONDS if stall_after is None else stall_after)
    try:
        with meter.phase("run"):
            todo = run_jobs(plan, jobs, folder, executor, partial(show_progress, _console, workers), _say)
    except KeyboardInterrupt as stopped:
        _complain(
            f"{word_interrupt(stopped)}. Finished trials are kept in {folder}; the same command goes on from there."
        )
        return exit_code(stopped)
    with meter.phase("analyse"):
        code = report(folder, strict=strict)
    if profile:
        _show_profile(folder, jobs, todo, meter, workers)
    return code


@app.command
def check(study: StudyPath, *, data_dir: DataDir = None, set_: Overrides = None) -> int:
    """Tell every fault of a study at once, and the trials it would run; trains nothing."""
    from fewtune.running.prepare import prepare_jobs

    plan = _load(study, set_)
    jobs, tasks = prepare_jobs(plan, data_dir)
    for label, task in tasks.items():
        sets = ", ".join(f"{test.name} {len(test.rows)}" for test in task.test_sets)
        _say(f"{label}: {len(task.train)} training rows; test rows: {sets}; labels: {list_names(task.labels)}")
        for pattern in task.patterns:
            _say(f"  pattern {pattern.name}: {pattern.template!r} + {list_names(map(repr, pattern.label_words))}")
        for note in task.notes:
            _say(f"  {note}")
    for job in jobs:
        t = job.trial
        model = t.model.name if t.model is not None else "no model"
        _say(
            f"{job.trial_id}  {t.task.label}  {model}  {t.method.variant}  "
            f"{t.shots} shots  draw {t.data_seed}  fit {t.fit_seed}"
        )
    _say_skips(jobs)
    _say(f"{plan.name}: {len(jobs)} trials, nothing wrong.")
    return 0


@app.command
def report(
    out: OutFolder,
    *,
    format_: Annotated[
        Literal["html", "json", "csv", "markdown", "latex"],
        Parameter(name="--format", help="html writes report.html beside the records; the others are printed."),
    ] = "html",
    figures: Annotated[
        Path | None, Parameter(help="Folder to write every chart into, as SVG and PNG, for papers.")
    ] = None,
    against: Annotated[
        str | None, Parameter(help="Published study to print beside this one: paper (arXiv 2405.13181).")
    ] = None,
    profile: Profile = False,
    strict: Strict = False,
) -> int:
    """Show a study's audit, leaderboard and verdict, and write its report.html; needs no torch."""
    from fewtune.analysis.audit.audit import has_errors
    from fewtune.analysis.study import analyse_folder
    from fewtune.report.against import check_published_name, show_against
    from fewtune.report.export import FORMATS
    from fewtune.report.figures import write_figures
    from fewtune.report.findings import show_findings
    from fewtune.report.page import write_page
    from fewtune.report.profile import show_profile
    from fewtune.report.tables import show_leaderboard

    if against is not None:
        check_published_name(against)
    if figures is not None and figures.exists() and not figures.is_dir():
        raise FewtuneError(f"{figures} is a file; --figures needs a folder.")
    if format_ in FORMATS and (against is not None or profile):
        raise FewtuneError(f"--format {format_} holds the study alone: give --against and --profile without it.")
    study = analyse_folder(out)
    if format_ in FORMATS:
        write_export(FORMATS[format_](study))
    else:
        show_findings(_console, study.findings)
        show_leaderboard(_console, study)
        if against is not None:
            show_against(_console, out, against)
        _say(f"report: {write_page(study, out)}")
        if profile:
            show_profile(_console, study.records)
    if figures is not None:
        written = write_figures(study, figures)
        _say(f"figures: {len(written)} files in {figures}", _errors)
    failed = any(record.status == "failed" for record in study.records)
    return 1 if failed or (strict and has_errors(study.findings)) else 0


@app.command
def audit(
    out: Annotated[Path | None, Parameter(help="A folder that `fewtune run` wrote.")] = None,
    *,
    table: Annotated[
        Path | None,
        Parameter(
            help="Anyone's results instead: a CSV file with a row a run (method, shots, seed, accuracy …); - is "
            "standard input.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    majority: Annotated[
        float | None, Parameter(help="Share or percentage of the commonest label, for a table without that column.")
    ] = None,
    strict: Strict = False,
) -> int:
    """Look for the ways in which comparisons go wrong: in a study's records, or in any table of results."""
    from fewtune.analysis.audit.audit import RULES, has_errors
    from fewtune.analysis.audit.table import audit_table
    from fewtune.analysis.study import analyse_folder
    from fewtune.report.findings import show_findings

    asked, unasked = len(RULES), dict[str, str]()
    if table is not None and out is None:
        audited = audit_table(table, majority)
        findings, asked, unasked = audited.findings, audited.asked, audited.unasked
    elif out is not None and table is None:
        if majority is not None:
            raise FewtuneError("--majority goes with --table: a study's records know it themselves.")
        findings = list(analyse_folder(out).findings)
    else:
        raise FewtuneError("give either a folder that `fewtune run` wrote, or --table FILE.csv.")
    show_findings(_console, findings, trials=True, rules=asked)
    if unasked:
        each = "; ".join(f"{rule}, which needs a column {column}" for rule, column in unasked.items())
        _say(f"{asked} of {asked + len(unasked)} rules asked; not asked: {each}.")
    return 1 if strict and has_errors(findings) else 0


@app.command
def recommend(
    out: OutFolder,
    *,
    max_fit_seconds: Annotated[float | None, Parameter(help="Seconds that fitting may take.")] = None,
    max_memory: Annotated[
        str | None, Parameter(help="Memory that the process may hold, such as 900MiB, 2GiB or a number of bytes.")
    ] = None,
    max_latency: Annotated[float | None, Parameter(help="Seconds that answering one row may take.")] = None,
    out_of_domain_weight: Annotated[
        float, Parameter(help="Weight of the test sets out of domain, together: 0 to 1.")
    ] = 0.0,
    queries: Annotated[int, Parameter(help="Rows to be answered: what the cheapest method is priced by.")] = 1000,
) -> int:
    """Say which method to use within a budget, with the evidence, the risk, and what would change the answer."""
    import numpy as np

    from fewtune.analysis.recommend import Budget
    from fewtune.analysis.recommend import recommend as advise
    from fewtune.analysis.study import ANALYSIS_SEED, analyse_folder
    from fewtune.report.advice import show_advice
    from fewtune.report.findings import show_errors
    from fewtune.report.tables import word_missing

    if not 0 <= queries <= MOST_QUERIES:
        raise FewtuneError(f"--queries is {shorten(str(queries))}; give 0 to {MOST_QUERIES}.")
    if not 0 <= out_of_domain_weight <= 1:
        raise FewtuneError(f"--out-of-domain-weight is {out_of_domain_weight:g}; give 0 (in domain alone) to 1.")
    for name, seconds in (("--max-fit-seconds", max_fit_seconds), ("--max-latency", max_latency)):
        if seconds is not None and not seconds > 0:  # nor is what is not a number
            raise FewtuneError(f"{name} is {seconds:g}; give seconds above 0.")
    budget = Budget(
        max_fit_seconds=max_fit_seconds,
        max_memory_bytes=None if max_memory is None else parse_bytes(max_memory),
        max_latency_seconds=max_latency,
        out_of_domain_weight=out_of_domain_weight,
        queries=queries,
    )
    study = analyse_folder(out)
    boards = [group.board for group in study.groups]
    rng = np.random.default_rng(ANALYSIS_SEED)
    advices = advise(boards, study.records, study.reader, budget, rng, region=study.region)
    show_errors(_console, study.findings)
    if study.missing:
        _say(word_missing(study.missing))
    show_advice(_console, advices)
    return 0


@app.command
def watch(
    out: OutFolder,
    *,
    every: Annotated[float, Parameter(help="Seconds between two looks at the folder.")] = 2.0,
) -> int:
    """Show a running study live: its table, what it says so far, and the time left; once where piped."""
    from fewtune.report.watch import watch_study

    if not 0 < every <= LONGEST_WAIT:  # nor is what is not a number
        raise FewtuneError(f"--every is {every:g}; give seconds above 0, {LONGEST_WAIT} at most.")
    watch_study(_console, out, every)
    return 0


@app.command(name="list")
def list_(what: Literal["methods", "tasks", "models"]) -> int:
    """List what a study can name."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("name", no_wrap=True)
    table.add_column("what it is")
    if what == "methods":
        from fewtune.methods import METHODS, get_method

        for name in METHODS:
            table.add_row(name, get_method(name).summary)
    elif what == "tasks":
        from fewtune.tasks import TASKS, get_task_module

        for name in TASKS:
            table.add_row(name, get_task_module(name).SUMMARY)
    else:
        from fewtune.models import CATALOGUE

        for entry in CATALOGUE.values():
            table.add_row(entry.name, entry.summary)
        table.add_row("owner/name", "any causal language model on the Hugging Face hub, saved as safetensors")
        table.add_row("a/folder", "a local folder with config.json, *.safetensors and its tokenizer")
    _console.print(table)
    return 0


@app.command
def schema() -> int:
    """Print the JSON Schema of a study, for editors."""
    import json

    from fewtune.study import study_schema

    print(json.dumps(study_schema(), indent=1))
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (the process's own arguments where None); a user's mistake exits with 2."""
    replace_unshowable()
    try:
        given = sys.argv[1:] if arguments is None else list(arguments)
        with raise_on_signals():
            code = app(given, result_action="return_value", exit_on_error=False)
    except CycloptsError:
        code = 2  # Cyclopts has printed what is wrong with the arguments
    except FewtuneError as error:
        _say(f"fewtune: {error}", _errors)
        code = 2
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("fewtune"):
            raise
        _say(
            f"fewtune: {error.name} is not installed, and this command needs it: pip install 'fewtune[run]' (from a "
            "clone: pip install '.[run]'). `report`, `audit`, `recommend` and `watch` do without it.",
            _errors,
        )
        code = 2
    except OSError as error:
        place = error.filename or "a file"
        _say(f"fewtune: {place}: {error.strerror or error}.", _errors)
        code = 2
    except KeyboardInterrupt as stopped:
        _complain(f"{word_interrupt(stopped)}.")
        code = exit_code(stopped)
    sys.exit(code if isinstance(code, int) else 0)


def _load(path: Path, overrides: list[str] | None) -> Study:
    from fewtune.study import load_study

    return load_study(path, overrides or [])


def parse_bytes(text: str) -> int:
    """Bytes from a number with a unit of 1000 (kB, MB, GB) or 1024 (KiB, MiB, GiB), or none."""
    found = re.fullmatch(r"\s*(\d{1,18}(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if found is None or found.group(2) not in BYTES or float(found.group(1)) == 0:
        units = ", ".join(unit for unit in BYTES if unit)
        raise FewtuneError(
            f"--max-memory is {shorten(text)!r}; give a number of bytes above 0, of 18 digits at most, or one with a "
            f"unit: {units}."
        )
    return int(float(found.group(1)) * BYTES[found.group(2)])


def _say(text: str, console: Console = _console) -> None:
    console.print(make_text(text), soft_wrap=True)


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # a terminal that hung up shows nothing any more
        _say(text, _errors)


def _say_skips(jobs: Sequence[Job]) -> None:
    """Say which methods cannot be used on which model, and why, before anything runs."""
    trials = Counter((job.trial.method.variant, next(iter(job.weights), ""), job.skip_reason) for job in jobs)
    for (variant, model, reason), count in trials.items():
        if reason is not None:
            _say(f"{variant} on {model or 'no model'} will be skipped ({count} trials): {reason}")


def _show_profile(out: Path, jobs: Sequence[Job], todo: Sequence[Job], meter: Meter, workers: int) -> None:
    """Show where this run's time went; of a study done before, where its trials' time went then."""
    from fewtune.records import load_records
    from fewtune.report.profile import CommandSeconds, show_profile

    spent, asked = meter.seconds(), {job.trial_id for job in todo}
    records = load_records(out)
    ran = [record for record in records if record.trial_id in asked and record.status != "skipped"]
    if ran:
        command = CommandSeconds(
            check=spent["check"],
            run=spent["run"],
            analyse=spent["analyse"],
            rest=spent["other"],
            workers=min(workers, len(todo)),
        )
        show_profile(_console, ran, command, reused=len(jobs) - len(todo))
    else:
        show_profile(_console, records)


if __name__ == "__main__":
    main()
