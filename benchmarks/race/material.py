"""What both sides of a race are given: one model's folder, one task, one draw, and what they measure it by.

Owns the draw, the texts, the demonstrations, and the fingerprint by which the sides show that they did the same work.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.race.works import MODEL, TASK, Size
from fewtune.models import ModelSnapshot, find_model
from fewtune.prompts.demonstrations import choose_demonstrations
from fewtune.prompts.template import plain_template, render
from fewtune.study.seeds import make_rng
from fewtune.tasks import get_task_module
from fewtune.tasks.base import Draw, Example, Task
from fewtune.tasks.draw import Sampling, make_draw

SEPARATOR = "\n\n"
MAX_TOKENS = 512


@dataclass(frozen=True)
class Material:
    """The rows and the model of one race."""

    place: ModelSnapshot
    task: Task
    draw: Draw
    size: Size

    @property
    def test_rows(self) -> tuple[Example, ...]:
        """The rows that are scored, in domain."""
        return self.draw.test_sets[0].rows

    @property
    def words(self) -> tuple[str, ...]:
        """The label words of the task's first pattern."""
        return self.task.patterns[0].label_words

    def template(self, work: str) -> str:
        """What a row is written as: the plain texts where a fresh head reads all weights, else the first pattern."""
        plain = work in ("all-weights", "score", "vanilla", "encoder", "score-encoder", "contrastive", "embed")
        return plain_template(self.task.fields) if plain else self.task.patterns[0].template

    def texts(self, work: str, rows: Sequence[Example]) -> list[str]:
        """The rows as written."""
        return [render(self.template(work), row.fields) for row in rows]

    def rng(self) -> np.random.Generator:
        """The randomness of the fit, as a trial of a study would have it."""
        return make_rng("fit", self.task.name, len(self.draw.support), 0, 0)

    def choose_shown(self, of_teacher: bool) -> list[Example]:
        """The demonstrations that fewtune shows; a distilling teacher draws them from a stream of its own."""
        rng = self.rng().spawn(1)[0] if of_teacher else self.rng()
        return choose_demonstrations(self.draw.support, self.size.demonstrations, rng)

    def write_context(self, shown: Sequence[Example]) -> str:
        """Demonstrations with their label words, as they stand before a row."""
        texts = self.texts("in-context", shown)
        return "".join(text + self.words[e.label or 0] + SEPARATOR for text, e in zip(texts, shown, strict=True))


@dataclass(frozen=True)
class Timing:
    """What one side took for one work, and what shows that it was the same work."""

    seconds: float
    rows_sha256: str
    steps: int | None = None
    accuracy: float | None = None
    """On the test rows, after a fit."""
    support_loss: float | None = None
    """Mean cross-entropy of the support after a fit, nats a row."""
    tokens: int | None = None
    model_flops: float | None = None
    """2 (a pass) or 6 (a step) x parameters of the body's linear layers x tokens they must run; attention and the head
    count nothing."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What was scaled, tried or counted besides."""


def read_material(size: Size, model: str = MODEL) -> Material:
    """The race's model, or another, and its task drawn once."""
    task = read_task()
    sampling = Sampling(size.shots, pool_rows=size.pool_rows, in_domain_rows=size.test_rows, out_of_domain_rows=1)
    draw = make_draw(task, sampling, data_seed=0)
    return Material(find_model(model), task, draw, size)


def read_trial_material(size: Size, data_seed: int) -> Material:
    """The race's model, and the draw that a trial of its study has."""
    return Material(find_model(MODEL), read_task(), draw_trial(read_task(), size, data_seed), size)


def draw_trial(task: Task, size: Size, data_seed: int) -> Draw:
    """The draw of a study's trial, as its file asks for it."""
    sampling = Sampling(
        size.study_shots,
        in_domain_rows=size.study_in_domain_rows,
        out_of_domain_rows=size.study_out_of_domain_rows,
    )
    return make_draw(task, sampling, data_seed)


def read_task() -> Task:
    """The race's task with its rows."""
    module = get_task_module(TASK)
    task: Task = module.load(module.Settings(), None)
    return task


def fingerprint(fitted: Sequence[Sequence[int]], scored: Sequence[Example], shown: Sequence[str] = ()) -> str:
    """SHA-256 over the tokens of the fitted rows, the ids of the scored ones and those of the demonstrations."""
    content = [[[int(t) for t in row] for row in fitted], [row.row_id for row in scored], list(shown)]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def measure_accuracy(scores: np.ndarray, rows: Sequence[Example]) -> float:
    """Share of rows whose best score (rows, labels) is their label's."""
    return float(np.mean(scores.argmax(1) == [row.label for row in rows]))


def measure_loss(scores: np.ndarray, rows: Sequence[Example]) -> float:
    """Mean cross-entropy, nats a row, of scores (rows, labels)."""
    log_probabilities = torch.tensor(scores, dtype=torch.float64).log_softmax(1)
    return float(-np.mean([log_probabilities[i, row.label or 0] for i, row in enumerate(rows)]))


def draw_head(labels: int, width: int) -> torch.Tensor:
    """A head's weights (labels, width) for the work that scores without a fit: the same on both sides."""
    return 0.02 * torch.randn(labels, width, generator=torch.Generator().manual_seed(0))
