"""What a teacher is worth is measured on support rows, and alpha and steps follow it where that is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from distillation_plans import make_plan
from fewtune.engine.language_model import LanguageModel
from fewtune.methods import get_method
from fewtune.methods.teacher_worth import count_steps, measure_worth
from fewtune.tasks.base import Draw, Example, Task
from reference_loop import fit_losses

STEPS: dict[str, Any] = {"epochs": 3, "batch_size": 4}


def test_a_teachers_worth_is_how_far_it_comes_from_chance_to_one() -> None:
    rows = [Example(f"r{number}", {"text": ""}, label) for number, label in enumerate((0, 0, 1, 1, None))]
    good, bad = np.log([0.1, 0.9]), np.log([0.9, 0.1])
    assert measure_worth(rows, [bad, bad, good, good, good]) == 1.0
    assert measure_worth(rows, [bad, bad, good, bad, good]) == pytest.approx(0.5), "three of four, chance a half"
    assert measure_worth(rows, [good, good, bad, bad, good]) == 0.0, "below chance it is worth nothing"
    assert measure_worth(rows, [None, None, None, None, good]) is None
    assert measure_worth(rows, [bad, None, None, None, good]) is None, "one label says nothing"


def test_a_teacher_whose_worth_is_asked_leaves_support_rows_out_of_its_contexts(task: Task) -> None:
    method = get_method("context_distillation")
    for settings, shots, shown in (
        ({"alpha": 0.9}, 8, 8),
        ({"alpha": "worth"}, 8, 6),
        ({"steps": "worth"}, 8, 6),
        ({"alpha": "worth"}, 64, 8),
        ({"alpha": "worth"}, 1, 1),
    ):
        assert method.resolve(method.settings(**settings), task, shots, 6).demonstrations == shown


def test_alpha_by_worth_is_the_weight_that_the_teacher_earns_and_is_noted(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    settings = {"demonstrations": 2, "contexts": 3, "learning_rate": 1e-3, **STEPS}
    earned = make_plan(models["llama"], task, draw, alpha="worth", **settings)
    notes = earned.report().teacher
    assert notes is not None and notes.alpha is not None and 0.0 <= notes.alpha <= 1.0
    given = make_plan(models["llama"], task, draw, alpha=notes.alpha, **settings)
    assert fit_losses(earned) == pytest.approx(fit_losses(given), abs=1e-4), "six digits of it are noted"


def test_steps_by_a_worth_that_nobody_measured_are_told(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    few = replace(draw, support=tuple(row for row in draw.support if row.label == 0)[:2])
    shown = make_plan(models["llama"], task, few, steps="worth")
    notes = shown.report()
    assert notes.teacher is not None and notes.teacher.worth is None
    assert notes.warnings == ["the teacher was asked of no support rows of two labels: 40 steps were taken"]
    assert shown.fitting is not None and shown.fitting.optimisation.steps == 40


def test_a_teacher_whose_worth_is_asked_leaves_support_rows_out_in_folds_too(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    method = get_method("context_distillation")
    settings = method.resolve(method.settings(alpha="worth"), task, 2 * len(draw.support), len(draw.pool))
    assert settings.demonstrations == len(draw.support), "as a fold has rows"
    plan = method.plan(settings, models["llama"], task, draw, np.random.default_rng(0))
    notes = plan.report().teacher
    assert notes is not None and notes.worth is not None
    assert {len(context) for context in notes.contexts} == {len(draw.support) * 3 // 4}


@pytest.mark.parametrize(("worth", "steps"), [(0.0, 40), (1 / 3, 80), (1.0, 160)])
def test_steps_by_worth_grow_from_forty_to_a_hundred_and_sixty(worth: float, steps: int) -> None:
    assert count_steps(worth) == steps


def test_steps_by_worth_are_those_of_the_worth_that_is_noted(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(models["llama"], task, draw, demonstrations=2, contexts=3, steps="worth")
    notes = plan.report().teacher
    assert notes is not None and notes.worth is not None and notes.alpha == 0.9
    assert plan.fitting is not None and plan.fitting.optimisation.steps == count_steps(notes.worth)
