"""`fewtune fit`: one labelled file in, or a finished study; a calibrated, saved model out, and what its rows say."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from fewtune.causes import find_system_error
from fewtune.cli.fit_options import Calibration, Choice, Columns, Source
from fewtune.cli.output import console, count_steps, say, say_to_copy
from fewtune.errors import FewtuneError, UnwrittenError
from fewtune.plurals import word_number

if TYPE_CHECKING:
    from fewtune.analysis.decision import Decision
    from fewtune.auto import LabelledFile
    from fewtune.records import Record
    from fewtune.results import StudyResult
    from fewtune.tasks.base import Task

LEAST_ROOM = 1 << 16
"""Bytes that any model takes with its card: a disk without so many is told before hours of fitting."""
WORTH_SAYING = 60.0
"""Seconds from which on it is said before how long the folds and the last fit take."""


@dataclass(frozen=True)
class _Chosen:
    """What is fitted on which rows, and how that came about."""

    task: Task
    method: str
    model: str | None
    settings: Mapping[str, Any] | None = None
    """A study's; None: those that the method races with."""
    max_tokens: int | None = None
    found: Mapping[str, Any] = field(default_factory=dict)
    """What the model's card tells of the choice."""
    trials: Sequence[Record] = ()
    """The method's, where it was chosen by some."""


def fit(
    train: Annotated[Path | None, Parameter(help="The labelled rows: CSV, TSV, JSON Lines or Parquet.")] = None,
    /,
    *,
    save: Annotated[Path, Parameter(help="New folder for the model.")],
    columns: Columns = Columns(),
    choice: Choice = Choice(),
    calibration: Calibration = Calibration(),
    source: Source = Source(),
) -> int:
    """Choose a method by a race on splits of your rows, fit it on all of them, calibrate and save the model.

    With --from it is what a finished study chose.
    """
    began = time.perf_counter()
    from fewtune.executors.process import set_up_here

    set_up_here()  # for the fits of this process, before torch is imported
    from fewtune.cli.fit_display import (
        CURVE,
        RACE,
        name_beside,
        save_with_card,
        show_folds,
        show_tests,
        show_unlabelled,
    )
    from fewtune.cli.predict import tell_cut
    from fewtune.fitted import Recipe, fit_file
    from fewtune.models import place_model

    source.check(train, columns, choice, calibration)
    minutes = choice.check()
    calibration.check()
    save = _make_room(save, choice.out, calibration, columns)
    file: LabelledFile | None = None
    if train is None:
        chosen = _take_study(source)
        _check_rows(chosen.task, columns, calibration)
    else:
        choice = replace(choice, model=place_model(choice.model))
        file = _name_file(train, columns, choice)
        task = file.read()
        _check_rows(task, columns, calibration)
        if choice.method == "auto":
            folder = name_beside(save, RACE) if choice.out is None else choice.out
            chosen = _take_race(_race(file, choice, folder, minutes, began), task, choice)
        else:
            chosen = _take_named(file, task, choice)
    _foresee(chosen, calibration)
    recipe = Recipe(
        method=chosen.method,
        model=chosen.model,
        seed=choice.seed,
        folds=calibration.folds,
        risk=calibration.abstain_at,
        settings=chosen.settings,
        max_tokens=chosen.max_tokens,
    )
    with count_steps() as on_step:
        fitted = fit_file(chosen.task, recipe, chosen.found, say, on_step)
    save_with_card(fitted, save)
    with _saved(save):
        tell_cut(fitted.predictor)
        show_folds(fitted, save)
        show_tests(fitted)
        if columns.unlabelled is not None:
            show_unlabelled(fitted, columns.unlabelled, save)
        if calibration.curve and file is not None:
            _trace(file, chosen, name_beside(save, CURVE))
    say_to_copy(f"model: {save} (fewtune predict {save} ROWS)")
    return 0 if fitted.refused is None else 1


def _make_room(save: Path, out: Path | None, calibration: Calibration, columns: Columns) -> Path:
    """Where the model goes, with a folder that can be written to around it, and nothing in its way."""
    from fewtune.cli.fit_display import CURVE, LABEL_NEXT, SUSPECTS, name_beside
    from fewtune.records import check_room, is_empty

    place = save if save.name not in ("", "..") else save.resolve()
    if place.exists() and not (place.is_dir() and is_empty(place)):
        raise FewtuneError(f"{save} exists and is not empty: give --save a new folder.")
    if out is not None and out.resolve().is_relative_to(place.resolve()):
        raise FewtuneError(f"--out {out} lies in the model's folder, --save {save}: give the race a folder of its own.")
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


def _name_file(train: Path, columns: Columns, choice: Choice) -> LabelledFile:
    from fewtune.auto import LabelledFile

    return LabelledFile(
        train,
        None if columns.text is None else tuple(columns.text),
        columns.label,
        _read_tests(columns.test or []),
        columns.conflicts,
        columns.missing,
        choice.metric,
    )


def _check_rows(task: Task, columns: Columns, calibration: Calibration) -> None:
    """Refuse folds and curves that the rows are too few for, and unlabelled rows of none, before anything runs."""
    from fewtune.auto import choose_sizes
    from fewtune.predictors.rows import read_texts
    from fewtune.running.fold_scores import check_folds

    if columns.unlabelled is not None:
        read_texts(columns.unlabelled, task.fields)
    if calibration.folds:
        check_folds([task.labels[row.label] for row in task.train if row.label is not None], calibration.folds)
    if calibration.curve:
        choose_sizes(task)


def _take_named(file: LabelledFile, task: Task, choice: Choice) -> _Chosen:
    """The method that is named."""
    from fewtune.methods import get_method
    from fewtune.models import word_terms
    from fewtune.tasks.base import IN_DOMAIN

    for note in (*word_terms([choice.model] if choice.model else []), *task.notes):
        # A race tells them itself, and how it splits rows is no matter of one fit's.
        if IN_DOMAIN in file.tests or not note.startswith(f"{IN_DOMAIN}:"):
            say(note)
    known = get_method(choice.method)  # which refuses an unknown one
    model = choice.model if known.uses_model else None
    return _Chosen(task, choice.method, model, max_tokens=choice.max_tokens)


def _race(file: LabelledFile, choice: Choice, folder: Path, minutes: float, began: float) -> StudyResult:
    from fewtune.auto import race_methods
    from fewtune.cli.report import show_report
    from fewtune.cli.run_display import RunDisplay

    with RunDisplay(console, began) as display:
        result = race_methods(
            file, choice.model, folder, choice.within, minutes, on_event=display.hear, max_tokens=choice.max_tokens
        )
    show_report(result)
    return result


def _take_race(result: StudyResult, task: Task, choice: Choice) -> _Chosen:
    """The method that a race chose; raises FewtuneError where that is none that learns."""
    from fewtune.auto import choose_method, word_nothing_learnt, word_raced_rows
    from fewtune.methods import get_method

    method = choose_method(result.decision)
    if get_method(method).constant:
        raise FewtuneError(word_nothing_learnt(result.decision))
    told = word_raced_rows(task)
    say(told)
    trials = [record for record in result.records if record.trial.variant == method]
    model = choice.model if get_method(method).uses_model else None
    found = {**_tell_choice(result, result.decision), "raced": told}
    return _Chosen(task, method, model, max_tokens=choice.max_tokens, found=found, trials=trials)


def _take_study(source: Source) -> _Chosen:
    """What a finished study chose."""
    from fewtune.report.wording import word_decision, word_question
    from fewtune.study_choice import read_choice

    assert source.from_ is not None  # as `check` has it where there is no file
    choice = read_choice(source.from_, source.task, source.data_dir, say)
    say(f"{word_question(choice.decision)}: {word_decision(choice.decision)}")
    shots, rows = choice.decision.question.shots, len(choice.task.train)
    told = f"The study's trials were fitted on {word_number(shots, 'row')}, and these figures are for so many: "
    told += f"on all {rows} methods may stand otherwise."
    say(told)
    found = {**_tell_choice(choice.result, choice.decision), "raced": told}
    task = replace(choice.task, test_sets=())  # the study measured what its methods make of them
    return _Chosen(task, choice.method, choice.model, choice.settings, choice.max_tokens, found, choice.trials)


def _tell_choice(result: StudyResult, decision: Decision) -> dict[str, Any]:
    """What the model's card tells of how its method was chosen."""
    from fewtune.report.findings import word_outcome
    from fewtune.report.wording import word_decision

    findings = [f"{each.severity}, {each.rule}: {each.reason}" for each in result.findings]
    return {"decision": word_decision(decision), "audit": word_outcome(result.findings), "findings": findings}


def _foresee(chosen: _Chosen, calibration: Calibration) -> None:
    """Say how long the folds and the last fit take, by what the trials took, where that is long."""
    from fewtune.auto import choose_settings
    from fewtune.fit_forecast import foresee_seconds
    from fewtune.report.wording import word_about
    from fewtune.running.fold_scores import choose_folds

    labels = [chosen.task.labels[row.label] for row in chosen.task.train if row.label is not None]
    folds = choose_folds(labels) if calibration.folds is None else calibration.folds
    settings = chosen.settings
    if settings is None:
        settings = choose_settings(chosen.method, len(labels), chosen.model)
    seconds = foresee_seconds(chosen.trials, settings, len(labels), folds)
    if seconds is not None and seconds >= WORTH_SAYING:
        what = "Folds and the last fit go" if folds else "The last fit goes"
        once = "; --folds 0 fits once, and calibrates nothing" if folds else ""
        say(f"{what} through all {word_number(len(labels), 'row')}: {word_about(seconds)}{once}.")


def _trace(file: LabelledFile, chosen: _Chosen, out: Path) -> None:
    from fewtune.auto import trace_growth
    from fewtune.cli.fit_display import show_growth
    from fewtune.cli.run_display import RunDisplay

    say("Tracing the learning curve …")
    with RunDisplay(console, time.perf_counter()) as display:
        growth = trace_growth(
            file, chosen.method, chosen.model, out, on_event=display.hear, max_tokens=chosen.max_tokens
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
