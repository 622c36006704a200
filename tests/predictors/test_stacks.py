"""A stack pools its members' answers: made in one call, saved, loaded, served, predicted and exported as any model."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import fewtune
from changed_folders import change_manifest
from command_line import call
from fewtune.engine.language_model import LanguageModel
from fewtune.errors import PredictorError
from fewtune.exporting import export
from fewtune.exporting.export import ExportOptions, export_model
from fewtune.fitting.model_card import write_card
from fewtune.methods import get_method
from fewtune.predictors.abstention import choose_abstention
from fewtune.predictors.model_folder import read_manifest
from fewtune.predictors.predictor import Predictor
from fewtune.predictors.stack import pool, stack_predictors
from fewtune.tasks.base import Draw, Task
from method_cases import run
from saved_cases import ROWS, stack_members
from serving_models import KINDS, TEXTS, listen

ASKED = ["came late and wet", "a pleasure", "stopped early", "whole"]


@pytest.fixture(scope="module")
def words() -> Predictor:
    return replace(fewtune.fit(TEXTS, KINDS, "tfidf"), temperature=0.6)


@pytest.fixture(scope="module")
def majority() -> Predictor:
    return fewtune.fit([*TEXTS, "wet"], [*KINDS, "complaint"], "majority")


@pytest.fixture
def on_models(models: dict[str, LanguageModel], task: Task, draw: Draw) -> Any:
    """Fits a method on one of the tiny models."""

    def fit(architecture: str, name: str, **values: Any) -> Predictor:
        method = get_method(name)
        predictor = run(method, method.settings(**values), models[architecture], task, draw).predictor
        return replace(predictor, origin={"method": name})

    return fit


def test_pooling_by_hand() -> None:
    first, second = np.log([[0.5, 0.5], [0.9, 0.1]]), np.log([[0.8, 0.2], [0.2, 0.8]])
    found = np.exp(pool([first, second], [1.0, 0.5], [0.0, np.log(2)]))
    # Of the second row: .9 * .2^.5 against .1 * .8^.5 * 2.
    products = np.array([[0.5 * 0.8**0.5, 0.5 * 0.2**0.5 * 2], [0.9 * 0.2**0.5, 0.1 * 0.8**0.5 * 2]])
    np.testing.assert_allclose(found, products / products.sum(axis=1, keepdims=True))


def test_no_member_alone_makes_a_label_impossible() -> None:
    certain, others = np.array([[0.0, -np.inf]]), np.array([[-40.0, 0.0]])
    found = pool([certain, others], [1.0, 2.0])
    np.testing.assert_allclose(np.exp(found), [[np.exp(-30), 1.0]], atol=1e-12)


def test_a_stack_of_one_member_answers_as_that_member(words: Predictor) -> None:
    rows = words.read_rows(ASKED)
    np.testing.assert_allclose(
        stack_predictors([words], [1.0]).log_probabilities(rows), words.log_probabilities(rows), atol=1e-12
    )


def test_members_of_weight_0_are_left_out_and_change_no_answer(words: Predictor, majority: Predictor) -> None:
    both, alone = stack_predictors([words, majority], [0.7, 0.0]), stack_predictors([words], [0.7])
    assert both.scorer == alone.scorer
    np.testing.assert_array_equal(both.predict_probabilities(ASKED), alone.predict_probabilities(ASKED))


def test_a_members_abstention_is_not_the_stacks(words: Predictor, majority: Predictor) -> None:
    abstention = choose_abstention(np.tile([0.99, 0.01], (100, 1)), np.zeros(100, dtype=np.int64), 0.05)
    shy = replace(majority, abstention=abstention)
    assert None in shy.predict(ASKED) and None not in stack_predictors([shy, words], [0.5, 0.5]).predict(ASKED)


@pytest.mark.parametrize(
    ("weights", "bias", "told"),
    [
        ([0.5], None, "2 members and 1 weight were given"),
        ([0.0, 0.0], None, "weights are 0, 0: each is from 0 to 1e"),
        ([0.5, -0.5], None, "weights are 0.5, -0.5"),
        ([0.5, float("nan")], None, "weights are 0.5, nan"),
        ([0.5, 0.5], [0.1], "bias has 1 number: give one for each of the 2 labels"),
        ([0.5, 0.5], [0.1, float("inf")], "bias has 2 numbers"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    weights: Sequence[float], bias: Sequence[float] | None, told: str, words: Predictor, majority: Predictor
) -> None:
    with pytest.raises(PredictorError, match=told):
        stack_predictors([words, majority], weights, bias)


def test_members_of_other_labels_or_texts_and_stacks_are_refused(words: Predictor, majority: Predictor) -> None:
    pairs = [{"premise": text, "hypothesis": text} for text in TEXTS]
    turned = replace(words, labels=words.labels[::-1])
    for other, told in (
        (turned, "the same labels in one order: member 2 has praise, complaint, and member 1 complaint, praise"),
        (fewtune.fit(pairs, KINDS, "majority"), "the same texts in one order: member 2 has premise, hypothesis"),
        (stack_predictors([majority], [1.0]), "member 2 is a stack itself: give its members"),
    ):
        with pytest.raises(PredictorError, match=told):
            stack_predictors([words, other], [0.5, 0.5])
    with pytest.raises(PredictorError, match="0 members and 0 weights were given"):
        stack_predictors([], [])


def test_a_stack_is_predicted_and_served_as_it_answers(words: Predictor, majority: Predictor, tmp_path: Path) -> None:
    stack = stack_predictors([words, majority], [0.8, 0.3], [0.1, 0.2])
    stack.save(tmp_path / "saved")
    loaded = fewtune.load(tmp_path / "saved")
    expected = stack.predict_probabilities(ASKED)
    np.testing.assert_array_equal(loaded.predict_probabilities(ASKED), expected)
    (tmp_path / "rows.csv").write_text("\n".join(["text", *ASKED]))
    assert call("predict", tmp_path / "saved", tmp_path / "rows.csv", "--out", tmp_path / "answers.csv") == 0
    with (tmp_path / "answers.csv").open() as answers:
        read = list(csv.reader(answers))[1:]
    assert [row[0] for row in read] == stack.predict(ASKED)
    np.testing.assert_allclose(np.array([row[1:] for row in read], dtype=float), expected, atol=1e-6)
    with listen(loaded) as url:
        served = httpx.post(f"{url}/predict", json={"inputs": ASKED, "raw_scores": False}, timeout=30).json()
    found = [{each["label"]: each["score"] for each in row} for row in served]
    np.testing.assert_allclose([[row[label] for label in stack.labels] for row in found], expected, atol=1e-6)


def test_members_of_one_base_model_share_it_and_each_finds_its_own(
    on_models: Any, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    members = [on_models("llama", "probe"), on_models("bert", "embeddings"), on_models("llama", "lora", epochs=1)]
    stack = stack_predictors(members, [0.3, 0.3, 0.4])
    stack.save(tmp_path / "saved")

    def forget(content: dict[str, Any]) -> None:
        for place in (0, 2):
            content["scorer"]["members"][place]["scorer"]["base"]["name"] = str(tmp_path / "gone")

    change_manifest(tmp_path / "saved", forget)
    loaded = fewtune.load(tmp_path / "saved", base=model_folders["llama"])
    scorer: Any = loaded.scorer
    first, second, third = (member.scorer.model for member in scorer.members)
    assert first is third and first is not second
    np.testing.assert_array_equal(loaded.predict_probabilities(ROWS), stack.predict_probabilities(ROWS))
    assert loaded.count_tokens(ROWS) == np.sum([member.count_tokens(ROWS) for member in members], axis=0).tolist()
    with pytest.raises(PredictorError, match=r"fitted on another model than .*gpt2 holds"):
        fewtune.load(tmp_path / "saved", base=model_folders["gpt2"])


def test_a_stack_depends_on_the_rows_scored_with_it_where_a_member_does(on_models: Any, words: Predictor) -> None:
    scored = on_models("llama", "in_context", contexts=1, calibration="scored")
    alone = on_models("llama", "probe")
    assert alone.scorer.answers_alone() and stack_predictors([alone], [1.0]).scorer.answers_alone()
    assert not stack_predictors([alone, scored], [0.5, 0.5]).scorer.answers_alone()


def test_an_export_names_the_member_that_no_program_holds(on_models: Any, tmp_path: Path) -> None:
    probe, near = on_models("llama", "probe"), on_models("llama", "knn_prompting", demonstrations=2, neighbours=2)
    stack_predictors([probe, near], [0.5, 0.5]).save(tmp_path / "saved")
    with pytest.raises(PredictorError, match=r"of this stack, member 2, knn_prompting: labelled rows near each row"):
        export_model(tmp_path / "saved", tmp_path / "out")
    stack_predictors([probe], [1.0]).save(tmp_path / "probe")
    with pytest.raises(PredictorError, match=r"this model has no ONNX form: .* or a stack"):
        export_model(tmp_path / "probe", tmp_path / "out", ExportOptions(onnx=True))
    assert not (tmp_path / "out").exists()


def test_an_exported_stack_abstains_and_cuts_rows_as_its_model_does(on_models: Any, tmp_path: Path) -> None:
    members = [on_models("llama", "zero_shot", pattern="verdict"), on_models("llama", "tfidf")]
    stack = stack_predictors(members, [0.5, 0.6])
    sure = np.sort(stack.predict_probabilities(ROWS).max(axis=1))
    abstention = choose_abstention(np.tile([0.9, 0.1], (100, 1)), np.zeros(100, dtype=np.int64), 0.05)
    between = float(sure[1:3].mean())  # two rows are less sure
    stack = replace(stack, abstention=abstention.model_copy(update={"threshold": between}))
    stack.save(tmp_path / "saved")
    found = export_model(tmp_path / "saved", tmp_path / "out")
    assert found.form == "program" and found.difference < 1e-4
    assert not list((tmp_path / "out").rglob("__pycache__"))
    program = export._load_program(tmp_path / "out")
    rows = [*ROWS, "the kettle broke " * 100]
    np.testing.assert_allclose(program.probabilities(rows), stack.predict_probabilities(rows), atol=1e-4)
    assert program.predict(ROWS) == stack.predict(ROWS) and program.predict(ROWS).count(None) == 2
    assert stack.count_cut() == 1


def test_a_stacks_card_names_its_members_their_weights_and_base_models(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path
) -> None:
    stack_members(models, task, draw).save(tmp_path / "saved")
    card = write_card(read_manifest(tmp_path / "saved"), [])
    assert "It pools the answers of 8 models, by weights: majority (0.05), tfidf (0.1), probe (0.15), " in card
    assert card.count("Base model: ") == 5  # two read llama
    assert "the words and phrases of the rows" in card
