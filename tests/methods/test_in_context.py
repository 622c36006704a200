"""In-context scores are those of lm-evaluation-harness, and demonstrations and calibrations do what they say."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import log_softmax
from transformers import AutoModelForCausalLM, AutoTokenizer

from context_plans import show_rows
from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.readouts import LabelWordReadout
from fewtune.engine.score import score_prompts
from fewtune.errors import PredictorError
from fewtune.exporting.export import ExportOptions, export_model
from fewtune.methods import get_method
from fewtune.methods.answer import answer_by_label_words
from fewtune.methods.embeddings import prompt_plainly
from fewtune.predictors.answers import FIRST_ROWS, answer_rows
from fewtune.predictors.language import FEWEST_CENTRED
from fewtune.predictors.model_folder import load_predictor
from fewtune.predictors.rows import TextRow
from fewtune.predictors.temperature import normalise
from fewtune.prompts.calibration import RANDOM_TEXTS, write_random_texts
from fewtune.prompts.demonstrations import choose_demonstrations, count_fitting, write_context
from fewtune.prompts.tokens import Encoder
from fewtune.serving.limits import RequestLimits
from fewtune.serving.server import Address, Saved, serve_model
from fewtune.tasks.base import Draw, Example, Task
from plain_prompts import PlainReader, write_shown


def score(model: LanguageModel, task: Task, draw: Draw, **settings: Any) -> np.ndarray:
    plan = show_rows(model, task, draw, **settings)
    return plan.score([row.without_label() for row in draw.test_sets[0].rows])


def test_a_text_without_a_token_is_left_out_of_what_says_nothing(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    """A template that is the text alone: an empty text is no prompt at all."""
    model = models["llama"]
    assert not Encoder(model.tokenizer, 9, 9).opening, "this model's prompts open with no token"
    bare = replace(task, patterns=(replace(task.patterns[0], template="{text}"),))
    notes = show_rows(model, bare, draw, demonstrations=0, calibration="contextual").report().demonstrations
    assert notes is not None
    asked = [Example(text, {"text": text}, None) for text in ("N/A", "[MASK]")]
    plain = show_rows(model, bare, draw, demonstrations=0, calibration="none").score(asked)
    np.testing.assert_allclose(notes.log_prior, np.log(np.exp(plain).mean(axis=0)), atol=1e-5)


def test_all_rows_are_shown_as_far_as_the_model_can_read_them(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    model, method = models["llama"], get_method("in_context")
    pattern, shown = task.patterns[0], list(draw.support)
    for positions in (40, 60, 80, model.max_positions):
        encoder = Encoder(model.tokenizer, positions, positions)
        fitting = count_fitting(encoder, pattern, shown, "\n\n")
        longest = max(len(tokens) for tokens in encoder.encode(pattern.template, shown))
        with_row = [
            len(encoder.tokenise([write_context(encoder, pattern, shown[:count], "\n\n")])[0]) + longest
            for count in range(len(shown) + 1)
        ]
        assert with_row[fitting] <= positions
        assert fitting == len(shown) or with_row[fitting + 1] > positions - 8  # the word and the separator of one row
    assert fitting == len(shown)
    assert score(model, task, draw, demonstrations="all") == pytest.approx(
        score(model, task, draw, demonstrations=len(draw.support)), abs=1e-6
    )
    reason = method.skip_reason(method.settings(demonstrations="all", selection="nearest"), model.config, task)
    assert reason is not None and "give demonstrations a number" in reason


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "opt-350m-shaped"])
@pytest.mark.parametrize("pattern", ["feeling", "verdict"])
def test_scores_equal_lm_evaluation_harness(
    name: str, pattern: str, models: dict[str, LanguageModel], model_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the harness's own imports warn
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        network = AutoModelForCausalLM.from_pretrained(model_folders[name], dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(model_folders[name])
        # The harness adds opening tokens as the tokenizer does when told to.
        harness = HFLM(pretrained=network, tokenizer=tokenizer, batch_size=1, add_bos_token=name.startswith("opt"))
        chosen = next(p for p in task.patterns if p.name == pattern)
        shown = choose_demonstrations(draw.support, 4, np.random.default_rng(0))
        before = write_shown(chosen, shown)
        rows = draw.test_sets[0].rows
        requests = [
            Instance("loglikelihood", {}, (before + chosen.template.format(**row.fields), word), i)
            for row in rows
            for i, word in enumerate(chosen.label_words)
        ]
        answers = np.array([a[0] for a in harness.loglikelihood(requests, disable_tqdm=True)]).reshape(len(rows), -1)
    model = models[name]
    answer = answer_by_label_words(model, task, draw, pattern, "vocabulary")
    ours = score_prompts(Forward(model.frozen, "float32"), answer.encode(rows, before), answer.readout)
    np.testing.assert_allclose(ours, answers, atol=1e-3)
    predicted = score(model, task, draw, demonstrations=4, pattern=pattern, calibration="none").argmax(1)
    np.testing.assert_array_equal(predicted, answers.argmax(1))


def test_demonstrations_are_even_over_labels_and_shuffled_by_seed(draw: Draw) -> None:
    shown = choose_demonstrations(draw.support, 4, np.random.default_rng(0))
    assert sorted(e.label for e in shown) == [0, 0, 1, 1]  # type: ignore[type-var]
    assert shown == choose_demonstrations(draw.support, 4, np.random.default_rng(0))
    orders = {tuple(e.row_id for e in choose_demonstrations(draw.support, 8, np.random.default_rng(s))) for s in (0, 1)}
    assert len(orders) == 2
    assert len(choose_demonstrations(draw.support, 99, np.random.default_rng(0))) == len(draw.support)


def test_label_words_of_several_tokens_are_scored_by_the_mean_of_their_tokens_where_asked(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    model = models["llama"]
    whole, mean = (answer_by_label_words(model, task, draw, "verdict", "vocabulary", each) for each in (False, True))
    assert isinstance(mean.readout, LabelWordReadout)
    lengths = [len(tokens) for tokens in mean.readout.label_tokens]
    assert len(set(lengths)) == 2, "else it makes no difference"
    forward, prompts = Forward(model.frozen, "float32"), whole.encode(draw.support)
    summed, averaged = (score_prompts(forward, prompts, answer.readout) for answer in (whole, mean))
    np.testing.assert_allclose(averaged * lengths, summed, rtol=1e-6)


def test_a_mean_over_tokens_is_skipped_where_some_are_not_scored(task: Task) -> None:
    method = get_method("in_context")
    for pattern, skipped in ((None, False), ("verdict", False), ("choice", True)):
        reason = method.skip_reason(method.settings(per_token=True, pattern=pattern), None, task)
        assert ("set per_token to false" in str(reason)) == skipped


def test_each_row_is_shown_the_demonstrations_nearest_to_it_the_nearest_last(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path
) -> None:
    """The states are those that `embeddings` reads; behind its own demonstrations a row is scored as alone."""
    model = models["llama"]
    plan = show_rows(model, task, draw, demonstrations=2, selection="nearest", calibration="none")
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    reads = prompt_plainly(model, task, model.forward(model.frozen))
    nearness = reads.read(rows) @ reads.read(draw.support).T
    answer = answer_by_label_words(model, task, draw, None, "vocabulary")
    for row, near, scores in zip(rows[:5], nearness, plan.score(rows), strict=False):
        second, first = np.argsort(near)[-2:]
        shown = [draw.support[second], draw.support[first]]
        before = write_context(answer.encoder, task.patterns[0], shown, "\n\n")
        alone = answer.prompt(model.forward(model.frozen)).score([row], before)
        np.testing.assert_allclose(scores, alone[0], atol=1e-5)
    plan.predictor.save(tmp_path / "model")
    loaded = load_predictor(tmp_path / "model")
    np.testing.assert_array_equal(loaded.scorer.log_probabilities(rows), plan.score(rows))
    with pytest.raises(PredictorError, match="nearest to it"):
        export_model(tmp_path / "model", tmp_path / "exported")


def test_nearest_demonstrations_without_any_or_several_times_over_are_skipped(task: Task) -> None:
    method = get_method("in_context")
    for settings, words in (({"contexts": 2}, "one context"), ({"demonstrations": 0}, "shows no row")):
        assert words in str(method.skip_reason(method.settings(selection="nearest", **settings), None, task))


def test_contextual_calibration_makes_content_free_inputs_even(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = show_rows(models["llama"], task, draw, demonstrations=2)
    raw = score(models["llama"], task, draw, demonstrations=2, calibration="none")
    prior = np.array(plan.report().demonstrations.log_prior)
    asked = [Example(text, {"text": text}, None) for text in ("N/A", "[MASK]", "")]
    said = show_rows(models["llama"], task, draw, demonstrations=2, calibration="none").score(asked)
    np.testing.assert_allclose(prior, np.log(np.exp(said).mean(axis=0)), atol=1e-5)
    expected = raw - prior
    expected -= np.log(np.exp(expected).sum(1, keepdims=True))
    np.testing.assert_allclose(plan.score([r.without_label() for r in draw.test_sets[0].rows]), expected, atol=1e-6)


def test_several_contexts_answer_by_the_mean_of_their_probabilities(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = show_rows(models["llama"], task, draw, demonstrations=4, contexts=3)
    shown = plan.report().demonstrations
    assert shown is not None
    contexts = [shown, *shown.others]
    assert len({tuple(each.rows) for each in contexts}) == 3 and all(len(each.rows) == 4 for each in contexts)
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    rng = np.random.default_rng(0)  # one after the other from one generator, as the three were drawn
    each = [np.exp(show_rows(models["llama"], task, draw, rng, demonstrations=4).score(rows)) for _ in range(3)]
    np.testing.assert_allclose(np.exp(plan.score(rows)), np.mean(each, axis=0), atol=1e-6)


def test_batch_calibration_centres_the_pool(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    plan = show_rows(models["llama"], task, draw, demonstrations=2, calibration="batch")
    scores = plan.score(draw.pool)
    np.testing.assert_allclose((scores[:, 0] - scores[:, 1]).mean(), 0.0, atol=1e-6)


def test_batch_calibration_is_what_a_plain_loop_over_the_pool_gives(
    model: LanguageModel, task: Task, draw: Draw
) -> None:
    pattern = task.patterns[0]
    plan = show_rows(model, task, draw, demonstrations=2, calibration="batch")
    notes = plan.report().demonstrations
    assert notes is not None
    by_id = {row.row_id: row for row in draw.support}
    before, plain = write_shown(pattern, [by_id[row_id] for row_id in notes.rows]), PlainReader(model)
    (first,), (second,) = model.tokenizer.tokenise(list(pattern.label_words))

    def say(row: Example) -> np.ndarray:
        logits, _ = plain.read(before + pattern.template.format(**row.fields))
        return np.asarray(logits[[first, second]].log_softmax(-1))

    rows = [row.without_label() for row in draw.test_sets[0].rows][:6]
    prior = np.mean([say(row) for row in draw.pool], axis=0)
    expected = log_softmax(np.stack([say(row) for row in rows]) - prior, axis=1)
    np.testing.assert_allclose(plan.score(rows), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "pool", "contexts", "calibration"),
    [
        ({}, 6, 4, "batch"),
        ({}, 0, 4, "contextual"),
        ({"demonstrations": 0}, 0, 1, "contextual"),
        ({"selection": "nearest"}, 6, 1, "batch"),
        ({"selection": "nearest"}, 0, 1, "contextual"),
        ({"contexts": 2, "calibration": "none"}, 6, 2, "none"),
    ],
)
def test_nulls_stand_for_what_the_rows_at_hand_allow(
    settings: dict[str, Any], pool: int, contexts: int, calibration: str, task: Task
) -> None:
    method = get_method("in_context")
    found = method.resolve(method.settings(**settings), task, 8, pool)
    assert (found.contexts, found.calibration) == (contexts, calibration)
    assert not method.needs_pool(method.settings(**settings))
    assert method.skip_reason(found, None, task) is None


def test_calibrations_are_compared_behind_the_same_contexts(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    shown = []
    for calibration in ("batch", "contextual", "domain", "scored"):
        notes = show_rows(models["llama"], task, draw, demonstrations=3, contexts=3, calibration=calibration).report()
        assert notes.demonstrations is not None
        shown.append([each.rows for each in (notes.demonstrations, *notes.demonstrations.others)])
    assert all(each == shown[0] for each in shown) and len(set(map(tuple, shown[0]))) == 3


def test_random_texts_are_made_of_the_supports_words_and_as_long(draw: Draw) -> None:
    texts = write_random_texts(draw.support, np.random.default_rng(0))
    assert texts == write_random_texts(draw.support, np.random.default_rng(0)) and len(texts) == RANDOM_TEXTS
    assert len({text.fields["text"] for text in texts}) == RANDOM_TEXTS
    known = [row.fields["text"].split() for row in draw.support]
    for text in texts:
        words = text.fields["text"].split()
        assert set(words) <= {word for row in known for word in row}
        assert len(words) == round(np.mean([len(row) for row in known]))
    long = Example("b", {"text": "a " * 20_000 + "b" * 500_000}, 0)  # an array of its words would take 40 GB
    assert len(write_random_texts([long], np.random.default_rng(0))) == RANDOM_TEXTS
    empty = write_random_texts([Example("a", {"text": " "}, 0)], np.random.default_rng(0))
    assert {text.fields["text"] for text in empty} == {""}


def test_domain_calibration_makes_random_texts_even(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    method, rows = get_method("zero_shot"), [row.without_label() for row in draw.test_sets[0].rows]
    plan = method.plan(method.settings(), models["llama"], task, draw, np.random.default_rng(0))
    plain = method.plan(method.settings(calibration="none"), models["llama"], task, draw, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    assert choose_demonstrations(draw.support, 0, rng) == []  # which draws before the texts are written
    prior = np.log(np.exp(plain.score(write_random_texts(draw.support, rng))).mean(0))
    expected = normalise(plain.score(rows) - prior)
    np.testing.assert_allclose(plan.score(rows), expected, atol=1e-6)
    shown = score(models["llama"], task, draw, demonstrations=0, calibration="none")
    np.testing.assert_allclose(plain.score(rows), shown, atol=1e-6)


def test_rows_scored_together_are_centred_where_they_are_enough(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    rows = [row.without_label() for row in (*draw.test_sets[0].rows, *draw.pool, *draw.support)][:FEWEST_CENTRED]
    assert len(rows) == FEWEST_CENTRED

    def answer(calibration: str, asked: list[Example]) -> np.ndarray:
        return show_rows(models["llama"], task, draw, demonstrations=2, calibration=calibration).score(asked)

    raw = answer("none", rows)
    np.testing.assert_allclose(answer("scored", rows), normalise(raw - raw.mean(0)), atol=1e-6)
    np.testing.assert_allclose(answer("scored", rows[:-1]), answer("domain", rows[:-1]), atol=1e-6)


def test_rows_that_are_answered_together_are_one_window(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    rows = [row.without_label() for row in (*draw.test_sets[0].rows, *draw.pool, *draw.support)]
    asked = [TextRow(number, dict(row.fields)) for number, row in enumerate(rows * 2, 1)]
    assert len(asked) > FIRST_ROWS
    for calibration, windows in (("scored", 1), ("none", 2)):
        predictor = show_rows(models["llama"], task, draw, demonstrations=2, calibration=calibration).predictor
        answered = list(answer_rows(predictor, iter(asked)))
        assert len(answered) == windows
        together = np.exp(predictor.log_probabilities(rows * 2))
        np.testing.assert_allclose([a.probabilities for part in answered for a in part], together, atol=1e-6)


def test_a_model_with_room_for_no_demonstration_says_so(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    long = "the cook is kind " * 30
    wordy = replace(draw, support=tuple(replace(row, fields={"text": long}) for row in draw.support))
    for given, warned in ((draw, 0), (wordy, 1)):
        plan = show_rows(models["llama"], task, given, demonstrations="all")
        assert len(plan.report().warnings) == warned


@pytest.mark.parametrize("selection", ["random", "nearest"])
def test_no_more_rows_are_shown_than_leave_room_for_one_like_them_and_that_is_told(
    selection: str, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    model = models["llama"]
    words = "the cook is kind " * (model.max_positions // 20)
    wordy = replace(draw, support=tuple(replace(row, fields={"text": words}) for row in draw.support))
    told = show_rows(model, task, wordy, demonstrations=8, selection=selection).report()
    assert told.demonstrations is not None and told.prompt is not None
    asked = Example("long", {"text": words}, None)
    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    pattern = task.patterns[0]
    fitting = count_fitting(encoder, pattern, list(wordy.support), "\n\n")
    assert 0 < fitting < 8
    assert told.warnings == [
        f"up to {8 - fitting} of a context's 8 demonstrations were left out, for want of room before a row"
    ]
    if selection == "random":
        assert len(told.demonstrations.rows) == fitting
    plan = show_rows(model, task, wordy, demonstrations=8, selection=selection)
    plan.score([asked])
    notes = plan.report().prompt
    assert notes is not None and notes.cut.rows == 0, "the row itself is whole"
    assert show_rows(model, task, draw, demonstrations=8, selection=selection).report().warnings == []


def test_answers_that_depend_on_other_rows_are_neither_exported_nor_served(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = show_rows(models["llama"], task, draw, demonstrations=2, calibration="scored").predictor
    predictor.save(tmp_path / "model")
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    loaded = load_predictor(tmp_path / "model")
    np.testing.assert_array_equal(loaded.log_probabilities(rows), predictor.log_probabilities(rows))
    with pytest.raises(PredictorError, match=r"here each row is answered alone\. Fit it with another calibration"):
        export_model(tmp_path / "model", tmp_path / "exported", ExportOptions())
    with pytest.raises(PredictorError, match="here each row is answered alone"):
        serve_model(Saved(tmp_path / "model"), Address(port=0), RequestLimits(), lambda name, url: None)


def test_labels_of_the_demonstrations_are_read_and_the_querys_are_not(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    flipped = replace(draw, support=tuple(replace(e, label=1 - (e.label or 0)) for e in draw.support))
    one = score(models["llama"], task, draw, demonstrations=8)
    other = score(models["llama"], task, flipped, demonstrations=8)
    assert not np.allclose(one, other)
    asked = draw.test_sets[0].rows
    turned = [replace(row, label=1 - (row.label or 0)) for row in asked]
    plan = show_rows(models["llama"], task, draw, demonstrations=8)
    np.testing.assert_array_equal(plan.score(asked), plan.score(turned))
