"""Scores kept row by row: what is missing alone is computed, answers are those without, and bytes are bounded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tiny_models
from fewtune.engine.score_cache import NetworkRows, Prompts, RowScores
from fewtune.fitting.kept_models import KeptModels
from fewtune.running.fit_rows import FitRequest, fit_task, make_task


class Work:
    """Scores of prompts: their sum and length; which prompts were asked, call by call."""

    def __init__(self) -> None:
        self.asked: list[list[tuple[int, ...]]] = []

    def __call__(self, prompts: Prompts) -> np.ndarray:
        self.asked.append([tuple(prompt) for prompt in prompts])
        return np.array([[sum(prompt), len(prompt)] for prompt in prompts], dtype=np.float32)


def ask(rows: RowScores, work: Work, prompts: Sequence[Sequence[int]], network: str = "a", question: str = "q") -> None:
    found = rows.score(network, question, prompts, work)
    assert found.tolist() == [[sum(prompt), len(prompt)] for prompt in prompts]


def test_rows_that_are_kept_are_not_asked_again_whatever_their_order_and_company() -> None:
    rows, work = RowScores(), Work()
    ask(rows, work, [[1, 2], [3], [1, 2]])
    ask(rows, work, [[3], [4, 5], [1, 2], [6]])
    ask(rows, work, [[6], [4, 5]])
    assert work.asked == [[(1, 2), (3,)], [(4, 5), (6,)]]
    ask(rows, work, [[3]], question="other")
    ask(rows, work, [[3]], network="b")
    assert work.asked[2:] == [[(3,)], [(3,)]], "another question and another network are asked themselves"
    assert NetworkRows(rows, "b").score("q", [[3]], work).tolist() == [[3, 1]] and len(work.asked) == 4


def test_what_is_handed_out_may_be_written_into() -> None:
    rows, work = RowScores(), Work()
    rows.score("a", "q", [[1], [2]], work)[:] = 9
    ask(rows, work, [[2], [1]])
    assert len(work.asked) == 1


def test_bytes_are_bounded_and_the_oldest_go_first() -> None:
    rows, work = RowScores(most_bytes=3 * 8), Work()  # three rows of two numbers of four bytes
    ask(rows, work, [[1], [2], [3]])
    ask(rows, work, [[4]])
    ask(rows, work, [[2], [3], [4]])
    ask(rows, work, [[1]])
    assert work.asked == [[(1,), (2,), (3,)], [(4,)], [(1,)]]
    ask(rows, work, [[n] for n in range(10, 20)])
    assert sum(each.nbytes for each in rows._kept.values()) <= rows.most_bytes


def test_a_fit_on_kept_scores_answers_as_one_that_reads_its_model_anew(model_folders: dict[str, Path]) -> None:
    made = tiny_models.make_task()
    texts = [row.fields["text"] for row in made.train]
    labels = [made.labels[row.label or 0] for row in made.train]
    request = FitRequest("embeddings", str(model_folders["sentence-encoder"]))
    kept, rows = KeptModels(), [row.without_label() for test in made.test_sets for row in test.rows]
    parts = [range(0, len(texts), 2), range(0, len(texts), 3)]
    for part in parts:
        task = make_task([texts[place] for place in part], [labels[place] for place in part])
        found, anew = (fit_task(task, (), request, read_model=read) for read in (kept, kept.__class__()))
        plain = fit_task(task, (), request)
        for predictor in (found, anew):
            np.testing.assert_allclose(
                predictor.log_probabilities(rows), plain.log_probabilities(rows), atol=1e-5, rtol=1e-5
            )
