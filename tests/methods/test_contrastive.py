"""Embeddings are Sentence Transformers', and contrastive fine-tuning is SetFit's on equal pairs."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewtune.engine.language_model import LanguageModel
from fewtune.methods import contrastive, get_method
from fewtune.methods.contrastive import draw_pairs
from fewtune.methods.embeddings import prompt_plainly
from fewtune.tasks.base import Draw, Task
from method_cases import run
from reference_loop import draw_batches, fit_losses, make_plan, train_plainly

STEPS: dict[str, Any] = {"epochs": 1, "batch_size": 16, "schedule": "constant", "warmup_fraction": 0.0}
LEARNING_RATE = 1e-4
LABELS = [0, 1, 0, 1, 1, 0, 2]


@pytest.fixture(scope="module")
def sentence_transformer(model_folders: dict[str, Path]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(model_folders["sentence-encoder"]), device="cpu")


def test_embeddings_are_those_of_sentence_transformers(
    models: dict[str, LanguageModel], task: Task, draw: Draw, sentence_transformer: Any
) -> None:
    model = models["sentence-encoder"]
    ours = prompt_plainly(model, task, model.forward(model.frozen)).read(draw.support)
    theirs = sentence_transformer.encode([row.fields["text"] for row in draw.support])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_losses_are_those_of_setfits_recipe_on_equal_pairs(
    models: dict[str, LanguageModel], task: Task, draw: Draw, model_folders: dict[str, Path]
) -> None:
    plan = make_plan("contrastive", models["sentence-encoder"], task, draw, learning_rate=LEARNING_RATE, **STEPS)
    assert plan.fitting is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss
        from setfit import TrainingArguments

        assert TrainingArguments().loss is CosineSimilarityLoss
        theirs = SentenceTransformer(str(model_folders["sentence-encoder"]), device="cpu")
    loss, texts = CosineSimilarityLoss(theirs), [row.fields["text"] for row in draw.support]
    places = {tuple(e.prompt): texts[i] for i, e in enumerate(_list_prompts(plan, draw, models, task))}
    pairs = [(places[tuple(e.prompt)], places[tuple(e.other)], e.target) for e in plan.fitting.examples]

    def loss_of(batch: list[int]) -> torch.Tensor:
        sides = [theirs.preprocess([pairs[i][side] for i in batch]) for side in (0, 1)]
        return loss(sides, torch.tensor([float(pairs[i][2][0]) for i in batch]))  # type: ignore[index]

    expected = train_plainly(list(theirs.parameters()), LEARNING_RATE, draw_batches(len(pairs), STEPS), loss_of)
    np.testing.assert_allclose(fit_losses(plan), expected, atol=1e-4)


def _list_prompts(plan: Any, draw: Draw, models: dict[str, LanguageModel], task: Task) -> list[Any]:
    """The support's prompts in its order, as examples."""
    from fewtune.engine.fitting import FitExample
    from fewtune.predictors.language import encode_rows

    model = models["sentence-encoder"]
    prompting = prompt_plainly(model, task, model.forward(model.frozen))
    prompts = encode_rows(prompting.encoder, prompting.template, prompting.readout, draw.support)
    return [FitExample(prompt, None) for prompt in prompts]


def test_pairs_are_those_of_setfits_oversampling() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from setfit.sampler import ContrastiveDataset
    theirs = ContrastiveDataset([str(i) for i in range(len(LABELS))], LABELS, multilabel=False)
    expected = [(int(p["sentence_1"]), int(p["sentence_2"]), bool(p["label"])) for p in theirs]
    ours = draw_pairs(LABELS, 10_000, np.random.default_rng(0))
    assert set(ours) == set(expected)
    assert Counter(alike for *_, alike in ours) == Counter(alike for *_, alike in expected)
    assert max(Counter(ours).values()) <= max(Counter(expected).values())


def test_no_more_pairs_are_drawn_than_asked_half_of_them_alike() -> None:
    pairs = draw_pairs(LABELS, 8, np.random.default_rng(0))
    assert Counter(alike for *_, alike in pairs) == {True: 4, False: 4}
    assert pairs == draw_pairs(LABELS, 8, np.random.default_rng(0)) != draw_pairs(LABELS, 8, np.random.default_rng(1))
    assert {alike for *_, alike in draw_pairs([0, 0, 0], 8, np.random.default_rng(0))} == {True}


def test_pairs_of_many_rows_are_drawn_without_listing_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrastive, "MOST_LISTED", 0)
    listed = set(draw_pairs(LABELS, 10_000, np.random.default_rng(0)))
    alike = {(i, j) for j, b in enumerate(LABELS) for i, a in enumerate(LABELS[: j + 1]) if a == b}
    unlike = {frozenset((i, j)) for j, b in enumerate(LABELS) for i, a in enumerate(LABELS) if a != b}
    assert {(first, second) for first, second, same in listed if same} == alike
    assert {frozenset((first, second)) for first, second, same in listed if not same} == unlike
    rows = np.random.default_rng(0).integers(3, size=20_000).tolist()
    pairs = draw_pairs(rows, 2000, np.random.default_rng(1))
    assert Counter(same for *_, same in pairs) == {True: 1000, False: 1000} and len(set(pairs)) == 2000
    assert all((rows[first] == rows[second]) == same for first, second, same in pairs)
    assert {alike for *_, alike in draw_pairs([0, 0, 0], 8, np.random.default_rng(0))} == {True}


def test_the_regression_is_of_the_encoder_as_it_was_fitted(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path
) -> None:
    from fewtune.predictors.model_folder import load_predictor

    method = get_method("contrastive")
    settings = method.settings(epochs=12, learning_rate=1e-3)
    fitted = run(method, settings, models["sentence-encoder"], task, draw)
    frozen = run(get_method("embeddings"), get_method("embeddings").settings(), models["sentence-encoder"], task, draw)
    rows = [row.without_label() for row in draw.support]
    right = [(plan.score(rows).argmax(1) == [row.label for row in draw.support]).mean() for plan in (fitted, frozen)]
    assert right[0] == 1.0 >= right[1] and not np.allclose(fitted.score(rows), frozen.score(rows), atol=1e-3)
    fitted.predictor.save(tmp_path / "model")
    np.testing.assert_array_equal(load_predictor(tmp_path / "model").log_probabilities(rows), fitted.score(rows))
