"""A plan: what a method makes of a model, a task and a draw, for the engine to fit and for the runner to score.

Owns that value. Does not know any one method.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from fewtune.predictors.predictor import Predictor
from fewtune.records import MethodNotes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fewtune.engine.fitting import Fitting
    from fewtune.engine.forward import Forward
    from fewtune.tasks.base import Example

Conclude = Callable[[MethodNotes, Mapping[str, Mapping[str, Mapping[str, float]]]], MethodNotes]


def keep_notes(notes: MethodNotes, metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> MethodNotes:
    """The notes as they are, for methods without reference scorers."""
    return notes


@dataclass(frozen=True)
class Plan:
    """How one trial is fitted (None: nothing trains), and the predictor that comes of it.

    The predictor scores rows once the fitting is done; `report()` gives what the record should note, asked for after
    scoring.
    """

    predictor: Predictor
    fitting: Fitting | None = None
    forward: Forward | None = None
    taught_by: PreTrainedModel | None = None
    """Another network that the trial needs while it is fitted (a teacher's): its memory counts too."""
    trainable_parameters: int = 0
    total_parameters: int = 0
    report: Callable[[], MethodNotes] = MethodNotes
    reference_scorers: Mapping[str, Callable[[Sequence[Example]], np.ndarray]] = field(default_factory=dict)
    """Other scorers whose test scores the record should note (a teacher), by name; timed apart from `score`."""
    conclude: Conclude = keep_notes
    """Completes what `report` gave by the reference scorers' metrics, by name, test set and metric."""
    read_out: Callable[[], Predictor] | None = None
    """Makes the predictor of what was fitted, where only then it is known all that it holds."""

    def finish(self) -> Plan:
        """The plan with the predictor of what has been fitted so far."""
        return self if self.read_out is None else replace(self, predictor=self.read_out())

    @property
    def networks(self) -> list[PreTrainedModel]:
        """The networks that the trial runs."""
        own = [self.forward.network] if self.forward is not None else []
        return own if self.taught_by is None else [*own, self.taught_by]

    def score(self, rows: Sequence[Example]) -> np.ndarray:
        """Log-probabilities over the task's labels, (rows, labels), float64; the rows carry no labels."""
        return self.predictor.log_probabilities(rows)
