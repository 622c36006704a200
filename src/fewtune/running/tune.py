"""Choosing a method's settings by cross-validation on the support, with the same effort for every method.

Owns the folds, which are the same for every method and candidate, and the choice: the best primary metric over the
held-out rows of all folds, ties broken by their mean log loss, then by the grid's order. Test rows are never at hand.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fewtune.errors import DataError, FewtuneError, TrialFailure
from fewtune.methods.base import Method
from fewtune.records import TriedSetting, TuningNotes
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.study import build_settings
from fewtune.study.seeds import make_rng
from fewtune.tasks.base import Draw, Example, Task, TestSet
from fewtune.tasks.metrics import score_test_set

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel


@dataclass(frozen=True)
class Tuned:
    """The settings chosen, what was tried as the record notes it, and the tokens run on the way.

    Tokens of a fit that failed are not among them: they went with it.
    """

    settings: dict[str, Any]
    notes: TuningNotes
    tokens: int


def check_folds(task: Task, support: Sequence[Example], folds: int) -> None:
    """Raise DataError where some label has fewer support rows than there are folds."""
    counts = Counter(row.label for row in support)
    label, fewest = min(((name, counts[i]) for i, name in enumerate(task.labels)), key=lambda item: item[1])
    if fewest < folds:
        fewer = f", or {fewest} folds" if fewest >= 2 else ""
        rows = f"{fewest} row{'s' if fewest != 1 else ''}"
        raise DataError(
            f"{task.name}: tuning.folds is {folds} and the {len(support)} shots hold {rows} labelled {label!r}: "
            f"every fold needs one of each label. Ask more shots{fewer}."
        )


def split_folds(support: Sequence[Example], folds: int, *axes: str | int) -> list[tuple[Example, ...]]:
    """Deal the support into folds, label by label, in an order seeded by named axes."""
    rng = make_rng("folds", *axes)
    dealt: list[list[Example]] = [[] for _ in range(folds)]
    place = 0
    for label in sorted({row.label for row in support if row.label is not None}):
        members = [row for row in support if row.label == label]
        for index in rng.permutation(len(members)):
            dealt[place % folds].append(members[index])
            place += 1
    return [tuple(fold) for fold in dealt]


def tune(
    method: Method,
    candidates: Sequence[Mapping[str, Any]],
    varied: Sequence[str],
    folds: int,
    model: LanguageModel | None,
    task: Task,
    draw: Draw,
    axes: Sequence[str | int],
    on_fit: Callable[[str, int, int], None],
) -> Tuned:
    """Fit every candidate on every fold's other rows and choose by the rows held out; `axes` seed folds and fits.

    `on_fit(phase, done, fits)` is told before each fit. A candidate that diverges or does not fit model, task or draw
    is out of the choice, with its reason in the notes; raises TrialFailure where all fail.
    """
    check_folds(task, draw.support, folds)
    parts = split_folds(draw.support, folds, *axes)
    began, tokens = time.perf_counter(), 0
    tried: list[TriedSetting] = []
    for number, candidate in enumerate(candidates):
        started = time.perf_counter()
        judged: dict[str, Any] = {}
        try:
            settings: Any = build_settings(method.settings, candidate)
            reason = method.skip_reason(settings, model.config if model is not None else None, task)
            if reason is not None:
                raise TrialFailure("error", reason)
            scores = []
            for fold, held_out in enumerate(parts):
                on_fit(f"tuning, setting {number + 1}", number * folds + fold, len(candidates) * folds)
                fold_scores, run = _score_fold(
                    method, settings, model, task, draw, held_out, make_rng("tuning", *axes, fold)
                )
                scores.append(fold_scores)
                tokens += run
            judged = _judge(task, [row for part in parts for row in part], np.concatenate(scores))
        except (TrialFailure, FewtuneError) as error:
            judged = {"failure": str(error)}
        chosen = {key: candidate[key] for key in varied}
        tried.append(TriedSetting(settings=chosen, seconds=round(time.perf_counter() - started, 3), **judged))
    sound = [(i, each.score, each.log_loss) for i, each in enumerate(tried) if each.score is not None]
    if not sound:
        raise TrialFailure("error", f"all {len(tried)} settings of the grid failed; the first: {tried[0].failure}")
    best, _, _ = max(sound, key=lambda each: (each[1], -(each[2] or 0.0), -each[0]))
    notes = TuningNotes(
        chosen=tried[best].settings,
        tried=tried,
        folds=folds,
        metric=task.primary_metric,
        seconds=round(time.perf_counter() - began, 3),
    )
    return Tuned(dict(candidates[best]), notes, tokens)


def _score_fold(
    method: Method,
    settings: Any,
    model: LanguageModel | None,
    task: Task,
    draw: Draw,
    held_out: Sequence[Example],
    rng: np.random.Generator,
) -> tuple[np.ndarray, int]:
    """Log-probabilities of the held-out rows (rows, labels) after a fit on the others, and the tokens it took."""
    taken = {row.row_id for row in held_out}
    rest = replace(draw, support=tuple(row for row in draw.support if row.row_id not in taken), test_sets=())
    plan = make_plan(method, settings, model, task, rest, rng)
    fit_plan(plan, rng)
    scores = plan.score([row.without_label() for row in held_out])
    run = plan.prepared_tokens + (plan.forward.tokens_run if plan.forward is not None else 0)
    del plan
    gc.collect()  # plans hold their network in closures: let go of it before the next one is made
    return scores, run


def _judge(task: Task, rows: Sequence[Example], scores: np.ndarray) -> dict[str, float]:
    """The task's primary metric over the held-out rows, and their mean log loss in nats."""
    held_out = TestSet("held out", tuple(rows), task.labels, tuple(range(len(task.labels))))
    _, metrics = score_test_set(held_out, scores)
    gold = [row.label for row in rows]
    loss = -float(np.mean([scores[i, label] for i, label in enumerate(gold) if label is not None]))
    return {"score": round(metrics[task.primary_metric], 6), "log_loss": round(loss, 6)}
