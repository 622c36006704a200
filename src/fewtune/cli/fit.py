"""`fewtune fit`: the best model in reach from one labelled file, or from a finished study's choice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from fewtune.cli.fit_options import BUDGET, Calibration, ChoiceOptions, ColumnOptions, Source
from fewtune.cli.options import make_flag
from fewtune.cli.output import console, say, say_error, say_to_copy
from fewtune.errors import FewtuneError, UnwrittenError
from fewtune.plurals import pluralise
from fewtune.system.durations import parse_seconds
from fewtune.system.failure_kinds import find_system_error

if TYPE_CHECKING:
    from fewtune.fitting.candidates import Candidate, Portfolio
    from fewtune.fitting.labelled_file import LabelledFile
    from fewtune.fitting.terms import ModelLimits
    from fewtune.tasks.base import Task

LEAST_ROOM = 1 << 16
"""Bytes that any model takes with its card: a disk without so many is told before hours of fitting."""


@dataclass(frozen=True)
class _Asked:
    """What is fitted on which rows, and how that came about."""

    task: Task
    portfolio: Portfolio
    max_tokens: int | None = None
    found: Mapping[str, Any] = field(default_factory=dict)
    """What the model's card tells of the choice."""
    seconds: float | None = None
    """What the whole may take."""


def fit(
    train: Annotated[Path | None, Parameter(help="The labelled rows: CSV, TSV, JSON Lines or Parquet.")] = None,
    /,
    *,
    save: Annotated[Path, Parameter(help="New folder for the model.")],
    columns: ColumnOptions = ColumnOptions(),
    choice: ChoiceOptions = ChoiceOptions(),
    calibration: Calibration = Calibration(),
    source: Source = Source(),
    force: Annotated[
        bool, make_flag("End with code 0 even where the model is not clearly above always answering one label.")
    ] = False,
) -> int:
    """Try what suits your rows, fit the best of it on all of them, calibrate and save the model.

    With --from it is what a finished study chose. Killed, the same command goes on where it stopped.
    """
    began = time.perf_counter()
    from fewtune.running.executors.process import set_up_here

    set_up_here()  # for the fits of this process, before torch is imported
    from fewtune.analysis.decision import WITHIN
    from fewtune.cli.fit_display import CURVE, WORK, name_beside, save_with_card, show_rows, show_summary
    from fewtune.cli.predict import tell_cut
    from fewtune.fitting.fold_answers import WorkFolder
    from fewtune.fitting.model import make_model
    from fewtune.fitting.panel import FitPanel
    from fewtune.fitting.terms import Terms

    source.check(train, columns, choice, calibration)
    seconds, limits = choice.check(), choice.read_limits()
    calibration.check()
    save = _make_room(save, calibration, columns)
    file: LabelledFile | None = None
    if train is None:
        asked = _take_study(source, seconds)
    else:
        file = _name_file(train, columns, choice)
        asked = _take_file(file, choice, seconds, limits)
    _check_rows(asked.task, file, columns, calibration)
    if file is not None:
        show_rows(asked.task, asked.portfolio, choice.max_tokens)
    terms = Terms(
        within=WITHIN if choice.within is None else choice.within,
        seconds=asked.seconds,
        seed=choice.seed,
        folds=calibration.folds,
        risk=calibration.abstain_at,
        max_tokens=asked.max_tokens,
        limits=limits,
        none_label=calibration.none_label,
    )
    work = WorkFolder(name_beside(save, WORK))
    with FitPanel(console, began, choice.verbose) as panel:
        fitted = make_model(asked.task, asked.portfolio, terms, began, work, panel.hear, panel.count_step, asked.found)
    save_with_card(fitted, save)
    work.remove()
    with _saved(save):
        tell_cut(fitted.predictor)
        is_clear = show_summary(fitted, save, columns.unlabelled)
        if calibration.curve and file is not None:
            weights = {} if fitted.choice is None else fitted.choice.members
            _trace(file, weights, asked, name_beside(save, CURVE))
    say_to_copy(f"model: {save} (fewtune predict {save} ROWS)")
    if fitted.refused is not None:
        return 1
    return 0 if is_clear or force else 1


def _make_room(save: Path, calibration: Calibration, columns: ColumnOptions) -> Path:
    """Where the model goes, with a folder that can be written to around it, and nothing in its way."""
    from fewtune.cli.fit_display import CURVE, LABEL_NEXT, SUSPECTS, name_beside
    from fewtune.records import check_room, is_empty

    place = save if save.name not in ("", "..") else save.resolve()
    if place.exists() and not (place.is_dir() and is_empty(place)):
        raise FewtuneError(f"{save} exists and is not empty: give --save a new folder.")
    wanted = [SUSPECTS] if calibration.folds != 0 else []
    wanted += [LABEL_NEXT] if columns.unlabelled is not None else []
    wanted += [CURVE] if calibration.curve else []
    there = [str(beside) for beside in (name_beside(place, what) for what in wanted) if beside.exists()]
    if there:
        many = len(there) > 1
        raise FewtuneError(
            f"{', '.join(there)} exist{'' if many else 's'}, of an earlier fit: move {'them' if many else 'it'} away, "
            "or give --save another name."
        )
    check_room(place, LEAST_ROOM)
    return place


@contextlib.contextmanager
def _saved(save: Path) -> Iterator[None]:
    """What fails within, the model is whole in its folder, and the message says so: this command is not given again."""
    try:
        yield
    except FewtuneError as error:
        told, unwritten = str(error), find_system_error(error)
        if isinstance(unwritten, UnwrittenError):
            told = f"{unwritten.filename}: it could not be written ({unwritten.strerror})."
        again = "To have this too, mend that and fit again under another --save."
        raise FewtuneError(f"{told} The model in {save} is whole. {again}") from error


def _name_file(train: Path, columns: ColumnOptions, choice: ChoiceOptions) -> LabelledFile:
    from fewtune.fitting.labelled_file import LabelledFile

    return LabelledFile(
        train,
        None if columns.text is None else tuple(columns.text),
        columns.label,
        _read_tests(columns.test or []),
        columns.conflicts,
        columns.missing,
        choice.metric,
    )


def _check_rows(task: Task, file: LabelledFile | None, columns: ColumnOptions, calibration: Calibration) -> None:
    """Refuse curves that the rows are too few for, and unlabelled rows of none, before anything runs."""
    from fewtune.fitting.growth import choose_sizes
    from fewtune.predictors.rows import read_row_texts

    if columns.unlabelled is not None:
        read_row_texts(columns.unlabelled, task.fields)
    if calibration.curve and file is not None:
        choose_sizes(file.read(hold_out=True))


def _take_file(file: LabelledFile, choice: ChoiceOptions, seconds: float | None, limits: ModelLimits) -> _Asked:
    """What suits a file's rows, or is named."""
    from fewtune.fitting.candidates import list_candidates
    from fewtune.models import format_terms

    task = file.read()
    portfolio = list_candidates(task, tuple(choice.model or ()), choice.methods, choice.fast, limits)
    models = [each.model for each in portfolio.candidates if each.model is not None]
    for note in (*format_terms(models), *task.notes):
        say(note)
    for each in portfolio.left_out:
        say_error(f"{each.name} is left out: {each.reason}")
    if seconds is None and len(portfolio.candidates) > 1:
        seconds = parse_seconds("--budget", BUDGET)
    return _Asked(task, portfolio, choice.max_tokens, seconds=seconds)


def _take_study(source: Source, seconds: float | None) -> _Asked:
    """What a finished study chose."""
    from dataclasses import replace

    from fewtune.fitting.candidates import Candidate, Portfolio
    from fewtune.fitting.study_choice import read_choice
    from fewtune.report.findings import format_outcome
    from fewtune.report.wording import format_decision, format_question

    assert source.from_ is not None  # as `check` has it where there is no file
    choice = read_choice(source.from_, source.task, source.data_dir, say)
    decision = format_decision(choice.decision)
    say(f"{format_question(choice.decision)}: {decision}")
    task = _take_some(choice.task, source.rows)
    shots, rows = choice.decision.question.shots, len(task.train)
    told = f"The study compared methods fitted on {pluralise(shots, 'row')}. This model is fitted on "
    told += f"{'all ' if source.rows is None else ''}{pluralise(rows, 'row')}, where another method may be better."
    say(told)
    findings = [f"{each.severity}, {each.rule}: {each.reason}" for each in choice.result.findings]
    audit = format_outcome(choice.result.findings)
    found = {"decision": decision, "audit": audit, "findings": findings, "raced": told}
    task = replace(task, test_sets=())  # the study measured what its methods make of them
    chosen: Candidate = Candidate(choice.method, choice.model, choice.settings)
    return _Asked(task, Portfolio((chosen,)), choice.max_tokens, found, seconds)


def _take_some(task: Task, rows: int | None) -> Task:
    """The task with so many of its training rows, in the labels' own shares; None: all."""
    from dataclasses import replace

    from fewtune.tasks.build import fingerprint_rows
    from fewtune.tasks.draw import Sampling, check_sampling, make_draw

    if rows is None or rows >= len(task.train):
        return task
    sampling = Sampling(rows, balanced=False, stratified=True, in_domain_rows=1, out_of_domain_rows=1)
    check_sampling(task, sampling)
    some = make_draw(task, sampling, 0).support
    return replace(task, train=some, fingerprint=fingerprint_rows(some, ()))


def _trace(file: LabelledFile, weights: Mapping[str, float], asked: _Asked, out: Path) -> None:
    """Trace the learning curve of the candidate that counts most in what was fitted; without weights there is one."""
    from fewtune.cli.fit_display import show_growth
    from fewtune.cli.run_display import RunDisplay
    from fewtune.fitting.growth import trace_growth

    candidates = {each.name: each for each in asked.portfolio.candidates}
    candidate = candidates[max(candidates, key=lambda name: weights.get(name, 0.0))]
    say(f"Tracing the learning curve of {candidate.name} …")
    with RunDisplay(console, time.perf_counter()) as display:
        growth = trace_growth(
            file,
            candidate.method,
            candidate.model,
            candidate.settings,
            out,
            on_event=display.hear,
            max_tokens=asked.max_tokens,
        )
    show_growth(growth, out)


def _read_tests(given: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for each in given:
        name, found_equals, path = each.partition("=")
        key, place = (name, path) if found_equals else ("in_domain", each)
        if key in found:
            raise FewtuneError(f"--test names {key!r} twice: give each set of test rows a name of its own, NAME=FILE.")
        found[key] = Path(place)
    return found
