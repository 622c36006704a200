"""Reads a table of anyone's results as one run a row, whatever its columns are called.

Owns how such a file is read and which columns it may have. Does not know what is asked of it (`table`).
"""

from __future__ import annotations

import csv
import io
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewtune.errors import RecordError, list_names, name_choices, shorten
from fewtune.plurals import pluralise

METHOD = ("method", "variant", "experiment_name", "peft_type", "name")
CELL = (
    "task",
    "dataset",
    "model",
    "model_name",
    "model_id",
    "shots",
    "n_shots",
    "num_shots",
    "k_shot",
    "n_train",
    "train_size",
    "n",
    "k",
    "samples",
    "test_set",
    "metric",
)
"""What a comparison holds fixed, besides the method."""
SEED = ("seed", "data_seed", "fit_seed", "run", "draw")
MAJORITY = ("majority", "majority_share", "majority_accuracy")
PLACE = ("hardware", "gpu", "device", "processor", "torch", "torch_version", "machine")
COST = ("seconds", "time", "train_time", "total_time", "fit_seconds", "runtime", "memory", "peak_memory")
ACCURACY = ("accuracy", "acc", "eval_accuracy", "test_accuracy", "top_1", "top1", "in_domain")
"""Results that can be set beside the majority class's share, as can all whose name ends in ACCURACY_ENDING."""
ACCURACY_ENDING = "accuracy"
OTHER_ACCURACY = re.compile(
    r"(?:^|_)(?:balanced|macro|class|token|masked|group|adversarial|robust|top_?(?!1(?!\d))[\dk]\d*)(?:_|$)"
)
"""Names of accuracies that always answering the majority class has another value of."""
OUTSIDE = re.compile(r"out_of_domain|out_of_distribution|(?:^|_)(?:ood|hans|paws|anli)(?:_|$)")
"""Names of test rows that have another majority class than the rows in domain."""
INSIDE = "in_domain"
"""How names begin of which all others are out of domain."""
TRACED = ("epoch", "step", "iteration")
"""What differs between the rows of one run, of which the best is reported."""
NO_SCORE = re.compile(r"(?:^|_)(?:std|sd|se|stderr|ci|delta|majority|baseline|chance)(?:_|$)")
"""Names of columns that say something of accuracies and are none of a method."""
MCC = ("mcc", "matthews_correlation")
"""Results of which the majority class's is 0."""
F1 = ("macro_f1", "f1")
OTHER_SCORE = ("score", "value", "metric", *MCC, *F1, "out_of_domain", "loss", "eval_loss")
NAMED = ("value", "score", "in_domain", "out_of_domain")
"""Results of the kind that a column `metric` names."""
MAY_BE_WORDS = ("metric", "loss")
"""Score columns, unless they hold no number at all: then they name a metric or a loss."""
COLUMNS = (*METHOD, *CELL, *SEED, *MAJORITY, *PLACE, *COST, *ACCURACY, *OTHER_SCORE)
SEPARATORS = (",", ";", "\t")
UNIT = re.compile(r"[ _]*(?:[(\[](?:in[ _])?(?:%|pct|percent|per[ _]cent)[)\]]|(?:in[ _])?%)$")
"""How the name of a column says that its numbers are percentages."""
SPREAD = re.compile(r"\s*(?:±|\+/?-|\\pm)\s*")
"""What stands between a mean and its spread in one cell."""
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+%?")
MAY_PART_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}%?")
"""Cells of which a comma may be either."""
MISSING = ("", "na", "n/a", "-", "--", "–", "—", "none", "null", "empty")
"""Cells of a column of numbers that hold none."""

LONGEST_NAME = 300
"""Characters of a method, or of what a comparison holds fixed."""


@dataclass(frozen=True)
class Run:
    """One run; `scores` and `places` hold what is there, by the names of their columns."""

    method: str
    group: tuple[str, ...]
    metric: str
    seed: tuple[str, ...]
    majority: float | None
    places: dict[str, str]
    scores: dict[str, float]
    test_set: str = ""
    """The plain name of what it was tested on, where a column tells."""
    epoch: str = ""
    """Which of a run's rows it is, where a column tells."""
    spreads: tuple[str, ...] = ()
    """Columns whose cell is a mean with its spread: the row stands for several runs."""


@dataclass(frozen=True)
class CellReading:
    """What cells hold besides plain numbers, and how it is read: the first such cell by column."""

    spreads: Mapping[str, str]
    """A mean with its spread, such as 91.2 ± 0.4: the mean is the score."""
    commas: Mapping[str, str]
    """A decimal comma."""


@dataclass(frozen=True)
class RunTable:
    """The runs of a file that have a score, and the names of the columns that hold scores, seeds, places and costs.

    `percentages` are the scores whose numbers are no shares, by column and kind; `inside` are the names of columns,
    metrics and test sets that are in domain, where any says so.
    """

    rows: list[Run]
    scores: tuple[str, ...]
    seeds: tuple[str, ...]
    places: tuple[str, ...]
    costs: tuple[str, ...]
    percentages: frozenset[tuple[str, str]]
    inside: frozenset[str]
    reading: CellReading


@dataclass(frozen=True)
class _Columns:
    """Where a table's columns stand in its header, by what they are read as."""

    header: list[str]
    method: int | None
    """None: the whole table is of one method."""
    variant: int | None
    """What tells methods of one name apart."""
    scores: list[int]
    seeds: list[int]
    majority: int | None
    places: list[int]
    group: list[int]
    metric: int | None
    """The one of the group that names what stands in `value`."""
    test_set: int | None
    """The one of the group that names the rows that were tested on."""
    epoch: int | None
    costs: list[int]
    commas: frozenset[int]
    """Columns in which a comma that may part thousands is a decimal one."""

    def parse(self, place: int, cell: str) -> float | None:
        """The number in a column's cell, None where it is missing; raises ValueError where it is neither."""
        return _parse(cell, place in self.commas, UNIT.search(self.header[place].lower()) is not None)

    def describe_cells(self, rows: Sequence[Sequence[str]]) -> CellReading:
        """Which columns of scores hold more than plain numbers."""
        spreads, commas = dict[str, str](), dict[str, str]()
        for place in self.scores:
            cells = [cells[place] for cells in rows]
            for found, is_such in ((spreads, SPREAD.search), (commas, _has_comma)):
                first = next(filter(is_such, cells), None)
                if first is not None:
                    found[self.header[place]] = first
        return CellReading(spreads, commas)

    def name(self, places: Sequence[int]) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(self.header[place] for place in places)


def read_runs(path: Path, majority: float | None, columns: Mapping[str, str] | None = None) -> RunTable:
    """Read a file's runs; `majority` is theirs where no column tells it, the path `-` is standard input.

    `columns` says which column of the file is read as which of COLUMNS. A table of numbered runs without a method is of
    one, named as the file. Raises RecordError where the file is no such table, names no method or score, or a score's
    cell holds no number.
    """
    header, lines, separator = _read_lines(path)
    found = _find_columns(path, _rename(path, header, columns or {}), [cells for _, cells in lines], separator)
    rows = [_read_run(path, found, line, cells, majority) for line, cells in lines]
    rows = [row for row in rows if row.scores]
    named = {plain_name(name) for name in found.name(found.scores)}
    named |= {name for row in rows for name in (row.metric, row.test_set)}
    return RunTable(
        rows=rows,
        percentages=_find_percentages(rows),
        reading=found.describe_cells([cells for _, cells in lines]),
        inside=frozenset(name for name in named if name.startswith(INSIDE)),
        scores=found.name(found.scores),
        seeds=found.name(found.seeds),
        places=found.name(found.places),
        costs=found.name(found.costs),
    )


def _find_columns(path: Path, header: list[str], rows: Sequence[Sequence[str]], separator: str) -> _Columns:
    by_name = _place_names(path, header)
    commas = _find_commas(rows, len(header), separator)

    def holds_numbers(name: str) -> bool:
        return any(_is_number(cells[by_name[name]], by_name[name] in commas) for cells in rows)

    def holds_scores(name: str) -> bool:
        words = any(cells[by_name[name]].lower() not in MISSING for cells in rows)
        return holds_numbers(name) or (words and name not in MAY_BE_WORDS)

    def pick(names: Sequence[str], keep: Callable[[str], bool] = lambda name: True) -> list[int]:
        return [by_name[name] for name in names if name in by_name and keep(name)]

    accuracies = [
        name for name in by_name if name.endswith(ACCURACY_ENDING) and name not in COLUMNS and not NO_SCORE.search(name)
    ]
    methods, seeds = pick(METHOD), pick(SEED)
    scores = pick((*ACCURACY, *accuracies, *OTHER_SCORE), holds_scores)
    if not methods and not seeds:
        raise _miss_column(path, header, "method", METHOD)
    if not scores:
        raise _miss_column(path, header, "score", ACCURACY + OTHER_SCORE, "; it must hold numbers")
    # A column `metric` holds the results themselves, or the names of those that stand in `value`.
    group = [place for place in pick(CELL) if place not in scores]
    return _Columns(
        header=header,
        method=methods[0] if methods else None,
        variant=by_name["variant"] if {"method", "variant"} <= by_name.keys() else None,
        scores=scores,
        seeds=seeds,
        majority=next(iter(pick(MAJORITY, holds_numbers)), None),
        places=pick(PLACE),
        group=group,
        metric=next((place for place in pick(("metric",)) if place in group), None),
        test_set=next(iter(pick(("test_set",))), None),
        epoch=next(iter(pick(TRACED)), None),
        costs=pick(COST, holds_numbers),
        commas=commas,
    )


def _place_names(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Where each name stands, the first of that name; raises RecordError where one that is read stands twice."""
    by_name: dict[str, int] = {}
    for place, name in enumerate(header):
        if by_name.setdefault(plain_name(name), place) != place and _is_known(plain_name(name)):
            other = header[by_name[plain_name(name)]]
            raise RecordError(
                f"{path}: columns {shorten(other)} and {shorten(name)} have one name; rename or drop one of them."
            )
    return by_name


def _miss_column(path: Path, header: Sequence[str], what: str, allowed: Sequence[str], more: str = "") -> RecordError:
    return RecordError(
        f"{path}: no {what} column among {list_names(header)}. Say which it is, such as --column {what}=NAME, or name "
        f"it {' or '.join(allowed[:4])}{more}."
    )


def _read_run(path: Path, columns: _Columns, line: int, cells: Sequence[str], majority: float | None) -> Run:
    header, method = columns.header, columns.method
    if method is not None and not cells[method]:
        raise RecordError(f"{path}: column {header[method]}, line {line}: a run without a method; name it.")
    for place in (*(each for each in (method, columns.variant) if each is not None), *columns.group):
        if len(cells[place]) > LONGEST_NAME:
            raise RecordError(
                f"{path}: column {header[place]}, line {line}: a name of {len(cells[place])} characters; "
                f"{LONGEST_NAME} are allowed."
            )
    if columns.majority is not None:
        share = _read_number(path, columns, columns.majority, line, cells)
        # A share or a percentage; whatever else stands there is none.
        majority = share if share is not None and 0 <= share <= 100 else majority
    results = {header[place]: _read_number(path, columns, place, line, cells) for place in columns.scores}
    return Run(
        method=path.stem if method is None else _name_method(columns, cells),
        group=tuple(cells[place] for place in columns.group),
        metric="" if columns.metric is None else plain_name(cells[columns.metric]),
        seed=tuple(cells[place] for place in columns.seeds),
        majority=majority,
        places={header[place]: cells[place] for place in columns.places if cells[place]},
        scores={name: score for name, score in results.items() if score is not None},
        test_set="" if columns.test_set is None else plain_name(cells[columns.test_set]),
        epoch="" if columns.epoch is None else cells[columns.epoch],
        spreads=tuple(header[place] for place in columns.scores if SPREAD.search(cells[place])),
    )


def _name_method(columns: _Columns, cells: Sequence[str]) -> str:
    """A run's method, with its variant where that is a column of its own."""
    assert columns.method is not None
    method, variant = cells[columns.method], "" if columns.variant is None else cells[columns.variant]
    return variant if plain_name(variant).startswith(plain_name(method)) else f"{method} {variant}".strip()


def _find_percentages(rows: Sequence[Run]) -> frozenset[tuple[str, str]]:
    """The scores, by column and kind, of which half at least are too large for shares; 0 is one of either.

    Where the column's name says so, one will do.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for column, score in row.scores.items():
            if is_bounded(kind := find_kind(column, row)):
                values.setdefault((column, kind), []).extend([score] if score else [])
    large = {key: sum(abs(score) > 1 for score in each) for key, each in values.items()}
    named = {key for key, each in values.items() if large[key] and UNIT.search(key[0].lower())}
    return frozenset(key for key, each in values.items() if each and (key in named or 2 * large[key] >= len(each)))


def _read_number(path: Path, columns: _Columns, place: int, line: int, cells: Sequence[str]) -> float | None:
    cell = cells[place]
    try:
        return columns.parse(place, cell)
    except ValueError:
        where = f"{path}: column {columns.header[place]}, line {line}: {shorten(cell)!r}"
        if MAY_PART_THOUSANDS.fullmatch(cell):
            raise RecordError(f"{where} may have a decimal comma, or one between thousands. Write a point.") from None
        raise RecordError(
            f"{where} is no number. Write it such as 0.7123, 71.23% or 71.2 ± 0.4, or leave the cell empty."
        ) from None


def _is_known(name: str) -> bool:
    return name in COLUMNS or name.endswith(ACCURACY_ENDING)


def _rename(path: Path, header: Sequence[str], columns: Mapping[str, str]) -> list[str]:
    """The header with the columns that are asked for under the names that they are read by."""
    renamed = list(header)
    for kind, column in columns.items():
        if plain_name(kind) not in COLUMNS:
            raise RecordError(name_choices(kind, COLUMNS, "kind of column"))
        if column not in header:
            raise RecordError(f"{path}: {name_choices(column, header, 'column')}")
        # What had that name before is not read.
        renamed = [f"{name} (not read)" if plain_name(name) == plain_name(kind) else name for name in renamed]
        # A score whose own name says of which metric it is keeps that: 'Top-1 (%)' is an accuracy, in percent.
        place, tells = header.index(column), plain_name(kind) in NAMED and _is_known(plain_name(column))
        renamed[place] = column if tells else f"{kind} (%)" if UNIT.search(column.lower()) else kind
    return renamed


def _read_lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]], str]:
    """The header's names, the cells of every row with the line that they end on, and what parts them."""
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise RecordError(f"{path}: not a readable CSV file ({(error.strerror or str(error)).lower()}).") from error
    text = raw.decode("utf-8-sig", errors="replace")
    if "\0" in text:
        raise RecordError(f"{path}: not a readable CSV file (it is no text in UTF-8).")
    head = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=head.count)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=separator != "\t", strict=True
    )
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                lines.append((reader.line_num, stripped))
    except csv.Error as error:
        what = "a quotation mark too many or too few"
        if "field limit" in str(error):
            what += f", or a cell of more than {csv.field_size_limit()} characters"
        raise RecordError(f"{path}: line {reader.line_num}: {what}.") from error
    if len(lines) < 2:
        raise RecordError(f"{path}: {'no row below the header' if lines else 'the file is empty'}.")
    (first, header), *rows = lines
    for line, cells in rows:
        if len(cells) != len(header):
            comment = next((f" Take out comments such as line {n}'s." for n, c in lines if c[0].startswith("#")), "")
            raise RecordError(
                f"{path}: line {line} has {pluralise(len(cells), 'cell')}, the header on line {first} has "
                f"{len(header)}.{comment}"
            )
    return header, rows, separator


def _find_commas(rows: Sequence[Sequence[str]], columns: int, separator: str) -> frozenset[int]:
    """Columns in which a comma that may part thousands is a decimal one.

    It is where another cell of the column has one that can be nothing else, or where cells are not parted by commas, as
    where numbers are written so; and where none has a point.
    """
    found = set()
    for place in range(columns):
        cells = [cells[place] for cells in rows]
        if not any("." in cell for cell in cells) and (separator != "," or any(map(_has_comma, cells))):
            found.add(place)
    return frozenset(found)


def _has_comma(cell: str) -> bool:
    """Whether a number in a cell has a comma that can be nothing but a decimal one."""
    parts = SPREAD.split(cell)
    return any(DECIMAL_COMMA.fullmatch(part) and not MAY_PART_THOUSANDS.fullmatch(part) for part in parts)


def _parse(text: str, comma: bool, percent: bool = False) -> float | None:
    """The number in a cell, or the mean in front of its spread; None where it is missing.

    `comma`: one that may part thousands is a decimal one; `percent`: the column's numbers are percentages. Raises
    ValueError where it is no number.
    """
    if text.lower() in MISSING:
        return None
    mean, *spread = (part.strip() for part in SPREAD.split(text.strip("$")))
    if len(spread) > 1 or (spread and not math.isfinite(_parse_plain(spread[0], comma))):
        raise ValueError(text)
    shares = not percent and any(part.endswith("%") for part in (mean, *spread))
    return _parse_plain(mean, comma) / 100 if shares else _parse_plain(mean, comma)


def _parse_plain(text: str, comma: bool) -> float:
    number = text.removesuffix("%").rstrip()
    if DECIMAL_COMMA.fullmatch(number) and (comma or not MAY_PART_THOUSANDS.fullmatch(number)):
        number = number.replace(",", ".")
    return float(number)


def _is_number(text: str, comma: bool) -> bool:
    try:
        return _parse(text, comma) is not None
    except ValueError:
        return MAY_PART_THOUSANDS.fullmatch(text) is not None


def find_kind(column: str, row: Run) -> str:
    """The plain name of the metric that a row's column holds."""
    return kind_of(row.metric if row.metric and plain_name(column) in NAMED else plain_name(column))


def kind_of(name: str) -> str:
    """The metric of a plain name: all accuracies that a constant answer has one value of are one."""
    return ACCURACY[0] if name.endswith(ACCURACY_ENDING) and not OTHER_ACCURACY.search(name) else name


def is_bounded(kind: str) -> bool:
    """Whether a metric is a share or a correlation, which percentages can stand for."""
    return kind in ACCURACY + F1 + MCC or kind.endswith(ACCURACY_ENDING)


def names_outside(name: str) -> bool:
    """Whether a name is of test rows out of domain, or of a score on them."""
    return OUTSIDE.search(plain_name(name)) is not None


def plain_name(text: str) -> str:
    """A name as columns and methods are looked for: 'Eval Accuracy (%)' as 'eval_accuracy'."""
    return UNIT.sub("", text.strip().lower()).replace(" ", "_").replace("-", "_")
