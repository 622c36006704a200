"""Fits one method on given rows without a study, and returns a predictor.

Owns making a task of labelled texts, and a pool of unlabelled ones. How a method fits is the same as in a trial
(`adapt`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

from fewtune.data.row_files import is_text
from fewtune.errors import DataError, FewtuneError, TrialFailure, shorten
from fewtune.methods import get_method
from fewtune.methods.base import Method, find_skip_reason
from fewtune.metrics.table import choose_primary_metric
from fewtune.plurals import pluralise
from fewtune.predictors.predictor import Predictor, refuse_no_list
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.running.collapse import always, fit_again_where_collapsed
from fewtune.study import build_settings, read_settings
from fewtune.study.defaults import DEFAULT_MAX_TOKENS, resolve_settings
from fewtune.study.seeds import make_rng
from fewtune.tasks.base import Draw, Example, Pattern, Task
from fewtune.tasks.build import fingerprint_rows
from fewtune.tasks.derived_pattern import derive_pattern
from fewtune.tasks.label_column import order_labels

if TYPE_CHECKING:
    from fewtune.engine.fit import FitReport
    from fewtune.engine.language_model import LanguageModel
    from fewtune.engine.resuming import Resumption
    from fewtune.methods.plan import Plan
    from fewtune.models import ModelSnapshot

Row = str | Mapping[str, str]
"""A row's text, or its texts by name."""


@dataclass(frozen=True)
class FitRequest:
    """A method and how it is fitted."""

    method: str
    model: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's own; what is not named has its default."""
    seed: int = 0
    max_tokens: int | None = None
    """Tokens of one row's prompt; None: DEFAULT_MAX_TOKENS, or as many as the model reads."""


OnStep = Callable[[int, int, float], None]
"""Hears each step of a fit: its number from 1, how many there are, its loss."""


class ReadModel(Protocol):
    """How a model is come by: read anew, or kept from an earlier fit."""

    def __call__(self, snapshot: ModelSnapshot) -> LanguageModel: ...


def hear_nothing(step: int, steps: int, loss: float) -> None:
    """Whoever does not listen."""


def fit_rows(
    rows: Sequence[Row],
    labels: Sequence[str],
    method: str,
    model: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Predictor:
    """A method fitted on all these rows, white space around their texts left out.

    Raises FewtuneError where method, model, settings or rows cannot be used.
    """
    return fit_task(make_task(rows, labels), (), FitRequest(method, model, settings or {}, seed))


def read_anew(snapshot: ModelSnapshot) -> LanguageModel:
    """The model as its files have it, in this machine's precision."""
    from fewtune.engine.loading import load_model
    from fewtune.models import resolve_precision

    return load_model(snapshot, resolve_precision("auto"))


def fit_task(
    task: Task,
    pool: Sequence[Example],
    request: FitRequest,
    on_step: OnStep = hear_nothing,
    read_model: ReadModel = read_anew,
    resumption: Resumption | None = None,
    has_time: Callable[[float], bool] = always,
) -> Predictor:
    """A method fitted on all training rows of a task, beside a pool of unlabelled ones; raises FewtuneError likewise.

    Methods that read no unlabelled rows leave the pool alone. With a `resumption` the fit goes on where a process that
    was killed left it. `has_time` says whether a fit that collapsed may be made again, by the seconds it took.
    """
    method, seed = request.method, request.seed
    given, known = read_settings(method, request.settings), get_method(method)
    chosen = resolve_settings(known, given, task, shots=len(task.train), pool_rows=len(pool))
    typed: Any = build_settings(known.settings, chosen)
    if not pool and known.needs_pool(typed):
        raise FewtuneError(
            f"{method} needs unlabelled rows with these settings, which FewtuneClassifier.fit (X_unlabelled) and a "
            "study (pool_rows) give, and `fewtune fit` does not. Give some there, or settings that need none."
        )
    loaded = _load_model(known, typed, request, task, read_model) if known.uses_model else None
    rows = fingerprint_rows((*task.train, *pool), ())
    draw = Draw(task.train, tuple(pool), (), hashlib.sha256(rows.encode()).hexdigest())

    def fit(attempt: int) -> tuple[Plan, FitReport | None]:
        again = ("again", attempt) if attempt else ()
        rng = make_rng("fit", task.name, len(task.train), 0, seed, *again)
        plan = make_plan(known, typed, loaded, task, draw, rng)
        return fit_plan(plan, rng, on_step, resumption=None if attempt else resumption)

    try:
        fitted = fit_again_where_collapsed(fit, draw, has_time=has_time)
    except TrialFailure as failure:  # a study records one; here the fit is all there is
        raise FewtuneError(f"{method} could not be fitted: {failure}") from failure
    origin = {
        "method": method,
        "settings": chosen,
        "rows": len(task.train),
        "pool_rows": len(pool),
        "data": task.fingerprint,
        "seed": seed,
        "fewtune": version("fewtune"),
    }
    if fitted.collapsed:
        origin["collapsed_fits"] = fitted.collapsed
    if fitted.out_of_time:
        origin["collapsed"] = True
    return replace(fitted.plan.predictor, origin=origin)


def _load_model(method: Method, settings: Any, request: FitRequest, task: Task, read_model: ReadModel) -> LanguageModel:
    """The model by that name in this machine's precision, with the teachers that settings name.

    Raises FewtuneError where the method cannot use them.
    """
    from fewtune.models import find_model, inspect_model, place_model, tell_unlike_vocabulary

    name = request.model
    if name is None:
        raise FewtuneError(f"{method.name} needs a model: name one, for example model='smollm2-135m'.")
    snapshot = find_model(place_model(name))  # by a name that a saved model finds it under from everywhere
    reason = find_skip_reason(method, settings, inspect_model(snapshot), task)
    if reason is not None:
        raise FewtuneError(f"{method.name} cannot be used on {name}: {reason}")
    teachers = [find_model(teacher) for teacher in method.other_models(settings) if teacher != name]
    for teacher in teachers:
        unlike = tell_unlike_vocabulary(teacher, snapshot) if method.shares_vocabulary(settings) else None
        if unlike is not None:
            raise FewtuneError(f"{unlike}.")
    model = _read_model(snapshot, request.max_tokens, read_model)
    others = {teacher.name: _read_model(teacher, request.max_tokens, read_model) for teacher in teachers}
    if name in method.other_models(settings):  # it teaches itself, under the name that was given
        others[name] = model
    return replace(model, others=others)


def _read_model(snapshot: ModelSnapshot, max_tokens: int | None, read_model: ReadModel) -> LanguageModel:
    from fewtune.models import inspect_model, max_positions

    positions = max_positions(inspect_model(snapshot))
    if (max_tokens or 0) > positions:
        raise FewtuneError(f"max_tokens is {max_tokens}, and {snapshot.name} reads {positions}. Lower it.")
    longest = min(max_tokens or DEFAULT_MAX_TOKENS, positions)
    return replace(read_model(snapshot), name=snapshot.name, max_tokens=longest)


def make_task(rows: Sequence[Row], labels: Sequence[str], wording: Task | None = None) -> Task:
    """A task of labelled rows without test rows, worded by the patterns of another of these labels, in its order.

    Without one its pattern is derived from text columns and labels.
    """
    refuse_no_list(rows, "rows")
    refuse_no_list(labels, "labels")
    if len(rows) != len(labels):
        raise DataError(
            f"{pluralise(len(rows), 'row')} and {pluralise(len(labels), 'label')} given: give a label for each row."
        )
    for number, label in enumerate(labels, start=1):
        if not isinstance(label, str) or not label.strip() or not is_text(label):
            raise DataError(f"row {number} has the label {shorten(repr(label))}: give each row a label as text.")
    labels = [label.strip() for label in labels]
    texts = [_name_texts(number, row) for number, row in enumerate(rows, start=1)]
    fields = tuple(texts[0]) if texts else ()
    given = set(labels)
    names = order_labels(given) if wording is None else tuple(name for name in wording.labels if name in given)
    if len(names) < 2:
        raise DataError(
            f"{pluralise(len(names), 'label')} given ({', '.join(names) or 'no row'}): give rows of at least two."
        )
    _check_texts(texts, fields, "row")
    index = {name: place for place, name in enumerate(names)}
    train = tuple(
        Example(f"train/{number}", _strip(text), index[label])
        for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=1)
    )
    return Task(
        name="own rows",
        source_url="",
        revision=1,
        fields=fields,
        labels=names,
        patterns=(derive_pattern(fields, names),) if wording is None else _order_words(wording, names),
        primary_metric=choose_primary_metric(len(names)),
        train=train,
        test_sets=(),
        fingerprint=fingerprint_rows(train, ()),
    )


def _order_words(wording: Task, names: Sequence[str]) -> tuple[Pattern, ...]:
    """Another task's patterns, their label words in the order of these labels."""
    places = [wording.labels.index(name) for name in names]
    return tuple(
        replace(pattern, label_words=tuple(pattern.label_words[place] for place in places))
        for pattern in wording.patterns
    )


def make_pool(task: Task, rows: Sequence[Row]) -> tuple[Example, ...]:
    """Unlabelled rows with the same texts as a task's; raises DataError naming the row that has others."""
    refuse_no_list(rows, "unlabelled rows")
    texts = [_name_texts(number, row) for number, row in enumerate(rows, start=1)]
    _check_texts(texts, task.fields, "unlabelled row")
    return tuple(Example(f"pool/{number}", _strip(text), None) for number, text in enumerate(texts, start=1))


def _name_texts(number: int, row: Row) -> dict[str, str]:
    if isinstance(row, str):
        return {"text": row}
    if not isinstance(row, Mapping):
        raise DataError(f"row {number} is {shorten(repr(row))}: give a text, or a mapping of texts by name.")
    return dict(row)


def _strip(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: text.strip() for name, text in texts.items()}


def _check_texts(texts: Sequence[Mapping[str, str]], fields: tuple[str, ...], what: str) -> None:
    for number, text in enumerate(texts, start=1):
        if set(text) != set(fields) or not all(isinstance(value, str) and value.strip() for value in text.values()):
            raise DataError(f"{what} {number} should have a text {', '.join(fields)} and no other.")
        if not all(map(is_text, text.values())):
            raise DataError(f"{what} {number} holds half a character: mend it, or leave the row out.")
