"""Context distillation: the teacher is in_context's, the loss is the formula's, and alpha 0 is pattern tuning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from context_plans import show_rows
from distillation_plans import make_plan
from fewtune.engine import token_clock
from fewtune.engine.fitting import FitExample
from fewtune.engine.language_model import LanguageModel
from fewtune.errors import DataError
from fewtune.methods import get_method
from fewtune.methods.context_distillation import judge_teacher
from fewtune.methods.distilling import compare_label_words, compare_vocabulary
from fewtune.prompts.demonstrations import choose_demonstrations
from fewtune.records import MethodNotes, TeacherNotes
from fewtune.tasks.base import Draw, Task
from reference_loop import fit_losses

STEPS: dict[str, Any] = {"epochs": 3, "batch_size": 4}


def softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def test_the_divergence_over_label_words_equals_one_written_by_hand() -> None:
    teacher = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
    student = np.array([[0.3, -0.2, 1.0], [2.0, 0.0, 0.5]])
    for temperature in (1.0, 2.0, 0.5):
        expected = []
        for t, s in zip(teacher, student, strict=True):
            p, q = softmax(t / temperature), softmax(s / temperature)
            expected.append(sum(p[i] * (np.log(p[i]) - np.log(q[i])) for i in range(3)))
        given = compare_label_words(torch.tensor(teacher), torch.tensor(student, dtype=torch.float32), temperature)
        np.testing.assert_allclose(given.numpy(), expected, atol=1e-6)


def test_the_divergence_over_the_vocabulary_has_a_bucket_for_the_rest() -> None:
    student = torch.tensor([[0.5, 0.2, 0.2, 0.1]]).log()
    teacher = torch.tensor([[[2.0, np.log(0.6)], [0.0, np.log(0.3)], [-1.0, np.log(0.1)]]])
    expected = 0.6 * np.log(0.6 / 0.2) + 0.3 * np.log(0.3 / 0.5) + 0.1 * np.log(0.1 / 0.3)
    np.testing.assert_allclose(compare_vocabulary(teacher, student, 1.0).numpy(), [expected], atol=1e-5)


def test_the_loss_weighs_divergence_and_labels_as_the_formula_says(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    alpha, temperature = 0.3, 2.0
    plan = make_plan(models["llama"], task, draw, alpha=alpha, temperature=temperature, demonstrations=2)
    only_labels = make_plan(models["llama"], task, draw, alpha=0.0, demonstrations=2)
    assert plan.fitting is not None and only_labels.fitting is not None
    batch = plan.fitting.examples
    taught = [e for e in batch if e.target is not None]
    unlabelled = [e for e in taught if e.label is None]
    assert len(unlabelled) == len(draw.pool) and len(taught) > len(unlabelled)
    with torch.no_grad():
        labels = only_labels.fitting.loss([replace(e, target=None) for e in batch if e.label is not None])
        together = plan.fitting.loss(batch)
        half = plan.fitting.loss([FitExample(e.prompt, None, e.target) for e in batch])
    expected = half.clone()
    expected[[i for i, e in enumerate(batch) if e.label is not None]] += (1 - alpha) * labels
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-4)
    scores = plan.score(draw.pool)
    for example, seen, loss in zip(unlabelled, scores, half[len(draw.support) :], strict=True):
        assert example.target is not None
        p, q = softmax(example.target / temperature), softmax(seen / temperature)
        divergence = float((p * np.log(p / q)).sum())
        assert float(loss) == pytest.approx(alpha * temperature**2 * divergence, abs=1e-5)


@pytest.mark.parametrize("calibration", ["none", "contextual", "batch"])
def test_the_teachers_scores_are_in_contexts_for_the_same_demonstrations(
    calibration: str, model: LanguageModel, task: Task, draw: Draw
) -> None:
    plan = make_plan(model, task, draw, demonstrations=4, calibration=calibration)
    (rng,) = np.random.default_rng(0).spawn(1)
    shown = choose_demonstrations(draw.support, 4, rng)
    assert plan.report().teacher.contexts == [[e.row_id for e in shown]]
    # The same rows in the same order: a support of those four alone, under the stream that draws them so.
    (again,) = np.random.default_rng(0).spawn(1)
    reference = show_rows(model, task, draw, again, demonstrations=4, calibration=calibration)
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    np.testing.assert_allclose(plan.reference_scorers["teacher"](rows), reference.score(rows), atol=1e-6)
    targets = [e.target for e in plan.fitting.examples if e.label is None]  # type: ignore[union-attr]
    np.testing.assert_allclose(targets, reference.score(draw.pool), atol=1e-5)


def test_several_contexts_are_averaged_as_probabilities(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(models["llama"], task, draw, demonstrations=2, contexts=3, calibration="none")
    (rng,) = np.random.default_rng(0).spawn(1)
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    each = []
    for _ in range(3):
        reference = show_rows(models["llama"], task, draw, rng, demonstrations=2, calibration="none")
        each.append(np.exp(reference.score(rows)))
    np.testing.assert_allclose(np.exp(plan.reference_scorers["teacher"](rows)), np.mean(each, axis=0), atol=1e-6)


def test_alpha_0_is_pattern_tuning(model: LanguageModel, task: Task, draw: Draw) -> None:
    student = make_plan(model, task, draw, alpha=0.0, demonstrations=2, learning_rate=1e-3, **STEPS)
    pattern = make_plan(model, task, draw, "pattern", learning_rate=1e-3, **STEPS)
    assert fit_losses(student) == fit_losses(pattern)
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    np.testing.assert_array_equal(student.score(rows), pattern.score(rows))


def test_a_row_is_never_taught_behind_a_context_that_shows_its_label(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    everything = make_plan(models["llama"], task, draw, demonstrations=8)
    assert everything.fitting is not None
    assert all((e.target is None) == (e.label is not None) for e in everything.fitting.examples)
    some = make_plan(models["llama"], task, draw, demonstrations=2)
    assert some.report().teacher.rows_taught == len(draw.pool) + len(draw.support) - 2


def test_with_alpha_1_a_student_without_labels_follows_its_teacher(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(
        models["llama"], task, draw, alpha=1.0, demonstrations=8, learning_rate=1e-2, epochs=60, calibration="none"
    )
    assert plan.fitting is not None and all(e.label is None for e in plan.fitting.examples)
    some = make_plan(models["llama"], task, draw, alpha=1.0, demonstrations=2).report().teacher
    assert some.rows_labelled == 0 and some.rows_taught > len(draw.pool), "labels weigh nothing"
    losses = fit_losses(plan)
    assert losses[-1] < losses[0] / 20
    taught = plan.reference_scorers["teacher"](draw.pool)
    np.testing.assert_allclose(np.exp(plan.score(draw.pool)), np.exp(taught), atol=0.05)


def test_the_full_variant_leaves_the_pool_alone(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    settings = {"variant": "full", "demonstrations": 2, "contexts": 2, "calibration": "batch"}
    with_pool, without = (make_plan(models["llama"], task, each, **settings) for each in (draw, replace(draw, pool=())))
    assert draw.pool and with_pool.fitting is not None and without.fitting is not None
    assert len(with_pool.fitting.examples) == len(draw.support) and with_pool.report().unlabelled is None
    taught = [[e.target for e in plan.fitting.examples if e.target is not None] for plan in (with_pool, without)]
    assert np.array_equal(*taught), "the prior behind a context is of rows that it leaves out"


def test_without_a_pool_the_support_alone_is_taught(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    plan = make_plan(models["llama"], task, replace(draw, pool=()), demonstrations=2)
    assert plan.report().teacher.rows_taught == len(draw.support) - 2


def test_the_vocabulary_is_compared_where_label_words_are_one_token(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(models["llama"], task, draw, kl_over="vocabulary", calibration="none", top_k=5, demonstrations=2)
    assert plan.fitting is not None
    target = next(e.target for e in plan.fitting.examples if e.target is not None)
    assert target.shape == (6, 2) and np.exp(target[:, 1]).sum() == pytest.approx(1.0)
    losses = fit_losses(plan)
    assert losses[-1] < losses[0]
    with pytest.raises(DataError, match="a label word here has several"):
        make_plan(
            models["llama"], task, draw, kl_over="vocabulary", calibration="none", pattern="verdict", demonstrations=2
        )


@pytest.mark.parametrize("student", ["last_blocks", "low_rank"])
def test_a_student_may_train_less_than_all_its_weights(
    student: str, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(models["llama"], task, draw, student=student, blocks=1, demonstrations=2, **STEPS)
    assert 0 < plan.trainable_parameters < plan.total_parameters
    fit_losses(plan)


def test_another_model_may_teach_where_it_shares_the_vocabulary(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    student = replace(models["llama"], others={"teacher": models["gpt2"]})
    plan = make_plan(student, task, draw, teacher="teacher", demonstrations=2)
    (rng,) = np.random.default_rng(0).spawn(1)
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    expected = show_rows(models["gpt2"], task, draw, rng, demonstrations=2).score(rows)
    np.testing.assert_allclose(plan.reference_scorers["teacher"](rows), expected, atol=1e-6)


def test_a_decoder_behind_contexts_teaches_an_encoder_that_says_no_words(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    student = replace(models["sentence-encoder"], others={"teacher": models["llama"]})
    settings = {"teacher": "teacher", "readout": "head", "demonstrations": 2, "learning_rate": 1e-3, "epochs": 8}
    plan = make_plan(student, task, draw, **settings)
    assert plan.fitting is not None
    taught = [example.target for example in plan.fitting.examples if example.target is not None]
    own = make_plan(models["llama"], task, draw, demonstrations=2)
    assert own.fitting is not None
    expected = [example.target for example in own.fitting.examples if example.target is not None]
    np.testing.assert_allclose(taught, expected, atol=1e-6)
    rows, teacher = draw.pool, plan.reference_scorers["teacher"](draw.pool)

    def differ() -> float:
        return float((np.exp(teacher) * (teacher - plan.score(rows))).sum(1).mean())

    before = differ()
    fit_losses(plan)
    assert differ() < before
    assert {group.name for group in plan.fitting.groups} == {"all weights", "head"}


def test_an_encoder_cannot_teach_behind_contexts(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    student = replace(models["llama"], others={"teacher": models["bert"]})
    with pytest.raises(DataError, match="an encoder, whose rows cannot go on from a context"):
        make_plan(student, task, draw, teacher="teacher", demonstrations=2)


def test_what_a_teacher_needs_and_what_its_prompts_lost_is_told(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    model = models["llama"]
    plan = make_plan(model, task, draw, demonstrations=2)
    assert plan.taught_by is model.frozen
    assert plan.report().teacher.cut.rows == 0
    short = replace(model, max_tokens=8)
    assert make_plan(short, task, draw, demonstrations=2).report().teacher.cut.rows > 0


def test_a_tuned_teacher_is_not_the_untuned_one(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    plain, tuned = (
        make_plan(models["llama"], task, draw, demonstrations=2, **tuning).reference_scorers["teacher"](rows)
        for tuning in ({}, {"tuned_teacher_epochs": 3})
    )
    assert not np.allclose(plain, tuned)


def test_a_teacher_no_better_than_the_untaught_student_is_said() -> None:
    def metrics(teacher: float) -> dict[str, dict[str, dict[str, float]]]:
        return {
            "teacher": {"in_domain": {"mcc": teacher, "accuracy": 0.8}, "away": {"mcc": 0.9}},
            "untaught_student": {"in_domain": {"mcc": 0.6, "accuracy": 0.7}, "away": {"mcc": 0.8}},
        }

    notes = MethodNotes(teacher=TeacherNotes(model="m", contexts=[]))
    worse = judge_teacher("mcc", notes, metrics(0.6))
    assert worse.teacher is not None and worse.teacher.beats_untaught_student == {"in_domain": False, "away": True}
    (warning,) = worse.warnings
    assert "0.600, is no better than the untaught student's, 0.600" in warning
    assert judge_teacher("mcc", notes, metrics(0.7)).warnings == []


def test_a_student_with_a_fresh_head_is_not_compared_before_it_was_fitted(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(models["llama"], task, draw, demonstrations=2, readout="head")
    assert plan.reference_scorers.keys() == {"teacher"}
    notes = plan.conclude(plan.report(), {"teacher": {"in_domain": {"accuracy": 0.1}}})
    assert notes == plan.report() and notes.teacher is not None and notes.teacher.beats_untaught_student == {}


def test_settings_that_contradict_each_other_are_a_reason_to_skip(models: dict[str, LanguageModel], task: Task) -> None:
    method = get_method("context_distillation")
    for settings, reason in (
        ({"context": ("instruction",)}, "`instruction` is empty"),
        ({"kl_over": "vocabulary"}, "set it to none"),
        ({"kl_over": "vocabulary", "calibration": "none", "readout": "head"}, "a head answers with labels"),
        ({"student": "last_blocks", "blocks": 9}, "blocks is 9 and the model has 3 blocks"),
        (
            {"context": ("scratchpad",), "scratchpad": "{txt}\nSo:"},
            "scratchpad: unknown text field 'txt'. Did you mean 'text'? Allowed: text.",
        ),
        ({"context": ("scratchpad",), "scratchpad": "So:"}, "Put at least one in braces: {text}."),
        ({"context": ("scratchpad",), "scratchpad": "{text"}, "Write a text field as {name}"),
    ):
        assert reason in str(method.skip_reason(method.settings(**settings), models["llama"].config, task))
    next_tokens = method.settings(kl_over="vocabulary", calibration="none", teacher="a/decoder")
    assert "an encoder says no next token" in str(method.skip_reason(next_tokens, models["bert"].config, task))


def test_what_is_given_for_a_context_that_does_not_name_it_is_told(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    told = make_plan(models["llama"], task, draw, demonstrations=2, instruction="Say how it feels.").report()
    assert told.warnings == ["`instruction` is given and not read: context does not name it"]


def test_a_batch_calibrated_teacher_needs_a_pool() -> None:
    method = get_method("context_distillation")
    assert method.needs_pool(method.settings(calibration="batch"))
    assert not method.needs_pool(method.settings(calibration="batch", variant="full"))
    assert not method.needs_pool(method.settings(calibration="contextual"))


def test_without_a_pool_the_prior_is_of_the_support_rows_that_a_context_does_not_show(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    alone, settings = replace(draw, pool=()), {"demonstrations": 3, "variant": "full", "calibration": "batch"}
    plan = make_plan(models["llama"], task, alone, **settings)
    (rng,) = np.random.default_rng(0).spawn(1)
    shown = choose_demonstrations(draw.support, 3, rng)
    rest = tuple(row.without_label() for row in draw.support if row not in shown)
    assert len(rest) == len(draw.support) - 3
    (again,) = np.random.default_rng(0).spawn(1)
    taught = replace(draw, pool=rest)
    reference = show_rows(models["llama"], task, taught, again, demonstrations=3, calibration="batch")
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    np.testing.assert_allclose(plan.reference_scorers["teacher"](rows), reference.score(rows), atol=1e-6)
    assert plan.report().unlabelled is None
    most = make_plan(models["llama"], task, alone, **settings | {"demonstrations": len(draw.support)})
    assert [len(rows) for rows in most.report().teacher.contexts] == [len(draw.support) * 3 // 4]


def test_what_the_teacher_reads_is_counted(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    def count(**settings: Any) -> int:
        before = token_clock.now()
        make_plan(models["llama"], task, draw, demonstrations=2, **settings)
        return token_clock.now() - before

    one, two = count(contexts=1), count(contexts=2)
    assert 0 < one < two and count(alpha=0.0) < one


def test_left_alone_a_teacher_shows_four_rows_a_label_and_the_fit_takes_forty_steps(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(models["llama"], task, draw, batch_size=4)
    assert plan.fitting is not None
    labels = {row.row_id: row.label for row in draw.support}
    (shown,) = plan.report().teacher.contexts
    assert sorted(str(labels[row_id]) for row_id in shown) == ["0"] * 4 + ["1"] * 4
    rows = len(draw.support) + len(draw.pool)
    assert plan.fitting.optimisation.epochs * -(-rows // 4) == 40


def test_a_student_that_nothing_is_left_for_is_refused(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    with pytest.raises(DataError, match="with alpha 1 nothing is left to learn from"):
        make_plan(models["llama"], task, draw, alpha=1.0, variant="full", demonstrations=len(draw.support))


def test_labels_alone_are_no_rows_without_labels(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    for alpha, seen in ((0.0, None), (0.5, "pool")):
        plan = make_plan(models["llama"], task, draw, alpha=alpha, demonstrations=2, calibration="batch")
        assert plan.report().unlabelled == seen
