"""Two texts of a row read apart: features that say how they compare, saved, rebuilt and exported with the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import fewtune
from fewtune.engine.loading import load_model
from fewtune.errors import DataError, FewtuneError
from fewtune.exporting.export import export_model, read_export
from fewtune.fitting.candidates import list_candidates
from fewtune.predictors.compared import compare_embeddings, count_features
from fewtune.predictors.predictor import Predictor
from fewtune.running.fit_rows import FitRequest, fit_task, make_task
from fewtune.tasks.base import Task
from tiny_models import BAD, GOOD, SUBJECTS

NEW = [
    {"first": "a dog is kind", "second": "a dog is kind"},
    {"first": "a dog is kind", "second": "  her boat\nwas slow"},
    {"first": "her boat was slow", "second": "a dog is kind"},
    {"first": "?", "second": "zebra"},
]


def make_pairs() -> Task:
    """Pairs of texts that say the same or do not."""
    texts = [f"{subject} {words}" for subject in SUBJECTS[:4] for words in (GOOD[0], BAD[0])]
    rows = [(text, other) for text in texts for other in (text, texts[0], texts[-1])]
    return make_task(
        [{"first": text, "second": other} for text, other in rows],
        ["same" if text == other else "other" for text, other in rows],
    )


def fit(task: Task, folder: Path, **settings: Any) -> Predictor:
    request = FitRequest("embeddings", str(folder), {"texts": "apart", **settings})
    return fit_task(task, (), request, read_model=lambda snapshot: load_model(snapshot, "float32"))


def test_features_hold_both_texts_their_differences_products_and_cosine() -> None:
    first, second = np.array([[0.6, 0.8], [1.0, 0.0]]), np.array([[0.8, 0.6], [1.0, 0.0]])
    found = compare_embeddings(first, second)
    assert found.shape == (2, count_features(2))
    np.testing.assert_allclose(found[0, :4], [0.3, 0.4, 0.4, 0.3])
    np.testing.assert_allclose(found[0, 4:6], [0.1, 0.1]), "differences"
    np.testing.assert_allclose(found[0, 6:8], [0.24 * 2**0.5] * 2), "products"
    np.testing.assert_allclose(found[:, 8], [0.96, 1.0]), "cosines"


def test_what_reads_texts_apart_is_a_regression_on_sentence_transformers_embeddings_of_each(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder, task = model_folders["sentence-encoder"], make_pairs()
    predictor = fit(task, folder, inverse_penalty=1.0)
    encoder = SentenceTransformer(str(folder), device="cpu")
    each = [
        encoder.encode([row[name].strip() for row in NEW], normalize_embeddings=True) for name in ("first", "second")
    ]
    arrays = predictor.scorer.arrays()
    scores = compare_embeddings(*map(np.float64, each)) @ arrays["regression.weights"].T
    scores += arrays["regression.intercepts"]
    found = predictor.predict_probabilities(NEW)
    np.testing.assert_allclose(found[:, 1], 1 / (1 + np.exp(-scores[:, 0])), atol=1e-4)
    assert abs(found[1, 1] - found[2, 1]) > 1e-6, "which text is the first one counts"
    tokens = predictor.scorer.count_tokens([row.without_label() for row in task.train])
    assert min(tokens) > 4, "those of both texts"

    predictor.save(tmp_path / "model")
    np.testing.assert_allclose(fewtune.load(tmp_path / "model").predict_probabilities(NEW), found, atol=1e-6)
    made = export_model(tmp_path / "model", tmp_path / "out", rows=NEW)
    assert made.form == "program" and "compares two texts" in str(made.reason)
    np.testing.assert_allclose(read_export(tmp_path / "out", made, predictor.labels, NEW), found, atol=1e-4)


def test_one_text_cannot_be_compared_and_neither_can_what_reads_no_embeddings(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = model_folders["sentence-encoder"]
    single = make_task(["a", "b", "c", "d"], ["x", "y"] * 2)
    with pytest.raises(FewtuneError, match=r"texts: apart compares the two texts of a row, and .* has 1 text\."):
        fit(single, folder)
    fit(make_pairs(), folder).save(tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    told = json.loads(path.read_text())
    told["scorer"]["readout"]["unit"] = False
    path.write_text(json.dumps(told))
    with pytest.raises((DataError, FewtuneError), match="compared"):
        fewtune.load(tmp_path / "model")


def test_files_of_two_texts_have_them_read_apart_too(model_folders: dict[str, Path]) -> None:
    encoder = str(model_folders["sentence-encoder"])
    named = {each.name: each.settings for each in list_candidates(make_pairs(), [encoder]).candidates}
    assert named[f"embeddings, texts apart ({encoder})"] == {"texts": "apart"}
    assert named[f"embeddings ({encoder})"] == {}, "of a title and a text nothing is to be compared"
    assert len(list_candidates(make_pairs(), [encoder], ["embeddings"]).candidates) == 1
