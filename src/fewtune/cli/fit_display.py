"""Display of `fewtune fit`: the saved model with its card, and how well it answered rows it was not fitted on.

Owns tables and files. Texts go to files beside the model, never into it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fewtune.cli.output import console, say, say_error
from fewtune.errors import shorten
from fewtune.plurals import pluralise
from fewtune.system.terminal import make_text

if TYPE_CHECKING:
    from fewtune.analysis.growth import Growth
    from fewtune.fitting.candidates import Portfolio
    from fewtune.fitting.model import FittedFile
    from fewtune.tasks.base import Task

MOST_SHOWN = 10
"""Rows that are shown; files hold all."""
SUSPECTS, LABEL_NEXT, CURVE, WORK = "suspects.csv", "label-next.csv", "curve", "unfinished"
"""What stands beside a model, its name before theirs."""


def name_beside(save: Path, what: str) -> Path:
    """The path of what stands beside a model."""
    return save.with_name(f"{save.name}-{what}")


def save_with_card(fitted: FittedFile, save: Path) -> None:
    """Write the model, its card and the picture of its calibration."""
    from fewtune.fitting.model_card import add_card
    from fewtune.predictors.model_folder import saving

    picture = None
    if fitted.probabilities is not None:
        from fewtune.metrics.reliability import bin_answers
        from fewtune.report.reliability import specify_reliability
        from fewtune.report.svg import export_svg

        series = {"out of fold, calibrated": bin_answers(fitted.probabilities, fitted.gold[fitted.judged])}
        picture = export_svg(specify_reliability(series))
    predictor = fitted.predictor
    named = json.dumps({field: f"Its {field}." for field in predictor.fields}, ensure_ascii=False)
    row = '"A text of yours."' if len(predictor.fields) == 1 else named
    asked = f"predictor.predict([{row}])" + ("  # None where it abstains" if predictor.abstention is not None else "")
    read = 'predictor = fewtune.load(".")  # the folder where this file lies'
    loading = [f"```python\nimport fewtune\n\n{read}\n{asked}\n```"]
    with saving(predictor, save) as (finished, manifest):
        add_card(finished, manifest, loading, picture)


def show_rows(task: Task, portfolio: Portfolio, max_tokens: int | None) -> None:
    """Show what the rows are, and what the candidates' models read of them, before anything is fitted."""
    from fewtune.fitting.row_look import format_row_look, look_at_rows, read_model_facts

    models = dict.fromkeys(each.model for each in portfolio.candidates if each.model is not None)
    for line in format_row_look(look_at_rows(task, [read_model_facts(model, max_tokens) for model in models])):
        say(line)


def show_summary(fitted: FittedFile, save: Path, unlabelled: Path | None) -> bool:
    """Show what was chosen, what the model is worth and what its rows say; whether it is clearly above one answer."""
    from fewtune.report.model_choice import format_kept_choice, format_stated

    predictor = fitted.predictor
    if fitted.refused is not None:
        say_error(f"The model always answers: {fitted.refused}")
    is_clear = True
    if fitted.probabilities is not None:
        _show_candidates(predictor.origin["choice"])
        say(format_kept_choice(predictor.origin["choice"]))
        say(format_stated(predictor.origin["choice"]))
        is_clear = _show_folds(fitted, save)
    show_tests(fitted)
    if unlabelled is not None:
        show_unlabelled(fitted, unlabelled, save)
    return is_clear


def _show_candidates(choice: Mapping[str, Any]) -> None:
    """The candidates side by side, where there were several."""
    if len(choice["candidates"]) < 2:
        return
    from fewtune.report.wording import format_lost, format_seconds

    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("candidate")
    for name in (choice["metric"], "expected loss", "a fold's fit", "a row"):
        table.add_column(name, justify="right")
    for each in choice["candidates"]:
        rows = "" if each["rows"] == choice["rows"] else f" of {each['rows']} rows"
        table.add_row(
            make_text(each["name"]),
            f"{each['score']:.3f}{rows}",
            format_lost(each["expected_loss"]),
            format_seconds(each["fit_seconds"]),
            format_seconds(each["row_seconds"]),
        )
    console.print(table)


def _show_folds(fitted: FittedFile, save: Path) -> bool:
    """Show what the folds say: calibration, abstention, labels that look wrong; whether the model is clearly above
    always answering one label.
    """
    from fewtune.fitting.model_card import format_abstention
    from fewtune.fitting.suspects import find_suspects, put_before, write_csv_rows
    from fewtune.report.model_choice import format_mistakes, format_none_label

    assert fitted.probabilities is not None
    predictor, learnt = fitted.predictor, fitted.predictor.origin["out_of_fold"]
    say(
        f"Calibrated on {pluralise(learnt['rows'], 'row')} that the folds' models had not seen: temperature "
        f"{learnt['temperature']:.3g}, expected calibration error {learnt['after']['ece']:.3f}."
    )
    if "none_label" in predictor.origin:
        say(format_none_label(predictor.origin["none_label"]))
    for line in format_mistakes(learnt):
        say(line)
    if predictor.abstention is not None:
        say(format_abstention(predictor.abstention))
    if fitted.unclear is not None:
        forced = "" if fitted.refused is not None else " With --force the command ends with code 0 all the same."
        say_error(f"{fitted.unclear}{forced}")
        return False
    gold = fitted.gold[fitted.judged]
    suspects = find_suspects(fitted.probabilities, gold)
    if not suspects:
        return True
    rows = [
        put_before(
            fitted.rows[fitted.judged[place]],
            row=fitted.numbers[fitted.judged[place]],
            label=predictor.labels[gold[place]],
            probability=f"{fitted.probabilities[place, gold[place]]:.4f}",
            likelier=predictor.labels[int(fitted.probabilities[place].argmax())],
        )
        for place in suspects
    ]
    path = name_beside(save, SUSPECTS)
    write_csv_rows(path, rows)
    say(f"{pluralise(len(rows), 'row')} whose label looks wrong to models that had not seen them, in {path}:")
    _show_rows(rows, predictor.fields)
    return True


def show_tests(fitted: FittedFile) -> None:
    """Show what the model makes of the files of test rows."""
    for name, found in fitted.predictor.origin.get("tests", {}).items():
        mean, low, high = found["metrics"]["accuracy"]
        say(f"Accuracy on {name}, {pluralise(found['rows'], 'row')}: {mean:.3f} [{low:.3f}, {high:.3f}].")


def show_growth(growth: Growth, out: Path) -> None:
    """Say what twice as many rows are expected to bring."""
    say(
        f"Mean score with {growth.shots} rows: {growth.score:.3f} ({growth.fitted:.3f} on the fitted curve). Expected "
        f"with {2 * growth.shots}: {growth.expected:.3f} [{growth.low:.3f}, {growth.high:.3f}], "
        f"{100 * growth.gain:+z.1f} points along the curve. Learning curve: {out}/report.html"
    )


def show_unlabelled(fitted: FittedFile, unlabelled: Path, save: Path) -> None:
    """Show which rows a label is worth most for."""
    from fewtune.fitting.suspects import order_by_margin, put_before, write_csv_rows
    from fewtune.predictors.rows import read_row_texts

    predictor = fitted.predictor
    texts = read_row_texts(unlabelled, predictor.fields)
    probabilities = predictor.predict_probabilities(texts)
    rows = [
        put_before(
            texts[place],
            row=place + 1,
            likeliest=predictor.labels[int(probabilities[place].argmax())],
            probability=f"{probabilities[place].max():.4f}",
        )
        for place in order_by_margin(probabilities)
    ]
    path = name_beside(save, LABEL_NEXT)
    write_csv_rows(path, rows)
    say(f"{pluralise(len(rows), 'row')} without labels in {path}, the most useful to label first:")
    _show_rows(rows, predictor.fields)


def _show_rows(rows: list[dict[str, Any]], fields: tuple[str, ...]) -> None:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for name in rows[0]:
        table.add_column(make_text(name), justify="right" if name == "row" else "left", overflow="fold")
    for row in rows[:MOST_SHOWN]:
        table.add_row(
            *(make_text(shorten(str(value)) if name in fields else str(value)) for name, value in row.items())
        )
    console.print(table)
