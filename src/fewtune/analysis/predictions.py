"""Reads predictions from disk once and keeps them in compact arrays.

Owns what stays in memory of a trial's predictions, that they can be those of their record, and which trials are left
out because no figure can be made of theirs. Does not know which trials are compared (`answers`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fewtune.errors import RecordError
from fewtune.metrics.probabilities import describe_ranked, merge_labels, rank_rows
from fewtune.records import IN_DOMAIN, TABLE_FAULTS, Failure, Record, TableFault, predictions_path, record_path

if TYPE_CHECKING:
    import polars as pl


Codes = npt.NDArray[np.unsignedinteger[Any]]
"""Labels as numbers, each in as few bytes as hold the largest of its array."""


@dataclass(frozen=True)
class TrialAnswers:
    """One trial's answers on one test set, (rows,) each, ordered by row id; codes mean the same to one reader.

    `rows` are the rows' own codes: equal ones are one row, in whatever draw.
    """

    rows: npt.NDArray[np.int32]
    gold: Codes
    predicted: Codes


@dataclass(frozen=True)
class Asked:
    """What reading a trial's predictions needs of its record."""

    trial_id: str
    labels: tuple[str, ...]
    scored: frozenset[str]
    """The test sets that the record has scores of."""

    @classmethod
    def of(cls, record: Record) -> Asked:
        """What is asked where a record's predictions are."""
        return cls(record.trial_id, tuple(record.labels or ()), frozenset(record.metrics))


@dataclass(frozen=True)
class _Rows:
    """What trials of one draw share: where a table's rows stand by test set, ordered by row id, and their labels."""

    order: list[int]
    places: dict[str, npt.NDArray[np.bool_]]
    rows: dict[str, npt.NDArray[np.int32]]
    gold: dict[str, Codes]
    gold_codes: dict[str, frozenset[int]]
    """The codes that occur among them."""


Probabilities = Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]
"""By test set: probabilities (rows, labels), and gold labels (rows,) as places among these."""

Ranks = tuple[float, npt.NDArray[np.float32]] | None
"""AUROC, and what one more of each row (rows,) would add to it; None where a set has rows of one label only."""


@dataclass(frozen=True)
class KeptAnswers:
    """What a reader keeps of the trials that it read, for another one to take over; codes are places in the lists."""

    labels: Sequence[str]
    rows: Sequence[tuple[str, str]]
    """Test set and row id."""
    answers: Mapping[str, Mapping[str, TrialAnswers]]
    figures: Mapping[str, Mapping[str, Mapping[str, float]]]
    ranks: Mapping[str, Mapping[str, Ranks]]
    unsound: Mapping[str, TableFault]


class AnswerReader:
    """Reads each trial's predictions once and keeps them small: labels, rows and figures as numbers, no scores."""

    def __init__(self, load: Callable[[str], pl.DataFrame], labels: Iterable[str] = ()) -> None:
        """`labels` have the first codes, in this order; others follow as they come up."""
        self.load = load
        self._codes: dict[str, int] = {label: code for code, label in enumerate(dict.fromkeys(labels))}
        self._row_names: list[tuple[str, str]] = []
        self._row_codes: dict[str, dict[str, int]] = {}
        self._rows: dict[int, _Rows] = {}
        self._kept: dict[str, dict[str, TrialAnswers]] = {}
        self._digests: dict[str, bytes] = {}
        self._figures: dict[str, Mapping[str, Mapping[str, float]]] = {}
        self._ranks: dict[str, Mapping[str, Ranks]] = {}
        self._unsound: dict[str, TableFault] = {}

    @property
    def unsound(self) -> Mapping[str, TableFault]:
        """The trials that are left out, by id: what is wrong with their predictions."""
        return self._unsound

    @property
    def labels(self) -> Sequence[str]:
        """Every label that came up, by its code."""
        return list(self._codes)

    def has(self, trial_id: str) -> bool:
        """Whether a trial's predictions were read, or are left out."""
        return trial_id in self._kept or trial_id in self._unsound

    def leave_out(self, trial_id: str, fault: TableFault) -> None:
        """Make no figure of a trial's predictions, with which that is wrong."""
        self._unsound[trial_id] = fault

    def set_aside(self, records: Iterable[Record]) -> tuple[Record, ...]:
        """The records, those of trials that are left out as failed ones, without a score."""
        return tuple(
            _fail(each, self._unsound[each.trial_id]) if each.trial_id in self._unsound else each for each in records
        )

    def answers(self, record: Record) -> dict[str, TrialAnswers]:
        """A trial's answers by test set; raises RecordError where they cannot be those of the record."""
        if record.trial_id not in self._kept:
            self.take(Asked.of(record), self.load(record.trial_id))
        return self._kept[record.trial_id]

    def take(self, asked: Asked, table: pl.DataFrame) -> None:
        """Keep of a trial's predictions what is asked for again; raises RecordError as `answers` does."""
        self._encode(asked.labels)  # in the task's order, whichever row comes first
        trial_id, shared = asked.trial_id, self._share_rows(table)
        labels = table["predicted"].to_list()
        predicted = self._encode([labels[place] for place in shared.order])
        found = {
            name: TrialAnswers(shared.rows[name], shared.gold[name], predicted[here])
            for name, here in shared.places.items()
        }
        self._check(asked, shared, found)
        self._kept[trial_id] = found
        sets = self._merge(asked, table, shared, found)
        ranks = {name: rank_rows(*rows) for name, rows in sets.items()}
        self._figures[trial_id] = {name: describe_ranked(*rows, ranks[name]) for name, rows in sets.items()}
        self._ranks[trial_id] = {
            name: None if each is None else (each[0], each[1].astype(np.float32)) for name, each in ranks.items()
        }

    def kept(self) -> KeptAnswers:
        """What was read, for another reader."""
        return KeptAnswers(self.labels, self._row_names, self._kept, self._figures, self._ranks, self._unsound)

    def take_over(self, read: KeptAnswers) -> None:
        """Keep what another reader read as if it had been read here; labels and rows get this reader's codes."""
        labels = self._encode(read.labels)
        rows = np.array([self._number_row(*row) for row in read.rows], dtype=np.int32)
        told: dict[int, npt.NDArray[Any]] = {}  # trials of one draw share their arrays of rows and gold labels

        def translate(codes: npt.NDArray[np.integer[Any]], meanings: npt.NDArray[Any]) -> npt.NDArray[Any]:
            if id(codes) not in told:
                told[id(codes)] = meanings[codes]
            return told[id(codes)]

        for trial_id, sets in read.answers.items():
            self._kept[trial_id] = {
                name: TrialAnswers(
                    translate(answers.rows, rows),
                    translate(answers.gold, labels),
                    translate(answers.predicted, labels),
                )
                for name, answers in sets.items()
            }
        self._figures.update(read.figures)
        self._ranks.update(read.ranks)
        self._unsound.update(read.unsound)

    def probabilities(self, record: Record) -> Probabilities:
        """A trial's probabilities and gold labels by test set, rows as in `answers`; read at each call.

        Test sets are left out whose labels are not the task's and cannot be told from what was predicted; all of them
        where the table has no scores.
        """
        asked, table = Asked.of(record), self.load(record.trial_id)
        return self._merge(asked, table, self._share_rows(table), self.answers(record))

    def figures(self, record: Record) -> Mapping[str, Mapping[str, float]]:
        """What a trial's probabilities are worth, by test set; nothing for those that `probabilities` leaves out."""
        self.answers(record)
        return self._figures[record.trial_id]

    def ranks(self, record: Record) -> Mapping[str, Ranks]:
        """How a trial ranks rows, by test set; nothing for those that `probabilities` leaves out."""
        self.answers(record)
        return self._ranks[record.trial_id]

    def _merge(
        self, asked: Asked, table: pl.DataFrame, shared: _Rows, answers: Mapping[str, TrialAnswers]
    ) -> Probabilities:
        columns = [f"score_{label}" for label in asked.labels]
        if not columns or not set(columns) <= set(table.columns):
            return {}
        scores = np.column_stack([table[name].to_numpy() for name in columns]).astype(np.float64)[shared.order]
        own = [self._codes.get(label, -1) for label in asked.labels]
        found = {}
        for name, here in shared.places.items():
            gold, predicted, log_probabilities = answers[name].gold, answers[name].predicted, scores[here]
            codes, occurring = own, shared.gold_codes[name]
            if not occurring <= set(own):  # labels of its own: the likeliest of the task's stands for what was said
                likeliest = log_probabilities.argmax(axis=1)
                codes = [next(iter(predicted[likeliest == place].tolist()), -1) for place in range(len(own))]
            distinct, counts_as = _tell_apart(tuple(codes))
            if distinct[0] >= 0 and occurring <= set(distinct.tolist()) and np.isfinite(log_probabilities).all():
                merged = merge_labels(log_probabilities, counts_as)
                found[name] = merged, distinct.searchsorted(gold)
        return found

    def row_ids(self, record: Record) -> dict[str, set[str]]:
        """The ids of the rows that a trial was scored on, by test set."""
        names = self._row_names
        return {test: {names[code][1] for code in found.rows.tolist()} for test, found in self.answers(record).items()}

    def digest(self, trial_id: str) -> bytes:
        """A hash of a trial's whole table, scores included: equal ones are of equal tables, in whatever order."""
        if trial_id not in self._digests:
            table = self.load(trial_id).sort("test_set", "row_id")
            whole = hashlib.sha256(repr(table.schema).encode())
            for column in table:
                whole.update(column.hash().to_numpy().tobytes())
            self._digests[trial_id] = whole.digest()
        return self._digests[trial_id]

    def forget(self, trial_id: str) -> None:
        """Read a trial's predictions anew when they are asked for again."""
        self._kept.pop(trial_id, None)
        self._digests.pop(trial_id, None)
        self._figures.pop(trial_id, None)
        self._ranks.pop(trial_id, None)
        self._unsound.pop(trial_id, None)

    def _share_rows(self, table: pl.DataFrame) -> _Rows:
        """A table's rows: trials of one draw have the same ones, which are numbered once and kept once."""
        key = hash(tuple(tuple(table[name].to_list()) for name in ("test_set", "row_id", "gold")))
        if key not in self._rows:
            self._rows[key] = self._number_rows(table)
        return self._rows[key]

    def _number_rows(self, table: pl.DataFrame) -> _Rows:
        order = table["row_id"].arg_sort()
        names, ids = (table[column].gather(order).to_list() for column in ("test_set", "row_id"))
        gold, sets = self._encode(table["gold"].gather(order).to_list()), np.array(names, dtype=object)
        rows = np.array([self._number_row(*row) for row in zip(names, ids, strict=True)], dtype=np.int32)
        places = {name: sets == name for name in dict.fromkeys(names)}
        return _Rows(
            order=order.to_list(),
            places=places,
            rows={name: rows[here] for name, here in places.items()},
            gold={name: gold[here] for name, here in places.items()},
            gold_codes={name: frozenset(gold[here].tolist()) for name, here in places.items()},
        )

    def _number_row(self, test_set: str, row_id: str) -> int:
        codes = self._row_codes.setdefault(test_set, {})
        code = codes.setdefault(row_id, len(self._row_names))
        if code == len(self._row_names):
            self._row_names.append((test_set, row_id))
        return code

    def _encode(self, labels: Sequence[str]) -> Codes:
        codes = self._codes
        if not codes.keys() >= set(labels):
            for label in labels:
                codes.setdefault(label, len(codes))
        numbers = [codes[label] for label in labels]
        return np.array(numbers, dtype=np.min_scalar_type(max(numbers, default=0)))

    def _check(self, asked: Asked, shared: _Rows, found: dict[str, TrialAnswers]) -> None:
        """Refuse answers that cannot be a record's: other labels than its own, or no row of a set it has scores of."""
        missing = sorted(asked.scored - found.keys())
        if missing:
            raise _refuse(asked, f"no row of {missing[0]!r:.80}, of which the record has scores")
        if not asked.labels or IN_DOMAIN not in found:
            return
        known = {self._codes.get(label) for label in asked.labels}  # sets out of domain may have labels of their own
        predicted = np.flatnonzero(np.bincount(found[IN_DOMAIN].predicted)).tolist()
        for side in (shared.gold_codes[IN_DOMAIN], set(predicted)):
            if other := side - known:
                label = next(name for name, code in self._codes.items() if code in other)
                raise _refuse(asked, f"{label!r:.80} is none of the record's labels")


@lru_cache(maxsize=256)
def _tell_apart(codes: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The distinct codes in order, and which of them each is."""
    distinct, counts_as = np.unique(np.asarray(codes, dtype=np.int64), return_inverse=True)
    return distinct, counts_as


def _fail(record: Record, fault: TableFault) -> Record:
    failure = Failure(kind="error", message=f"its predictions hold {TABLE_FAULTS[fault]}")
    told = {"status": "failed", "failure": failure}
    return record.model_copy(update={**told, "metrics": {}, "baselines": {}, "breakdowns": [], "checkpoints": []})


def _refuse(asked: Asked, what: str) -> RecordError:
    path = predictions_path(Path(), asked.trial_id)
    return RecordError(
        f"{path}: {what}: these predictions are not those of {record_path(Path(), asked.trial_id)}. Delete both and "
        "run the study again: it repeats this trial alone."
    )
