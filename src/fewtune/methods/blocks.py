"""The parts methods are composed of: what reads the answer, what trains, and the plan that joins them.

Owns the composition every trained method shares. Does not know any one method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import nn

from fewtune.engine.forward import Forward
from fewtune.engine.plan import FitExample, Fitting, ParameterGroup, Plan
from fewtune.engine.readers import HeadReader, LabelWordReader, Reader
from fewtune.engine.schedule import Optimisation
from fewtune.engine.score import score_prompts
from fewtune.errors import DataError, name_choices
from fewtune.models import LanguageModel
from fewtune.tasks.base import Draw, Example, Pattern, Task
from fewtune.text import Encoder, plain_template


@dataclass(frozen=True)
class Answer:
    """How a prompt is written and what reads its answer."""

    encoder: Encoder
    template: str
    reader: Reader
    notes: dict[str, Any]
    head: nn.Linear | None = None
    over_vocabulary: bool = False
    """Whether scores are log-likelihoods under the whole vocabulary, and the loss is the gold word's alone."""

    def encode(self, examples: Sequence[Example], before: str = "") -> list[list[int]]:
        """Prompts of tokens, one an example, with room left for the answer."""
        return self.encoder.encode(self.template, examples, before, reserve=self.reader.answer_tokens)

    def loss(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """One loss a row, in nats: cross-entropy over the labels, or over the vocabulary."""
        if self.over_vocabulary:
            return -scores.gather(1, labels[:, None])[:, 0]
        return F.cross_entropy(scores, labels, reduction="none")


def choose_pattern(task: Task, name: str | None) -> Pattern:
    """The task's pattern of that name, its first where None; raises DataError with the nearest name."""
    if name is None:
        return task.patterns[0]
    patterns = {p.name: p for p in task.patterns}
    if name not in patterns:
        raise DataError(name_choices(name, patterns, f"pattern of task {task.name!r}"))
    return patterns[name]


def answer_by_label_words(
    model: LanguageModel,
    task: Task,
    draw: Draw,
    pattern_name: str | None,
    over: Literal["label_words", "vocabulary"],
) -> Answer:
    """The language-model head over the label words of a pattern."""
    pattern = choose_pattern(task, pattern_name)
    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    label_tokens = encoder.encode_label_words(pattern)
    notes = {
        "pattern": pattern.name,
        "template": pattern.template,
        "label_words": list(pattern.label_words),
        "label_word_tokens": label_tokens,
        "label_words_split_cleanly": encoder.splits_words_cleanly(
            pattern.template, draw.support[0], pattern.label_words
        ),
    }
    reader = LabelWordReader(label_tokens, over)
    return Answer(encoder, pattern.template, reader, notes, over_vocabulary=over == "vocabulary")


def answer_by_head(
    model: LanguageModel,
    task: Task,
    pattern_name: str | None,
    prompted: bool,
    rng: np.random.Generator,
) -> Answer:
    """A freshly initialised linear head on the last token, over the plain texts or a pattern."""
    template = choose_pattern(task, pattern_name).template if prompted else plain_template(task.fields)
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    # Made without nn.Linear's own initialisation, which would draw from the global generator.
    head: nn.Linear = torch.nn.utils.skip_init(nn.Linear, model.width, len(task.labels), bias=False)
    with torch.no_grad():
        std = next((s for key in ("initializer_range", "init_std") if (s := getattr(model.config, key, None))), 0.02)
        head.weight.normal_(0.0, std, generator=generator)
    head = head.to(model.device)
    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    return Answer(encoder, template, HeadReader(head), {"template": template}, head)


def plan_training(
    model: LanguageModel,
    draw: Draw,
    answer: Answer,
    forward: Forward,
    groups: Sequence[ParameterGroup],
    optimisation: Optimisation,
) -> Plan:
    """Fit the support's labels by cross-entropy over the answer's scores, and score rows the same way."""
    modules = [forward.network, *([answer.head] if answer.head is not None else [])]
    examples = [
        FitExample(tuple(answer.reader.sequences(prompt)), _known(example))
        for example, prompt in zip(draw.support, answer.encode(draw.support), strict=True)
    ]

    def loss(batch: Sequence[FitExample]) -> torch.Tensor:
        packed = forward.pack([s for e in batch for s in e.sequences])
        scores = answer.reader.read(forward, forward.hidden_states(packed), packed)
        labels = torch.tensor([e.label for e in batch], device=scores.device)
        return answer.loss(scores, labels)

    trainable = {id(p): p for g in groups for p in g.parameters}
    head_size = sum(p.numel() for p in answer.head.parameters()) if answer.head is not None else 0
    return Plan(
        score=label_scorer(forward, answer),
        fitting=Fitting(tuple(groups), tuple(examples), loss, optimisation, tuple(modules)),
        forward=forward,
        trainable_parameters=sum(p.numel() for p in trainable.values()),
        total_parameters=sum(p.numel() for p in forward.network.parameters()) + head_size,
        report=lambda: {**answer.notes, **answer.encoder.report()},
    )


def label_scorer(
    forward: Forward,
    answer: Answer,
    before: str = "",
    adjust: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Callable[[Sequence[Example]], np.ndarray]:
    """The scoring function of a plan: log-probabilities over the labels, (rows, labels)."""

    def score(examples: Sequence[Example]) -> np.ndarray:
        scores = score_prompts(forward, answer.encode(examples, before), answer.reader)
        return normalise(scores if adjust is None else adjust(normalise(scores)))

    return score


def normalise(scores: np.ndarray) -> np.ndarray:
    """Log-probabilities over the labels from scores (rows, labels)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    normalised: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def all_parameters(network: nn.Module, learning_rate: float) -> ParameterGroup:
    """Every tensor of a network as one group."""
    return ParameterGroup("all weights", tuple(network.parameters()), learning_rate)


def head_parameters(answer: Answer, learning_rate: float) -> list[ParameterGroup]:
    """The linear head's tensors as a group; none where label words are read."""
    if answer.head is None:
        return []
    return [ParameterGroup("head", tuple(answer.head.parameters()), learning_rate)]


def adapter_parameters(network: nn.Module, learning_rate: float) -> ParameterGroup:
    """The tensors that an adapter left trainable."""
    return ParameterGroup("adapter", tuple(p for p in network.parameters() if p.requires_grad), learning_rate)


def _known(example: Example) -> int:
    if example.label is None:
        raise DataError(f"row {example.row_id!r} has no label and cannot be fitted")
    return example.label
