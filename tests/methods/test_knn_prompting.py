"""kNN prompting against scikit-learn's neighbours over Transformers' own next-token distributions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import kl_div
from sklearn.neighbors import KNeighborsClassifier

from fewtune.engine.language_model import LanguageModel
from fewtune.errors import PredictorError
from fewtune.exporting.export import ExportOptions, export_model
from fewtune.methods import get_method
from fewtune.methods.knn_prompting import split_support
from fewtune.predictors.language import LanguageScorer
from fewtune.predictors.manifest import NeighboursPart
from fewtune.predictors.neighbours import Neighbours
from fewtune.tasks.base import Draw, Example, Task
from method_cases import run
from plain_prompts import PlainReader, write_shown

METHOD = get_method("knn_prompting")


@pytest.mark.parametrize("by", ["vocabulary", "states"])
def test_the_nearest_by_kl_divergence_or_angle_vote_as_scikit_learn_counts_them(
    by: str, model: LanguageModel, task: Task, draw: Draw
) -> None:
    settings = METHOD.settings(demonstrations=2, neighbours=3, by=by)
    plan = run(METHOD, settings, model, task, draw)
    notes = plan.report().demonstrations
    assert notes is not None
    shown = [row for row_id in notes.rows for row in draw.support if row.row_id == row_id]
    voting = [row for row in draw.support if row not in shown]
    assert len(shown) == 2 and len(voting) == len(draw.support) - 2
    pattern = task.patterns[0]
    before, plain = write_shown(pattern, shown), PlainReader(model)

    def say(row: Example) -> np.ndarray:
        logits, state = plain.read(before + pattern.template.format(**row.fields))
        return np.asarray(state if by == "states" else logits.softmax(-1))

    rows = [row.without_label() for row in draw.test_sets[0].rows][:6]
    anchors, asked = (np.stack([say(row) for row in given]) for given in (voting, rows))
    if by == "states":
        classifier = KNeighborsClassifier(n_neighbors=3, metric="cosine")
        classifier.fit(anchors, [row.label for row in voting])
    else:
        distances = np.array([[kl_div(anchor, row).sum() for anchor in anchors] for row in asked])
        between = np.array([[kl_div(one, other).sum() for other in anchors] for one in anchors])
        classifier = KNeighborsClassifier(n_neighbors=3, metric="precomputed")
        classifier.fit(between, [row.label for row in voting])
        asked = distances
    shares = np.zeros((len(rows), len(task.labels)))
    shares[:, classifier.classes_] = classifier.predict_proba(asked)
    expected = (3 * shares + 1 / len(task.labels)) / 4
    assert np.exp(plan.predictor.scorer.log_probabilities(rows)) == pytest.approx(expected, abs=1e-5)


def test_of_labels_with_equally_many_votes_the_nearer_is_answered() -> None:
    neighbours = Neighbours(np.zeros((4, 1), np.float32), (2, 0, 1, 1), labels=3, count=3, by="vocabulary")
    said = neighbours.log_probabilities(np.array([[0.1, 0.2, 0.3, 0.4], [0.9, 0.3, 0.1, 0.2]]))
    assert said.argmax(axis=1).tolist() == [2, 1]
    four = Neighbours(np.zeros((4, 1), np.float32), (1, 0, 0, 1), labels=2, count=4, by="states")
    assert four.log_probabilities(np.array([[0.1, 0.2, 0.3, 0.4]])).argmax() == 1
    assert np.exp(said).sum(axis=1) == pytest.approx([1, 1])
    assert np.exp(said[1]) == pytest.approx([(1 + 1 / 3) / 4, (2 + 1 / 3) / 4, (1 / 3) / 4], abs=1e-5)


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [((12, 4), 8), ((8, 8), 8), ((8, 8), 16), ((1, 5, 10), 0.5), ((3, 3), 0), ((8, 8), 1), ((8, 8), 3), ((5,) * 10, 4)],
)
def test_each_label_is_shown_by_its_share_and_keeps_a_row_that_votes(counts: tuple[int, ...], wanted: float) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    support = [Example(str(place), {"text": "a"}, label) for place, label in enumerate(labels)]
    asked = wanted if wanted >= 1 else wanted * len(support)
    shown, voting = split_support(support, asked, np.random.default_rng(0))
    assert sorted(row.row_id for row in (*shown, *voting)) == sorted(row.row_id for row in support)
    for label, count in enumerate(counts):
        own = sum(row.label == label for row in shown)
        assert own < count and (own == count - 1 or abs(own - asked * count / len(support)) < 1)
    assert len(shown) == min(round(asked), len(support) - len(counts)), "so many as were asked for, not one by label"


def test_rows_that_the_model_cannot_read_before_another_vote(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    model = models["llama"]
    words = "the cook is kind " * (model.max_positions // 20)
    wordy = replace(draw, support=tuple(replace(row, fields={"text": words}) for row in draw.support))
    plan = run(METHOD, METHOD.settings(demonstrations=6), model, task, wordy)
    notes = plan.report().demonstrations
    assert notes is not None and 0 < len(notes.rows) < 6
    scorer = plan.predictor.scorer
    assert isinstance(scorer, LanguageScorer) and isinstance(scorer.reader, Neighbours)
    assert len(scorer.reader.labels_of) == len(draw.support) - len(notes.rows)


def test_no_other_tool_is_given_what_looks_for_near_rows(
    models: dict[str, LanguageModel], task: Task, draw: Draw, tmp_path: Path
) -> None:
    run(METHOD, METHOD.settings(demonstrations=2), models["llama"], task, draw).predictor.save(tmp_path / "saved")
    with pytest.raises(PredictorError, match="labelled rows near each row vote"):
        export_model(tmp_path / "saved", tmp_path / "out", ExportOptions())


def test_a_model_whose_distances_were_taken_otherwise_is_to_be_fitted_again() -> None:
    neighbours = Neighbours(np.zeros((2, 1), np.float32), (1, 0), labels=2, count=1, by="vocabulary")
    part, arrays = neighbours.describe(), neighbours.arrays()
    assert Neighbours.rebuild(part, arrays).labels_of == (1, 0)
    with pytest.raises(PredictorError, match="fit knn_prompting again"):
        Neighbours.rebuild(NeighboursPart(**part.model_dump(exclude={"revision"})), arrays)


@pytest.mark.parametrize("by", ["vocabulary", "states"])
def test_rows_that_vote_and_rows_that_ask_are_cut_alike(
    by: str, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    """A row is nearest to itself, and nothing lies between, however long it is."""
    model = replace(models["llama"], max_tokens=14)
    longer = replace(draw, support=tuple(replace(row, fields={"text": 9 * row.fields["text"]}) for row in draw.support))
    plan = run(METHOD, METHOD.settings(demonstrations=0, neighbours=1, by=by), model, task, longer)
    scorer = plan.predictor.scorer
    assert isinstance(scorer, LanguageScorer)
    assert plan.report().prompt.cut.rows == len(longer.support)
    rows = {row.row_id: row.without_label() for row in longer.support}
    far = scorer.prompting.read(list(rows.values()), scorer.contexts[0].before)
    np.testing.assert_allclose(far.min(axis=1), 0, atol=1e-5)
