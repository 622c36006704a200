"""One method fitted on rows that are at hand: no study, no test rows, no record; what comes of it is a predictor.

Owns making a task of labelled texts. How a method fits is the same as in a trial (`adapt`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fewtune.errors import DataError, FewtuneError
from fewtune.methods import get_method
from fewtune.methods.base import Method
from fewtune.predictors.predictor import Predictor
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.study import build_settings, read_settings
from fewtune.study.nulls import DEFAULT_MAX_TOKENS, resolve_settings
from fewtune.study.seeds import make_rng
from fewtune.tasks.base import Draw, Example, Task
from fewtune.tasks.build import fingerprint_rows
from fewtune.tasks.label_column import order_labels
from fewtune.tasks.own_files import derive_pattern

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel

Row = str | Mapping[str, str]
"""A row's text, or its texts by name."""


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
    task, given = make_task(rows, labels), read_settings(method, settings or {})
    known = get_method(method)
    chosen = resolve_settings(known, given, task, shots=len(task.train), pool_rows=0)
    typed: Any = build_settings(known.settings, chosen)
    loaded = _load_model(known, typed, model, task) if known.uses_model else None
    draw = Draw(task.train, (), (), hashlib.sha256(task.fingerprint.encode()).hexdigest())
    rng = make_rng("fit", task.name, len(task.train), 0, seed)
    plan = make_plan(known, typed, loaded, task, draw, rng)
    fit_plan(plan, rng)
    origin = {
        "method": method,
        "settings": chosen,
        "rows": len(task.train),
        "data": task.fingerprint,
        "seed": seed,
        "fewtune": version("fewtune"),
    }
    return replace(plan.predictor, origin=origin)


def _load_model(method: Method, settings: Any, name: str | None, task: Task) -> LanguageModel:
    """The model by that name in this machine's precision; raises FewtuneError where the method cannot use it."""
    from fewtune.engine.loading import load_model
    from fewtune.models import find_model, inspect_model, max_positions, resolve_precision

    if name is None:
        raise FewtuneError(f"{method.name} needs a model: name one, for example model='smollm2-135m'.")
    snapshot = find_model(name)
    config = inspect_model(snapshot)
    reason = method.skip_reason(settings, config, task)
    if reason is not None:
        raise FewtuneError(f"{method.name} cannot be used on {name}: {reason}")
    loaded = load_model(snapshot, resolve_precision("auto"))
    return replace(loaded, max_tokens=min(DEFAULT_MAX_TOKENS, max_positions(config)))


def make_task(rows: Sequence[Row], labels: Sequence[str]) -> Task:
    """A task of labelled rows without test rows; its pattern is derived from text columns and labels."""
    if len(rows) != len(labels):
        raise DataError(f"{len(rows)} rows and {len(labels)} labels were given: give a label for each row.")
    texts = [{"text": row} if isinstance(row, str) else dict(row) for row in rows]
    fields = tuple(texts[0]) if texts else ()
    names = order_labels(set(labels))
    if len(names) < 2:
        raise DataError(f"{len(names)} label was given ({', '.join(names) or 'no row'}): give rows of at least two.")
    for number, text in enumerate(texts, start=1):
        if tuple(text) != fields or not all(isinstance(value, str) and value.strip() for value in text.values()):
            raise DataError(f"row {number} should have a text {', '.join(fields)} and no other.")
    index = {name: place for place, name in enumerate(names)}
    train = tuple(
        Example(f"train/{number}", {name: value.strip() for name, value in text.items()}, index[label])
        for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=1)
    )
    return Task(
        name="own rows",
        source_url="",
        revision=1,
        fields=fields,
        labels=names,
        patterns=(derive_pattern(fields, names),),
        primary_metric="accuracy" if len(names) == 2 else "macro_f1",
        train=train,
        test_sets=(),
        fingerprint=fingerprint_rows(train, ()),
    )
