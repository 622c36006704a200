"""`fewtune fit`: one labelled file in, a calibrated, saved model out, and what the rows themselves say."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from fewtune.cli.options import check_number, check_share
from fewtune.cli.output import console, say
from fewtune.durations import parse_seconds
from fewtune.errors import FewtuneError, list_names

if TYPE_CHECKING:
    from fewtune.auto import LabelledFile

TEST_HELP = "Test rows, as FILE (in domain) or NAME=FILE (out of domain); splits of the training rows where none."
RACE_BUDGET = "15m"
MOST_FOLDS = 20
LARGEST_SEED = 2**32 - 1


@Parameter(name="*")
@dataclass(frozen=True)
class Columns:
    """Which columns are read, and where other rows are."""

    text: Annotated[list[str] | None, Parameter(help="The column of texts, or both of two.")] = None
    label: Annotated[
        str | None, Parameter(help="The column of labels; `label`, or the one that repeats few values, if not given.")
    ] = None
    test: Annotated[list[str] | None, Parameter(help=TEST_HELP)] = None
    conflicts: Annotated[
        Literal["drop", "refuse"],
        Parameter(
            help="Rows of one text with different labels: leave all of them out of what is trained on, or stop; both "
            "list them, and those of test files."
        ),
    ] = "drop"
    unlabelled: Annotated[
        Path | None, Parameter(help="Rows without labels, to be put in the order in which labels are worth most.")
    ] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Choice:
    """What is fitted, and how it is chosen."""

    method: Annotated[str, Parameter(help="A method, or auto: those that suit race, and one is chosen.")] = "auto"
    model: Annotated[str, Parameter(help="The language model.")] = "smollm2-135m"
    seed: Annotated[int, Parameter(help="Seed of the last fit.")] = 0
    within: Annotated[
        float | None, Parameter(help="How far below the best the choice may be: 0.03 is three points.")
    ] = None
    budget: Annotated[
        str | None, Parameter(help=f"Time that the race may take, as 90s, 15m or 2h; {RACE_BUDGET} if not given.")
    ] = None
    out: Annotated[Path | None, Parameter(help="Folder of the race's records; the model's with -race behind.")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Calibration:
    """What folds of the rows are used for."""

    folds: Annotated[
        int | None,
        Parameter(
            help="Parts of the rows, each answered by a model fitted on the others; 0: no calibration; 3 if not given, "
            "or as many as the rarest label has rows."
        ),
    ] = None
    abstain_at: Annotated[
        float | None, Parameter(help="Say nothing where unsure, so that at most this share of answers is wrong.")
    ] = None
    curve: Annotated[
        bool,
        Parameter(negative="", help="Fit on more and more of the rows, and say what twice as many would bring."),
    ] = False


def fit(
    train: Annotated[Path, Parameter(help="The labelled rows: CSV, TSV, JSON Lines or Parquet.")],
    *,
    save: Annotated[Path, Parameter(help="New folder for the model.")],
    columns: Columns = Columns(),
    choice: Choice = Choice(),
    calibration: Calibration = Calibration(),
) -> int:
    """Choose a method by a race on splits of your rows, fit it on all of them, calibrate and save the model."""
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
    from fewtune.methods import get_method
    from fewtune.models import place_model, word_terms
    from fewtune.tasks.base import IN_DOMAIN

    minutes = _check(choice, calibration)
    save = _make_room(save, choice.out, calibration, columns)
    choice = replace(choice, model=place_model(choice.model))
    file, notes = _read_file(train, columns)
    _check_rows(file, calibration)
    method, found = choice.method, dict[str, Any]()
    if method == "auto":
        folder = name_beside(save, RACE) if choice.out is None else choice.out
        method, found = _race(file, choice, folder, minutes, began)
    else:
        notes = (*word_terms([choice.model] if choice.model else []), *notes)
        for note in notes:  # a race tells them itself, and how it splits rows is no matter of one fit's
            if IN_DOMAIN in file.tests or not note.startswith(f"{IN_DOMAIN}:"):
                say(note)
    known = get_method(method)  # which refuses an unknown one
    model = choice.model if known.uses_model else None
    recipe = Recipe(method, model, choice.seed, calibration.folds, calibration.abstain_at)
    fitted = fit_file(file, recipe, found, say)
    save_with_card(fitted, save)
    tell_cut(fitted.predictor)
    show_folds(fitted, save)
    show_tests(fitted)
    if columns.unlabelled is not None:
        show_unlabelled(fitted, columns.unlabelled, save)
    if calibration.curve:
        _trace(file, method, model, name_beside(save, CURVE))
    say(f"model: {save} (fewtune predict {save} ROWS)")
    return 0 if fitted.refused is None else 1


def _make_room(save: Path, out: Path | None, calibration: Calibration, columns: Columns) -> Path:
    """Where the model goes, with a folder that can be written to around it, and nothing in its way."""
    from fewtune.cli.fit_display import CURVE, LABEL_NEXT, SUSPECTS, name_beside

    place = save if save.name not in ("", "..") else save.resolve()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise FewtuneError(f"{save} exists and is not empty: give --save a new folder.")
    if out is not None and out.resolve().is_relative_to(place.resolve()):
        raise FewtuneError(f"--out {out} lies in the model's folder, --save {save}: give the race a folder of its own.")
    wanted = [SUSPECTS] if calibration.folds != 0 else []
    wanted += [LABEL_NEXT] if columns.unlabelled is not None else []
    wanted += [CURVE] if calibration.curve else []
    for beside in (name_beside(place, what) for what in wanted):
        if beside.exists():
            raise FewtuneError(f"{beside} exists, of an earlier fit: move it away, or give --save another name.")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=place.parent).cleanup()
    except OSError as error:
        raise FewtuneError(f"{place.parent}: nothing can be written there ({error.strerror}).") from error
    return place


def _read_file(train: Path, columns: Columns) -> tuple[LabelledFile, Sequence[str]]:
    """The file to fit on, and what is to be known of its rows; what cannot be used is told before anything runs."""
    from fewtune.auto import LabelledFile
    from fewtune.predictors.rows import read_texts

    text = None if columns.text is None else tuple(columns.text)
    file = LabelledFile(train, text, columns.label, _read_tests(columns.test or []), columns.conflicts)
    task = file.read()
    if columns.unlabelled is not None:
        read_texts(columns.unlabelled, task.fields)
    return file, task.notes


def _check(choice: Choice, calibration: Calibration) -> float:
    """The race's minutes; refuse what is out of range."""
    check_share("--within", choice.within, "take the best alone")
    check_number("--seed", choice.seed, 0, LARGEST_SEED)
    if calibration.folds is not None:
        check_number("--folds", calibration.folds, 0, MOST_FOLDS)
    risk = calibration.abstain_at
    if risk is not None and not 0 < risk < 1:
        raise FewtuneError(f"--abstain-at is {risk:g}; give a share of wrong answers above 0 and under 1.")
    if risk is not None and calibration.folds == 0:
        raise FewtuneError("--abstain-at needs folds of the rows to choose its threshold by: give --folds 2 or more.")
    of_races = {"--within": choice.within, "--budget": choice.budget, "--out": choice.out}
    given = [name for name, value in of_races.items() if value is not None]
    if choice.method != "auto" and given:
        raise FewtuneError(
            f"{list_names(given)}: for the race of --method auto, and --method {choice.method} runs none. Leave out "
            "what is for races."
        )
    return parse_seconds("--budget", RACE_BUDGET if choice.budget is None else choice.budget) / 60


def _check_rows(file: LabelledFile, calibration: Calibration) -> None:
    """Refuse folds and curves that the rows are too few for, before anything runs."""
    from fewtune.auto import choose_sizes
    from fewtune.running.fold_scores import check_folds

    task = file.read()
    if calibration.folds:
        check_folds([task.labels[row.label] for row in task.train if row.label is not None], calibration.folds)
    if calibration.curve:
        choose_sizes(task)


def _trace(file: LabelledFile, method: str, model: str | None, out: Path) -> None:
    from fewtune.auto import trace_growth
    from fewtune.cli.fit_display import show_growth
    from fewtune.cli.run_display import RunDisplay

    say("Tracing the learning curve …")
    with RunDisplay(console, time.perf_counter()) as display:
        growth = trace_growth(file, method, model, out, on_event=display.hear)
    show_growth(growth, out)


def _race(file: LabelledFile, choice: Choice, folder: Path, minutes: float, began: float) -> tuple[str, dict[str, Any]]:
    """The method that a race chose, and what the model's card tells of it."""
    from fewtune.auto import choose_method, race_methods
    from fewtune.cli.report import show_report
    from fewtune.cli.run_display import RunDisplay
    from fewtune.report.findings import word_outcome
    from fewtune.report.wording import word_decision

    with RunDisplay(console, began) as display:
        result = race_methods(file, choice.model, folder, choice.within, minutes, on_event=display.hear)
    show_report(result)
    method = choose_method(result, say)
    findings = [f"{each.severity}, {each.rule}: {each.reason}" for each in result.findings]
    decision = word_decision(result.decision)
    return method, {"decision": decision, "audit": word_outcome(result.findings), "findings": findings}


def _read_tests(given: list[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for each in given:
        name, found_equals, path = each.partition("=")
        key, place = (name, path) if found_equals else ("in_domain", each)
        if key in found:
            raise FewtuneError(f"--test names {key!r} twice: give each set of test rows a name of its own, NAME=FILE.")
        found[key] = Path(place)
    return found
