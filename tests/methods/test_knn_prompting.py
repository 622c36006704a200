"""kNN prompting against scikit-learn's neighbours over Transformers' own next-token distributions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import kl_div
from sklearn.neighbors import KNeighborsClassifier
from transformers import AutoModelForCausalLM

from fewtune.engine.language_model import LanguageModel
from fewtune.errors import DataError, PredictorError
from fewtune.exporting.export import ExportOptions, export_model
from fewtune.methods import get_method
from fewtune.predictors.neighbours import Neighbours
from fewtune.tasks.base import Draw, Task
from method_cases import run

METHOD = get_method("knn_prompting")


def test_the_nearest_by_kl_divergence_vote_as_scikit_learn_counts_them(
    model: LanguageModel, task: Task, draw: Draw
) -> None:
    settings = METHOD.settings(demonstrations=2, neighbours=3)
    plan = run(METHOD, settings, model, task, draw)
    notes = plan.report().demonstrations
    assert notes is not None
    shown = [row for row_id in notes.rows for row in draw.support if row.row_id == row_id]
    voting = [row for row in draw.support if row not in shown]
    assert len(shown) == 2 and len(voting) == len(draw.support) - 2
    pattern = task.patterns[0]
    before = "".join(
        pattern.template.format(**row.fields) + pattern.label_words[row.label or 0] + "\n\n" for row in shown
    )
    network = plan.forward.network if plan.forward is not None else None
    assert network is not None

    def say(fields: dict[str, str]) -> np.ndarray:
        prompt = before + pattern.template.format(**fields)
        ids = [*model.tokenizer.opening, *model.tokenizer.tokenise([prompt])[0]]
        plain = AutoModelForCausalLM.from_config(model.config, attn_implementation="eager").eval()
        plain.load_state_dict(network.state_dict())
        with torch.no_grad():
            logits = plain(torch.tensor([ids])).logits[0, -1]
        return np.asarray(logits.double().softmax(-1).numpy())

    rows = [row.without_label() for row in draw.test_sets[0].rows][:6]
    anchors, asked = (np.stack([say(dict(row.fields)) for row in given]) for given in (voting, rows))
    distances = np.array([[kl_div(one, other).sum() for other in anchors] for one in asked])
    classifier = KNeighborsClassifier(n_neighbors=3, metric="precomputed")
    between = np.array([[kl_div(one, other).sum() for other in anchors] for one in anchors])
    classifier.fit(between, [row.label for row in voting])
    shares = np.zeros((len(rows), len(task.labels)))
    shares[:, classifier.classes_] = classifier.predict_proba(distances)
    expected = (3 * shares + 1 / len(task.labels)) / 4
    assert np.exp(plan.predictor.scorer.log_probabilities(rows)) == pytest.approx(expected, abs=1e-5)


def test_of_labels_with_equally_many_votes_the_nearer_is_answered() -> None:
    neighbours = Neighbours(np.zeros((4, 1), np.float32), (2, 0, 1, 1), labels=3, count=3, by="vocabulary")
    said = neighbours.log_probabilities(np.array([[0.1, 0.2, 0.3, 0.4], [0.9, 0.3, 0.1, 0.2]]))
    assert said.argmax(axis=1).tolist() == [2, 1]
    assert np.exp(said).sum(axis=1) == pytest.approx([1, 1])
    assert np.exp(said[1]) == pytest.approx([(1 + 1 / 3) / 4, (2 + 1 / 3) / 4, (1 / 3) / 4], abs=1e-5)


def test_support_rows_must_be_left_to_vote(model: LanguageModel, task: Task, draw: Draw) -> None:
    with pytest.raises(DataError, match="none is left to vote"):
        run(METHOD, METHOD.settings(demonstrations=len(draw.support)), model, task, draw)


def test_no_other_tool_is_given_what_looks_for_near_rows(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path
) -> None:
    run(METHOD, METHOD.settings(demonstrations=2), models["llama"], task, draw).predictor.save(tmp_path / "saved")
    with pytest.raises(PredictorError, match="labelled rows near each row vote"):
        export_model(tmp_path / "saved", tmp_path / "out", ExportOptions())


def test_half_of_the_support_is_shown_where_nothing_is_said(task: Task) -> None:
    assert METHOD.resolve(METHOD.settings(), task, 16, 0) == replace(METHOD.settings(), demonstrations=8)
