"""`fewtune predict`: a saved model on new rows."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from fewtune.cli.options import Base
from fewtune.cli.output import count_rows, say_error
from fewtune.data.csv_lines import write_csv_lines
from fewtune.errors import FewtuneError
from fewtune.plurals import choose_verb, pluralise
from fewtune.system.terminal import write_export

if TYPE_CHECKING:
    from fewtune.predictors.predictor import Predictor

Model = Annotated[Path, Parameter(help="A folder that `fewtune fit` saved.")]
Rows = Annotated[
    Path,
    Parameter(
        allow_leading_hyphen=True,
        help="The rows: CSV, TSV, JSON Lines or Parquet, with the columns of text; - for standard input.",
    ),
]


def predict(
    model: Model,
    rows: Rows,
    /,
    *,
    out: Annotated[Path | None, Parameter(help="File to write, as CSV; the standard output where not given.")] = None,
    keep: Annotated[
        list[str] | None,
        Parameter(help="A column of the rows to copy in front of the answer; give it again for further ones."),
    ] = None,
    form: Annotated[
        str | None,
        Parameter(name="--format", help="csv, tsv, jsonl or parquet, where the name of the rows' file does not say."),
    ] = None,
    missing: Annotated[
        Literal["refuse", "blank"],
        Parameter(help="A row without a text: stop there, or leave its answer empty and go on."),
    ] = "refuse",
    base: Base = None,
) -> int:
    """Answer rows by a saved model: a label and a probability of each label, a line a row, as CSV.

    The label is left empty where the model abstains (`fewtune fit --abstain-at`). Rows are read, answered and written
    in their order, a part at a time, however many there are.
    """
    from fewtune.api import load
    from fewtune.predictors.answers import answer_rows
    from fewtune.predictors.rows import open_texts
    from fewtune.running.executors.process import set_up_here

    if out is not None and out.exists():
        raise FewtuneError(f"{out} exists: give --out a new file.")
    if out is not None and out.suffix.lower() in (".tsv", ".jsonl", ".parquet", ".xlsx"):
        raise FewtuneError(f"{out}: answers are written as CSV. Name the file .csv.")
    set_up_here()
    predictor, kept, done, blank = load(model, base), tuple(keep or ()), 0, 0
    if out is not None and rows != Path("-"):  # it is whole or not there: what a late row lacks is told before hours
        with open_texts(rows, predictor.fields, kept, form, lacking=missing) as texts:
            for _ in texts:
                pass
    with (
        _open_input(rows) as standard_input,
        open_texts(rows, predictor.fields, kept, form, standard_input, missing) as texts,
        _open_answers(out) as write,
        count_rows(shown=out is not None or not sys.stdout.isatty()) as count,
    ):
        heads = [_name_columns(kept, predictor.labels)]
        for answers in answer_rows(predictor, texts):
            nothing = [""] * len(predictor.labels)
            lines = [
                (*a.row.kept, a.label or "", *([f"{value:.6f}" for value in a.probabilities] or nothing))
                for a in answers
            ]
            write(write_csv_lines([*heads, *lines]))  # what cannot be answered at all is told before a first line
            heads = []
            done += len(answers)
            blank += sum(not a.probabilities for a in answers)
            count(done)
        write(write_csv_lines(heads))
    if blank:
        say_error(f"{pluralise(blank, 'row')} without a text {choose_verb(blank, 'has', 'have')} no answer.")
    if out is not None:
        say_error(f"{pluralise(done, 'row')} answered in {out}")
    tell_cut(predictor)
    return 0


def tell_cut(predictor: Predictor) -> None:
    """Say how many rows were longer than a model reads, if any were."""
    cut = predictor.count_cut()
    if cut:
        told = f"{pluralise(cut, 'row')} {choose_verb(cut, 'was', 'were')} longer than the model was fitted to read"
        say_error(f"{told}: the longest text of each lost its end.")


def _name_columns(kept: Sequence[str], labels: Sequence[str]) -> list[str]:
    """The header: an answer's column whose name a kept one has is called `predicted` so."""
    names = list(kept)
    for name in ["label", *(f"probability of {label}" for label in labels)]:
        while name in names:
            name = f"predicted {name}"
        names.append(name)
    return names


@contextlib.contextmanager
def _open_input(rows: Path) -> Iterator[io.BufferedReader | None]:
    """The standard input as bytes, where the rows are there."""
    if rows != Path("-"):
        yield None
        return
    with open(0, "rb", closefd=False) as stream:
        yield stream


@contextlib.contextmanager
def _open_answers(out: Path | None) -> Iterator[Callable[[str], object]]:
    """What takes the lines of answers: a file that is there whole or not at all, or the standard output."""
    if out is None:
        yield write_export
        return
    from fewtune.records import open_atomically

    with open_atomically(out) as file:
        yield lambda text: file.write(text.encode())
