"""The checks: label words alone, behind demonstrations, and after a fit, by both paths on the same rows.

Owns what is compared and the figures of a comparison. Does not know where they are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.agreement import plain
from benchmarks.race.classifier import load_tokenizer
from benchmarks.race.label_words import find_words
from benchmarks.race.material import Material, measure_accuracy
from benchmarks.race.works import METHODS, settings_of
from benchmarks.race.works import Size as RaceSize
from fewtune.engine.fitting import FitExample
from fewtune.engine.language_model import LanguageModel
from fewtune.methods import get_method
from fewtune.methods.answer import answer_by_label_words
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.tasks.base import Example

PADDED_ROWS = 16
"""Rows that the plain path pads together; behind demonstrations it runs them one at a time."""


@dataclass(frozen=True)
class Size:
    """How many rows are answered, and how long the fit is."""

    rows: int = 500
    queries: int = 100
    """Rows answered behind the demonstrations."""
    demonstrations: int = 16
    shots: int = 32
    batch_size: int = 16
    epochs: int = 10

    def of_race(self) -> RaceSize:
        """The same as the race's material and settings take it."""
        return RaceSize(
            shots=self.shots,
            epochs=self.epochs,
            batch_size=self.batch_size,
            test_rows=self.rows,
            demonstrations=self.demonstrations,
            queries=self.queries,
            pool_rows=0,
        )


@dataclass(frozen=True)
class Agreement:
    """How far two paths agree on the same rows.

    `largest_difference`: of a label's log-probability, over rows and labels. `changed_margins`: the plain path's margin
    between its best two labels, in nats, on each row whose prediction differs.
    """

    rows: int
    accuracy_ours: float
    accuracy_plain: float
    equal_share: float
    largest_difference: float
    changed_margins: list[float]


def compare(ours: np.ndarray, theirs: np.ndarray, rows: Sequence[Example]) -> Agreement:
    """Set log-probabilities (rows, labels) of both paths side by side."""
    differ = ours.argmax(1) != theirs.argmax(1)
    ordered = np.sort(theirs, axis=1)
    return Agreement(
        rows=len(rows),
        accuracy_ours=measure_accuracy(ours, rows),
        accuracy_plain=measure_accuracy(theirs, rows),
        equal_share=float(1.0 - differ.mean()),
        largest_difference=float(np.abs(ours - theirs).max()),
        changed_margins=(ordered[:, -1] - ordered[:, -2])[differ].tolist(),
    )


def check_zero_shot(material: Material, model: LanguageModel) -> dict[str, Any]:
    """The test rows by label words alone."""
    answer = answer_by_label_words(model, material.task, material.draw, None, "label_words")
    ours = answer.predict_untaught().log_probabilities(hide_labels(material.test_rows))
    theirs = score_plainly(plain.load_network(material.place), material, material.test_rows, "", PADDED_ROWS)
    return asdict(compare(ours, theirs, material.test_rows))


def check_in_context(material: Material, model: LanguageModel) -> dict[str, Any]:
    """The first test rows behind the same demonstrations."""
    rows = material.test_rows[: material.size.queries]
    method = get_method(METHODS["in-context"][0])
    settings = method.settings(**settings_of("in-context", material.size))
    ours = make_plan(method, settings, model, material.task, material.draw, material.rng()).score(hide_labels(rows))
    before = material.write_context(material.choose_shown(of_teacher=False))
    theirs = score_plainly(plain.load_network(material.place), material, rows, before, 1)
    return asdict(compare(ours, theirs, rows))


def check_fit(material: Material, model: LanguageModel) -> dict[str, Any]:
    """The test rows after pattern tuning on the same batches, and both loss curves."""
    method = get_method("pattern")
    settings = method.settings(epochs=material.size.epochs, batch_size=material.size.batch_size, learning_rate=2e-5)
    plan = make_plan(method, settings, model, material.task, material.draw, material.rng())
    batches: list[tuple[list[Sequence[int]], list[int]]] = []
    assert plan.fitting is not None
    loss_of = plan.fitting.loss

    def note(batch: Sequence[FitExample]) -> torch.Tensor:
        batches.append(([e.prompt for e in batch], [e.label or 0 for e in batch]))
        return loss_of(batch)

    _, report = fit_plan(replace(plan, fitting=replace(plan.fitting, loss=note)), material.rng())
    assert report is not None
    if len(report.losses) != len(batches):
        raise ValueError(f"{len(batches)} passes in {len(report.losses)} steps: the plain loop takes one pass a step")
    network = plain.load_network(material.place)
    words = find_words(material, load_tokenizer(material))
    rate = plan.fitting.groups[0].learning_rate
    losses = plain.fit_words(network, batches, words, plan.fitting.optimisation, rate)
    ours = plan.score(hide_labels(material.test_rows))
    theirs = score_plainly(network, material, material.test_rows, "", PADDED_ROWS)
    curves = {"losses_ours": report.losses, "losses_plain": losses}
    return {**asdict(compare(ours, theirs, material.test_rows)), **curves}


def score_plainly(
    network: Any, material: Material, rows: Sequence[Example], before: str, rows_a_pass: int
) -> np.ndarray:
    """The plain path's log-probabilities (rows, labels) of rows behind a text, all tokenised as one."""
    tokenizer = load_tokenizer(material)
    prompts = tokenizer([before + text for text in material.texts("in-context", rows)]).input_ids
    return plain.score_rows(network, prompts, find_words(material, tokenizer), rows_a_pass)


def hide_labels(rows: Sequence[Example]) -> list[Example]:
    """Rows as a plan may see them."""
    return [row.without_label() for row in rows]


CHECKS: Mapping[str, tuple[str, Callable[[Material, LanguageModel], dict[str, Any]]]] = {
    "zero-shot": ("label words, nothing before them", check_zero_shot),
    "in-context": ("in-context, {demonstrations} demonstrations", check_in_context),
    "fit": ("after {epochs} epochs of pattern tuning on {shots} rows", check_fit),
}
"""Each check's title, sizes in braces, and what runs it."""
