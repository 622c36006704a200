"""Tunes a method's settings by cross-validation on the support, with the same effort for every method.

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

from fewtune.engine.score_cache import saved_seconds
from fewtune.errors import DataError, FewtuneError, TrialFailure
from fewtune.methods.base import Method, find_skip_reason
from fewtune.plurals import pluralise
from fewtune.records import TriedSetting, TuningNotes
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.study import build_settings
from fewtune.study.seeds import make_rng
from fewtune.tasks.base import Draw, Example, Task, TestSet
from fewtune.tasks.scores import score_test_set

if TYPE_CHECKING:
    from fewtune.engine.language_model import LanguageModel
    from fewtune.methods.plan import Plan


@dataclass(frozen=True)
class Search:
    """The settings of a method that are tried, and how."""

    method: Method
    candidates: Sequence[Mapping[str, Any]]
    """Every setting of each."""
    varied: Sequence[str]
    """The settings by which candidates differ, as the record names them."""
    folds: int
    """Parts of the support, each held out once."""

    @property
    def fits(self) -> int:
        """Fits that the search takes."""
        return len(self.candidates) * self.folds


@dataclass(frozen=True)
class Tuned:
    """The settings chosen, and what was tried as the record notes it."""

    settings: dict[str, Any]
    notes: TuningNotes


def check_folds(task: Task, support: Sequence[Example], folds: int) -> None:
    """Raise DataError where some label has fewer support rows than there are folds."""
    counts = Counter(row.label for row in support)
    label, fewest = min(((name, counts[i]) for i, name in enumerate(task.labels)), key=lambda item: item[1])
    if fewest < folds:
        fewer = f", or {fewest} folds" if fewest >= 2 else ""
        rows = pluralise(fewest, "row")
        raise DataError(
            f"{task.name}: tuning.folds is {folds} and the {pluralise(len(support), 'shot')} hold {rows} labelled "
            f"{label!r}: every fold needs one of each label. Ask more shots{fewer}."
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
    search: Search,
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
    check_folds(task, draw.support, search.folds)
    parts = split_folds(draw.support, search.folds, *axes)
    began = _now()
    tried: list[TriedSetting] = []
    for number, candidate in enumerate(search.candidates):
        started = _now()
        judged: dict[str, Any] = {}
        try:
            settings: Any = build_settings(search.method.settings, candidate)
            reason = find_skip_reason(search.method, settings, model.config if model is not None else None, task)
            if reason is not None:
                raise TrialFailure("error", reason)
            scores = []
            for fold, held_out in enumerate(parts):
                on_fit(f"tuning, setting {number + 1}", number * search.folds + fold, search.fits)
                rng, rest = make_rng("tuning", *axes, fold), _leave_out(draw, held_out)
                answers = _answer(make_plan(search.method, settings, model, task, rest, rng), held_out, rng)
                gc.collect()  # plans hold their network in closures: let go of it before the next one is made
                scores.append(answers)
            judged = _judge(task, [row for part in parts for row in part], np.concatenate(scores))
        except (TrialFailure, FewtuneError) as error:
            judged = {"failure": str(error)}
        chosen = {key: candidate[key] for key in search.varied}
        tried.append(TriedSetting(settings=chosen, seconds=round(_now() - started, 3), **judged))
    sound = [(i, each.score, each.log_loss) for i, each in enumerate(tried) if each.score is not None]
    if not sound:
        which = pluralise(len(tried), "setting")
        raise TrialFailure("error", f"all {which} of the grid failed; the first: {tried[0].failure}")
    best, _, _ = max(sound, key=lambda each: (each[1], -(each[2] or 0.0), -each[0]))
    notes = TuningNotes(
        chosen=tried[best].settings,
        tried=tried,
        folds=search.folds,
        metric=task.primary_metric,
        seconds=round(_now() - began, 3),
    )
    return Tuned(dict(search.candidates[best]), notes)


def _now() -> float:
    """Seconds that pass, those that hits in the score cache save among them."""
    return time.perf_counter() + saved_seconds()


def _leave_out(draw: Draw, held_out: Sequence[Example]) -> Draw:
    """The draw without some rows of its support, and without test rows."""
    taken = {row.row_id for row in held_out}
    return replace(draw, support=tuple(row for row in draw.support if row.row_id not in taken), test_sets=())


def _answer(plan: Plan, rows: Sequence[Example], rng: np.random.Generator) -> np.ndarray:
    """Log-probabilities of rows (rows, labels) after a plan's fit."""
    fitted, _ = fit_plan(plan, rng)
    return fitted.score([row.without_label() for row in rows])


def _judge(task: Task, rows: Sequence[Example], scores: np.ndarray) -> dict[str, float]:
    """The task's primary metric over the held-out rows, and their mean log loss in nats."""
    held_out = TestSet("held out", tuple(rows), task.labels, tuple(range(len(task.labels))))
    _, metrics = score_test_set(held_out, scores)
    gold = [row.label for row in rows]
    loss = -float(np.mean([scores[i, label] for i, label in enumerate(gold) if label is not None]))
    return {"score": round(metrics[task.primary_metric], 6), "log_loss": round(loss, 6)}
