"""The classifier: scikit-learn's interface around `fewtune fit` or one method.

Owns what scikit-learn asks of a classifier. How parameters, rows and labels are read is
`parameters`, `texts` and `labels`; what is fitted is as
`fewtune fit` fits it. Source: https://scikit-learn.org/stable/developers/develop.html
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags
from sklearn.utils.validation import check_is_fitted

from fewtune.errors import ArgumentError, FewtuneError, NoChoiceError, TrialFailure
from fewtune.estimator.labels import read_labels
from fewtune.estimator.parameters import AUTO, Parameters, read_parameters
from fewtune.estimator.saved_bytes import read_bytes, write_bytes
from fewtune.estimator.texts import name_fields, read_texts
from fewtune.plurals import pluralise
from fewtune.predictors.predictor import Predictor
from fewtune.report.model_choice import KeptChoice

if TYPE_CHECKING:
    import altair
    import polars

    from fewtune.fitting.events import FittingEvent
    from fewtune.fitting.model import FittedFile
    from fewtune.running.fit_rows import OnStep

DEFAULT = "smollm2-135m"
"""The model of a named method, where none is given."""


class FewtuneClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A text classifier from few labelled rows: what suits them is tried and the best fitted, or the method named.

    `method` is one of `fewtune list methods`, or auto: candidates are judged by folds of all rows, and the choice is
    fitted on all of them and calibrated, as `fewtune fit` does. `model` is a catalogue name, folder or hub id, or of
    auto a list of them (None: those that suit; of a named method smollm2-135m). `budget` (90s, 10m, 2h; None: none) is
    the time that all of it may take and `within` the tolerance, 0.03 being three points (None: as much). `settings` are
    the named method's own. `random_state` seeds the fits: an int as `fewtune.fit` does.

    Of auto alone: `metric` is what candidates are compared by, `fast` tries frozen features alone, `max_latency`
    (50ms), `max_fit_seconds` and `max_memory` (300MB) bound what is fitted; `none_label` is the class of rows of none
    of the others; `verbose` shows what goes on, and `callback` hears its events (`fewtune.fitting.events`).

    X holds one text a row or two: a list of texts, of pairs or of mappings, a NumPy array (rows,), (rows, 1) or
    (rows, 2), a pandas or Polars series or data frame. y is a label a row: text, whole numbers or truth values, and
    answers are of its type. Whatever cannot be used is a ValueError that is a FewtuneError too.

    >>> from fewtune import FewtuneClassifier
    >>> texts = ["came early and whole", "a pleasure to use", "crushed and wet", "it stopped after a day"]
    >>> classifier = FewtuneClassifier(method="tfidf").fit(texts, [1, 1, 0, 0])
    >>> classifier.predict(["early and whole", "wet and crushed"]).tolist()
    [1, 0]
    >>> classifier.predict_proba(["early and whole"]).shape
    (1, 2)
    >>> classifier.save("reviews-model")
    """

    def __init__(
        self,
        method: str = AUTO,
        model: str | Sequence[str] | None = None,
        budget: str | None = "5m",
        within: float | None = 0.03,
        settings: Mapping[str, Any] | None = None,
        random_state: Any = None,
        metric: str | None = None,
        fast: bool = False,
        max_latency: str | None = None,
        max_fit_seconds: float | None = None,
        max_memory: str | None = None,
        none_label: Any = None,
        verbose: bool = False,
        callback: Callable[[FittingEvent], None] | None = None,
    ) -> None:
        self.method = method
        self.model = model
        self.budget = budget
        self.within = within
        self.settings = settings
        self.random_state = random_state
        self.metric = metric
        self.fast = fast
        self.max_latency = max_latency
        self.max_fit_seconds = max_fit_seconds
        self.max_memory = max_memory
        self.none_label = none_label
        self.verbose = verbose
        self.callback = callback

    def fit(self, X: Any, y: Any, X_unlabelled: Any = None) -> FewtuneClassifier:  # noqa: N803 - scikit-learn's name
        """Fit on rows and their labels; `X_unlabelled` are further rows, for methods that read some without labels.

        Raises ArgumentError, a ValueError, where something cannot be used.
        """
        with _raise_as_value_error():
            asked = read_parameters(self.get_params(deep=False))
            labels, texts = read_labels(y), read_texts(X)
            if len(texts.rows) != len(labels.codes):
                given = f"X has {pluralise(len(texts.rows), 'row')} and y {pluralise(len(labels.codes), 'label')}"
                raise ArgumentError(f"{given}: give a label for each row.")
            fields = name_fields(texts)
            rows, names = texts.name_rows(fields), labels.name_rows()
            pool = [] if X_unlabelled is None else read_texts(X_unlabelled, "X_unlabelled").name_rows(fields)
            if asked.method == AUTO:
                none = None if asked.none_label is None else labels.name(asked.none_label, "none_label")
                predictor = _choose(rows, names, none, asked).predictor
            else:
                predictor = _fit(rows, names, pool, asked)
        self.classes_ = labels.classes
        self.n_features_in_ = texts.columns
        if texts.names is not None:
            self.feature_names_in_ = np.array(texts.names, dtype=object)
        elif "feature_names_in_" in vars(self):  # of an earlier fit
            del self.feature_names_in_
        self.method_ = str(predictor.origin["method"])
        self._places = [predictor.labels.index(name) for name in labels.names]
        self._predictor: Predictor | None = predictor
        self._saved: Mapping[str, bytes] = {}
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The likeliest class of each row, (rows,), in the type of `classes_`."""
        probabilities = self.predict_proba(X)
        answers: np.ndarray = self.classes_[probabilities.argmax(axis=1)]
        return answers

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """The probability of each of `classes_`, (rows, classes); ArgumentError where rows are unlike fit's."""
        check_is_fitted(self)
        with _raise_as_value_error():
            predictor = self.predictor_
            probabilities = predictor.predict_probabilities(read_texts(X).name_rows(predictor.fields))
        return probabilities[:, self._places]

    @property
    def predictor_(self) -> Predictor:
        """What was fitted, as `fewtune.fit` and `fewtune.load` give it."""
        check_is_fitted(self)
        if self._predictor is None:  # unpickled, and not yet used
            self._predictor, self._saved = read_bytes(self._saved), {}
        return self._predictor

    def save(self, folder: Path | str) -> None:
        """Write what was fitted into a new folder, for `fewtune.load` and `fewtune predict`; never a pickle."""
        self.predictor_.save(folder)

    @property
    def decision_(self) -> KeptChoice:
        """Which candidate was chosen and what that is expected to lose; as text its sentence.

        Raises NoChoiceError, an AttributeError, where one method was named and nothing chosen.
        """
        check_is_fitted(self)
        kept = self.predictor_.origin.get("choice")
        if kept is None:
            raise NoChoiceError(
                f"method={self.method!r} was fitted alone, so that there is no decision and no leaderboard. Fit with "
                f"method={AUTO!r} to have them."
            )
        return KeptChoice(kept)

    def leaderboard(self) -> polars.DataFrame:
        """A row for each candidate, the best bet first, in eight columns; or NoChoiceError."""
        return self.decision_.table()

    def plot(self) -> altair.LayerChart:
        """The candidates' scores with their intervals as a chart, which a notebook shows; or NoChoiceError."""
        return self.decision_.plot()

    def __sklearn_clone__(self) -> FewtuneClassifier:
        """One with the same parameters, and the callback itself: a copy of it would hear events that nobody sees."""
        given = self.get_params(deep=False)
        callback = given.pop("callback")
        return type(self)(**{name: clone(value, safe=False) for name, value in given.items()}, callback=callback)

    def __getstate__(self) -> dict[str, Any]:
        """The predictor as the bytes of its saved files, all else as it stands: no network is ever pickled.

        Nor is the callback, which belongs to this process.
        """
        state = {**vars(self), "callback": None}
        if state.get("_predictor") is not None:
            state["_saved"], state["_predictor"] = write_bytes(state["_predictor"]), None
        return state

    def __sklearn_tags__(self) -> Tags:
        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(one_d_array=True, two_d_array=True, string=True, dict=True),
        )


def _fit(
    rows: Sequence[Mapping[str, str]], labels: Sequence[str], pool: Sequence[Mapping[str, str]], asked: Parameters
) -> Predictor:
    """The named method fitted on all rows."""
    from fewtune.running.fit_rows import FitRequest, fit_task, make_pool, make_task

    task = make_task(rows, labels)
    request = FitRequest(asked.method, asked.models[0] if asked.models else DEFAULT, asked.settings, asked.seed)
    return fit_task(task, make_pool(task, pool), request)


def _choose(
    rows: Sequence[Mapping[str, str]], labels: Sequence[str], none_label: str | None, asked: Parameters
) -> FittedFile:
    """The best candidate fitted on all rows and calibrated, as `fewtune fit` does."""
    from fewtune.fitting.candidates import list_candidates
    from fewtune.fitting.labelled_file import write_rows
    from fewtune.fitting.model import make_model
    from fewtune.fitting.row_look import format_rows_left_out
    from fewtune.fitting.terms import Terms

    terms = Terms(
        within=asked.within, seconds=asked.seconds, seed=asked.seed, limits=asked.limits, none_label=none_label
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fewtune-") as scratch:
        file = replace(write_rows(rows, labels, Path(scratch) / "rows.jsonl"), metric=asked.metric)
        try:
            task = file.read()
            if told := format_rows_left_out(task.left_out):
                warnings.warn(told, UserWarning, stacklevel=3)
            portfolio = list_candidates(task, asked.models, only_frozen=asked.fast, limits=asked.limits)
            with _hearing(asked, began) as (hear, on_step):
                fitted = make_model(task, portfolio, terms, began, hear=hear, on_step=on_step)
        except FewtuneError as error:  # which name a file that its reader never saw
            raise ArgumentError(str(error).replace(f"{file.train}: ", "X and y: ")) from error
    if fitted.unclear is not None:
        warnings.warn(fitted.unclear, UserWarning, stacklevel=3)
    return fitted


@contextmanager
def _hearing(asked: Parameters, began: float) -> Iterator[tuple[Callable[[FittingEvent], None], OnStep]]:
    """Whoever is told what goes on, and each step: the callback, and a panel where it is to be seen."""
    from fewtune.running.fit_rows import hear_nothing

    callback = asked.callback
    if not asked.verbose:
        yield (lambda event: None) if callback is None else callback, hear_nothing
        return
    from fewtune.fitting.panel import FitPanel
    from fewtune.system.terminal import open_console

    with FitPanel(open_console(), began, verbose=True) as panel:

        def both(event: FittingEvent) -> None:
            panel.hear(event)
            if callback is not None:
                callback(event)

        yield both, panel.count_step


@contextmanager
def _raise_as_value_error() -> Iterator[None]:
    """Raise whatever the user can mend as a ValueError, which scikit-learn's users and tools expect."""
    try:
        yield
    except ArgumentError:
        raise
    except (FewtuneError, TrialFailure) as error:
        raise ArgumentError(str(error)) from error
