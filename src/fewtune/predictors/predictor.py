"""A predictor: a fitted method as a value.

Owns what every fitted method has, whatever scores its rows: labels, the text columns it reads, where it came from.
Four kinds of scorer stand behind it: `constant`, `words`, `language`, and `stack`, which pools predictors of the other
three. How it is saved is `folder`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fewtune.data.row_files import is_text
from fewtune.errors import DataError, PredictorError, shorten
from fewtune.predictors.temperature import normalise
from fewtune.tasks.base import Example

if TYPE_CHECKING:
    from fewtune.predictors.manifest import AbstentionPart, ScorerPart

Arrays = dict[str, np.ndarray]
"""Arrays by the name they are saved under."""


class Scorer(Protocol):
    """What gives a predictor's rows their scores."""

    def log_probabilities(self, rows: Sequence[Example]) -> np.ndarray:
        """Log-probabilities over the labels, (rows, labels), float64."""

    def count_cut(self) -> int:
        """Rows that were longer than is read, and were cut, so far."""

    def count_tokens(self, rows: Sequence[Example]) -> list[int]:
        """Tokens that a language model reads to score each row; 0 where none does."""

    def describe(self) -> ScorerPart:
        """All of it that is no array, as a manifest holds it."""

    def arrays(self) -> Arrays:
        """Its arrays, weights among them, by name."""

    def answers_alone(self) -> bool:
        """Whether a row's answer is the same whatever rows are scored with it."""

    def write_more(self, folder: Path) -> None:
        """Write what others read too, an adapter in PEFT's own layout; most have nothing to write."""


@dataclass(frozen=True)
class Predictor:
    """A fitted method: scores for rows of its task; `origin` says what made it."""

    labels: tuple[str, ...]
    fields: tuple[str, ...]
    """The text columns that a row must have."""
    scorer: Scorer = field(repr=False)
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Method, settings, task, draw and versions, as far as they are known."""
    temperature: float = 1.0
    """What the scores are divided by: see `fewtune.predictors.temperature`."""
    abstention: AbstentionPart | None = None
    """Where it says nothing; None: it always answers."""

    def log_probabilities(self, rows: Sequence[Example]) -> np.ndarray:
        """Log-probabilities over the labels, (rows, labels), float64."""
        if not rows:
            return np.zeros((0, len(self.labels)))
        scores = self.scorer.log_probabilities(rows)
        return scores if self.temperature == 1.0 else normalise(scores / self.temperature)

    def predict_probabilities(self, rows: Sequence[str | Mapping[str, str]]) -> np.ndarray:
        """Probabilities over `labels`, (rows, labels), of texts, or of mappings where a row has several texts.

        White space around a text is left out.

        Raises DataError naming the row that lacks a text, or whose text is empty.
        """
        return self.find_probabilities(self.read_rows(rows))

    def find_probabilities(self, rows: Sequence[Example]) -> np.ndarray:
        """The same of rows as `log_probabilities` takes them.

        Raises PredictorError where an answer is no number: weights that overflow where they are multiplied.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # what comes of it is told below
            probabilities: np.ndarray = np.exp(self.log_probabilities(rows))
        broken = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
        if len(broken):
            raise PredictorError(
                f"{rows[int(broken[0])].row_id}: the model's answer is no number: its weights overflow where they are "
                "multiplied. Fit it again, with a lower learning rate."
            )
        return probabilities

    def read_rows(self, rows: Sequence[str | Mapping[str, str]]) -> list[Example]:
        """Rows as `log_probabilities` takes them, from what `predict_probabilities` does; raises as it does."""
        refuse_no_list(rows, "rows")
        return [self._read_row(number, row) for number, row in enumerate(rows, start=1)]

    def predict(self, rows: Sequence[str | Mapping[str, str]]) -> list[str | None]:
        """The likeliest label of each row, None where the model abstains; rows as `predict_probabilities` has them."""
        return self.answer(self.predict_probabilities(rows))

    def answer(self, probabilities: np.ndarray) -> list[str | None]:
        """The label that each row of probabilities (rows, labels) is given; None where the model abstains."""
        least = 0.0 if self.abstention is None else self.abstention.threshold
        return [self.labels[int(row.argmax())] if row.max() >= least else None for row in probabilities]

    def check_answers_alone(self) -> None:
        """Raise PredictorError where a row's answer depends on the rows that it is scored with."""
        if not self.scorer.answers_alone():
            raise PredictorError(
                "this model's answer to a row depends on the rows scored with it (calibration: scored), and here each "
                "row is answered alone. Fit it with another calibration: domain, or batch with unlabelled rows."
            )

    def count_cut(self) -> int:
        """Rows that were longer than the model reads, and were cut, so far."""
        return self.scorer.count_cut()

    def count_tokens(self, rows: Sequence[str | Mapping[str, str]]) -> list[int]:
        """Tokens that a language model reads to score each row (0 where none does), as `predict` takes them."""
        return self.scorer.count_tokens(self.read_rows(rows))

    def save(self, folder: Path | str) -> None:
        """Write the predictor into a new folder: a manifest, safetensors, never a pickle; see `fewtune.load`."""
        from fewtune.predictors.model_folder import save_predictor

        save_predictor(self, Path(folder))

    def _read_row(self, number: int, row: str | Mapping[str, str]) -> Example:
        if isinstance(row, str):
            if len(self.fields) > 1:
                raise DataError(
                    f"row {number} is one text and this model reads {', '.join(self.fields)}: give a mapping with each."
                )
            row = {self.fields[0]: row}
        if not isinstance(row, Mapping):
            raise DataError(f"row {number} is {shorten(repr(row))}: give a text, or a mapping of texts by name.")
        missing = [name for name in self.fields if not isinstance(row.get(name), str)]
        if missing:
            raise DataError(f"row {number} has no text {', '.join(missing)}; it has {', '.join(row) or 'nothing'}.")
        texts = {name: row[name].strip() for name in self.fields}
        broken = [name for name, text in texts.items() if not is_text(text)]
        if broken:
            raise DataError(
                f"row {number}: text {', '.join(broken)} holds half a character: mend it, or leave the row out."
            )
        empty = [name for name, text in texts.items() if not text]
        if empty:
            raise DataError(f"row {number}: text {', '.join(empty)} is empty: fill it in, or leave the row out.")
        return Example(f"row {number}", texts, None)


def refuse_no_list(given: Any, what: str) -> None:
    """Raise DataError where one text, a mapping or a table stands for a list: what it iterates over is no row."""
    if isinstance(given, str | Mapping):
        kind = "one text" if isinstance(given, str) else "one mapping"
        raise DataError(f"a list of {what} is read, and {kind} was given: put it into a list.")
    if getattr(given, "columns", None) is not None:
        raise DataError(
            f"a list of {what} is read, and a table was given: give one column's texts, or a list of mappings, such as "
            "pandas' frame.to_dict('records')."
        )
