"""`fewtune evaluate`: a saved model, or two of them, on labelled rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from fewtune.cli.options import Base
from fewtune.cli.output import count_rows, say_error
from fewtune.cli.predict import Model, tell_cut
from fewtune.errors import FewtuneError, list_names
from fewtune.plurals import pluralise

if TYPE_CHECKING:
    from fewtune.predictors.rows import LabelledRows


def evaluate(
    model: Model,
    test: Annotated[Path, Parameter(help="Labelled rows.")],
    /,
    *,
    label: Annotated[
        str | None, Parameter(help="The column of labels; `label`, or the one that holds the model's, if not given.")
    ] = None,
    beside: Annotated[
        Path | None, Parameter(help="A second saved model, to be compared with the first on the same rows.")
    ] = None,
    out: Annotated[
        Path | None, Parameter(help="File to write the rows into that are answered wrong, as CSV, with all columns.")
    ] = None,
    format_: Annotated[
        Literal["text", "json"], Parameter(name="--format", help="json prints all of it as one object.")
    ] = "text",
    base: Base = None,
    beside_base: Annotated[str | None, Parameter(help="The same as --base, of the second model.")] = None,
) -> int:
    """Score a saved model on labelled rows: metrics with 95 % intervals, each label's scores, confusions.

    A row whose label the model has never seen counts as answered wrong.
    """
    from fewtune.api import load
    from fewtune.cli.evaluate_display import Report, list_wrong_rows, show_evaluation, write_report
    from fewtune.fitting.evaluation import evaluate_rows
    from fewtune.fitting.suspects import write_csv_rows
    from fewtune.predictors.rows import check_known, read_kept, read_labelled
    from fewtune.running.executors.process import set_up_here

    if beside is None and beside_base is not None:
        raise FewtuneError("--beside-base says where the base of a second model lies: give --beside with it.")
    if beside is not None and beside.resolve() == model.resolve():
        raise FewtuneError(f"--beside names the same model, {beside}: give another one.")
    if out is not None:
        _check_out(out)
    set_up_here()
    predictors = [load(model, base)] + ([] if beside is None else [load(beside, beside_base)])
    folders = [model] if beside is None else [model, beside]
    fields, labels = (_join(each) for each in ([p.fields for p in predictors], [p.labels for p in predictors]))
    rows = read_labelled(test, fields, label, labels)
    for folder, predictor in zip(folders, predictors, strict=True):
        check_known(rows, predictor.labels, "the model" if beside is None else str(folder))
    kept = [] if out is None else read_kept(rows.file)  # what cannot be written is told before hours
    with count_rows(shown=True) as count:
        answers = [evaluate_rows(predictor, rows.texts, rows.labels, count) for predictor in predictors]
    risks = [None if each.abstention is None else each.abstention.risk for each in predictors]
    report = Report(rows, tuple(folders), tuple(answers), tuple(risks))
    if format_ == "json":
        write_report(report)
    else:
        show_evaluation(report)
    if out is not None:
        columns, wrong = list_wrong_rows(report, kept)
        write_csv_rows(out, wrong, columns)
        say_error(f"{pluralise(len(wrong), 'row')} answered wrong in {out}")
        _tell_left_out(rows, out)
    for predictor in predictors:
        tell_cut(predictor)
    return 0


def _join(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in parts for name in names))


def _check_out(out: Path) -> None:
    if out.exists():
        raise FewtuneError(f"{out} exists: give --out a new file.")
    if out.suffix.lower() in (".tsv", ".jsonl", ".parquet", ".xlsx"):
        raise FewtuneError(f"{out}: rows are written as CSV. Name the file .csv.")


def _tell_left_out(rows: LabelledRows, out: Path) -> None:
    left = [name for name in rows.file.columns if name in rows.file.unreadable]
    if left:
        say_error(f"{out} has no column {list_names(map(repr, left))}: what stands there is no text.")
