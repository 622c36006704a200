"""One method fitted on rows that are at hand: no study, no test rows, no record; what comes of it is a predictor.

Owns making a task of labelled texts. How a method fits is the same as in a trial (`adapt`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any, Literal

from fewtune.errors import DataError, FewtuneError
from fewtune.methods import get_method
from fewtune.predictors.predictor import Predictor
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.running.worker import DEFAULT_MAX_TOKENS
from fewtune.study import build_settings, read_study
from fewtune.study.seeds import make_rng
from fewtune.tasks.base import Draw, Example, Task
from fewtune.tasks.build import fingerprint_rows
from fewtune.tasks.label_column import order_labels
from fewtune.tasks.own_files import derive_pattern

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
    """A method fitted on all these rows; raises FewtuneError where method, model, settings or rows cannot be used."""
    task = make_task(rows, labels)
    precision, chosen = _read_choice(method, model, settings or {})
    known = get_method(method)
    loaded = None
    if known.uses_model:
        from fewtune.engine.loading import load_model
        from fewtune.models import find_model, inspect_model

        place = find_model(model or "")
        config = inspect_model(place)
        reason = known.skip_reason(chosen, config, task)
        if reason is not None:
            raise FewtuneError(f"{method} cannot be used on {model}: {reason}")
        loaded = replace(load_model(place, precision), max_tokens=DEFAULT_MAX_TOKENS)
    draw = Draw(task.train, (), (), hashlib.sha256(task.fingerprint.encode()).hexdigest())
    rng = make_rng("fit", task.name, len(task.train), 0, seed)
    plan = make_plan(known, chosen, loaded, task, draw, rng)
    fit_plan(plan, rng)
    origin = {
        "method": method,
        "settings": asdict(chosen),
        "rows": len(task.train),
        "data": task.fingerprint,
        "seed": seed,
        "fewtune": version("fewtune"),
    }
    return replace(plan.predictor, origin=origin)


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
        Example(f"train/{number}", text, index[label])
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


def _read_choice(
    method: str, model: str | None, settings: Mapping[str, Any]
) -> tuple[Literal["bfloat16", "float32"], Any]:
    """This machine's precision, and a method's settings, read and refused as a study's are."""
    from fewtune.models import resolve_precision

    values: dict[str, Any] = {
        "name": "fit",
        "tasks": ["sentiment"],
        "methods": [{method: dict(settings)}],
        "shots": [2],
        "floors": False,
    }
    study = read_study({**values, **({"models": [model]} if model is not None else {})})
    return resolve_precision("auto"), build_settings(get_method(method).settings, study.methods[0].settings)
