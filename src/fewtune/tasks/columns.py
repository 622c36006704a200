"""Guesses which columns of a file hold texts and labels where only one choice is sensible.

Owns the rules of that choice and the question where they leave several. Does not know what a label may be
(`label_column`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewtune.data.row_files import RowFile, is_text
from fewtune.data.separators import SEPARATORS
from fewtune.errors import DataError, list_names, name_choices
from fewtune.plurals import choose_verb, pluralise
from fewtune.tasks.label_column import LONGEST_LABEL, is_number

LABEL = "label"
"""The column that holds labels wherever there is one of that name."""
IN_BRACES = "{}[].!:"
"""Characters that no column may have in its name: templates write names in braces."""
_KNOWN_TEXTS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text",),
    ("sentence",),
)


@dataclass(frozen=True)
class Columns:
    """The one or two columns of texts in reading order, and the column of labels."""

    texts: tuple[str, ...]
    label: str

    def describe(self, file: RowFile) -> str:
        """A note that says which columns were taken, and how the cells are separated where that was found out."""
        what = choose_verb(len(self.texts), "text", "texts")
        said = f"Columns: {what} {list_names(map(repr, self.texts))}, label {self.label!r}"
        if file.path.suffix.lower() == ".csv" and file.separator != ",":
            said += f"; cells separated by a {SEPARATORS[file.separator]}"
        return f"{said}."


def fits_template(name: str) -> bool:
    """Whether a template can name a column so."""
    return bool(name) and not set(name) & set(IN_BRACES) and is_text(name)


def find_columns(file: RowFile, text: str | Sequence[str] | None, label: str | None) -> Columns:
    """The columns to read, those that are named among them; raises DataError where it takes the user to say."""
    named = None if text is None else (text,) if isinstance(text, str) else tuple(text)
    chosen = _find_label(file, named) if label is None else label
    if chosen not in file.columns:
        raise DataError(
            f"{file.path}: {name_choices(chosen, file.columns, 'column')} Name the label column in `label`."
        )
    texts = _find_texts(file, chosen) if named is None else _check_named(file, named, chosen)
    for name in texts:
        if not name:
            raise DataError(f"{file.path}: the column of texts has no name in the header. Give it one.")
        if not fits_template(name):
            raise DataError(f"{file.path}: the column {name!r} cannot stand in a template. Rename it without {{}}[].!:")
    return Columns(texts, chosen)


def _find_label(file: RowFile, texts: Sequence[str] | None) -> str:
    """The column `label`; else the one that repeats a few values, where no other that is left could be labels."""
    if LABEL in file.columns:
        return LABEL
    taken = texts if texts is not None else next(iter(_list_known(file.columns)), ())
    left = [name for name in file.columns if name not in taken]
    whole, rows = file.whole_columns, len(file.rows)
    different = {name: _count_different(file, name) for name in left}
    repeating = [name for name, count in different.items() if count is not None and 2 <= count <= rows / 2]
    ids = [name for name, count in different.items() if count == rows]
    # Of two columns the other one is the text, whether each text stands there once or not. What some rows alone have is
    # neither, but where it repeats values, who knows.
    known = len(repeating) == 1 and repeating[0] in whole
    if known and (len(whole) == 2 or len(ids) == sum(name in whole for name in left) - 1):
        _check_header(file, repeating[0])
        return repeating[0]
    if len(repeating) > 1:
        shown = list_names(f"{name!r} ({pluralise(different[name] or 0, 'value')})" for name in repeating)
        raise DataError(f"{file.path}: which column is the label? These repeat values: {shown}. Name it in `label`.")
    raise DataError(
        f"{file.path}: {name_choices(LABEL, file.columns, 'column')} Name the label column in `label`; where no column "
        "holds labels, give a file that has one."
    )


def _check_header(file: RowFile, label: str) -> None:
    """Raise DataError where a column of labels is called as one of them: then the first line of cells is a row."""
    rows = sum(row[label].strip() == label.strip() for row in file.rows) if file.has_header else 0
    if rows:
        raise DataError(
            f"{file.path}: its first line looks like a row, for {label!r} stands there and in {rows} more: put a line "
            "with the columns' names before it. Where it does name the columns, name the label column in `label`."
        )


def _count_different(file: RowFile, column: str) -> int | None:
    """How many values a column has, missing ones apart; None where one of them can be no label."""
    values = [row.get(column) for row in file.rows] if column not in file.unreadable else [[]]
    if not all(value is None or isinstance(value, str | int | float) for value in values):
        return None
    texts = {str(value).strip() for value in values if value is not None} - {""}
    return None if any(len(text) > LONGEST_LABEL for text in texts) else len(texts)


def _list_known(columns: Sequence[str]) -> list[tuple[str, ...]]:
    return [names for names in _KNOWN_TEXTS if set(names) <= set(columns)]


def _find_texts(file: RowFile, label: str) -> tuple[str, ...]:
    others = tuple(column for column in file.whole_columns if column != label)
    known = _list_known([column for column in file.columns if column != label])
    if len(others) != 1 and not known:
        shown = list_names(file.columns)
        raise DataError(f"{file.path}: which column is the text? It has {shown}. Name one or two of them in `text`.")
    if known:
        return known[0]
    values = [str(row.get(others[0])).strip() for row in file.rows]
    if all(map(is_number, values)):
        raise DataError(
            f"{file.path}: column {others[0]!r} is the only one beside the labels in {label!r} and holds numbers "
            "alone, no texts. Name the columns in `text` and `label`; these too where they are meant."
        )
    return others


def _check_named(file: RowFile, names: tuple[str, ...], label: str) -> tuple[str, ...]:
    for name in names:
        if name not in file.columns:
            raise DataError(
                f"{file.path}: {name_choices(name, file.columns, 'column')} Name the text columns in `text`."
            )
    if len(names) not in (1, 2) or len(set(names)) < len(names) or label in names:
        raise DataError(
            f"`text` names {list_names(names) or 'no column'}. Name one or two columns, none twice, not the label's."
        )
    return names
