"""Answer readers: label words or a linear head, and the prompts they read.

Owns the choice that every method which reads a prompt makes. What trains is `trainable`. Knows no method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import nn

from fewtune.engine.fitting import ParameterGroup
from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.readouts import HeadReadout, Readout, StateReadout
from fewtune.errors import DataError, name_choices
from fewtune.methods.optimisation import HeadStart, ReadoutKind
from fewtune.predictors.language import Before, LanguageScorer, Prompting, encode_rows, read_words
from fewtune.predictors.manifest import ContextPart
from fewtune.predictors.nearest import NearestDemonstrations
from fewtune.predictors.network import Change, Unchanged
from fewtune.predictors.predictor import Predictor
from fewtune.predictors.regression import fit_logistic
from fewtune.prompts.template import plain_template
from fewtune.prompts.tokens import Encoder
from fewtune.records import MethodNotes, PromptNotes
from fewtune.tasks.base import Draw, Example, Pattern, Task

HEAD_INVERSE_PENALTY = 0.1
"""Inverse strength of the L2 penalty of a head's regression: `probe`'s own."""


@dataclass(frozen=True)
class Answer:
    """How a prompt is written and what reads its answer, on a model that may yet be trained."""

    model: LanguageModel
    task: Task
    encoder: Encoder
    template: str
    readout: Readout
    notes: PromptNotes
    head: nn.Linear | None = None
    over_vocabulary: bool = False
    """Whether scores are log-likelihoods under the whole vocabulary, and the loss is the gold word's alone."""

    def encode(self, examples: Sequence[Example], before: Before = "") -> list[list[int]]:
        """Prompts of tokens, one an example, with room left for the answer."""
        return encode_rows(self.encoder, self.template, self.readout, examples, before)

    def prompt(self, forward: Forward) -> Prompting:
        """The same prompts and readout on a network that runs."""
        return Prompting(forward, self.encoder, self.template, self.readout)

    def predict_with(
        self,
        forward: Forward,
        change: Change,
        contexts: Sequence[ContextPart] = (ContextPart(),),
        nearest: NearestDemonstrations | None = None,
    ) -> Predictor:
        """The predictor that gives this answer on a network, behind contexts where there are any."""
        scorer = LanguageScorer(self.model, self.prompt(forward), change, tuple(contexts), nearest=nearest)
        return Predictor(self.task.labels, self.task.fields, scorer)

    def predict_untaught(self) -> Predictor:
        """The predictor that gives this answer on the base model, as it is before any fit."""
        return self.predict_with(self.model.forward(self.model.frozen), Unchanged())

    def report(self) -> MethodNotes:
        """How prompts were written so far, for the record."""
        return MethodNotes(prompt=self.notes.model_copy(update={"cut": self.encoder.count_cut()}))

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
    per_token: bool = False,
) -> Answer:
    """The language-model head over the label words of a pattern, constrained where it says so.

    `over` and `per_token` are LabelWordReadout's; over the vocabulary, a constrained pattern's words are whole too.
    """
    pattern = choose_pattern(task, pattern_name)
    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    if model.architecture.attention == "bidirectional" and encoder.mask is None:
        raise DataError(
            f"{model.name}: its tokenizer has no mask, in whose place a word is said. Use a method with a head."
        )
    label_tokens = encoder.encode_label_words(pattern)
    notes = PromptNotes(
        pattern=pattern.name,
        template=pattern.template,
        label_words=list(encoder.write_label_words(pattern)),
        label_word_tokens=label_tokens,
        constrained=pattern.constrained and over == "label_words",
        splits_cleanly=encoder.splits_words_cleanly(pattern.template, draw.support[0], pattern.label_words),
    )
    readout = read_words(encoder, label_tokens, "continuations" if notes.constrained else over, per_token)
    return Answer(model, task, encoder, pattern.template, readout, notes, over_vocabulary=over == "vocabulary")


def answer_by_head(
    model: LanguageModel,
    task: Task,
    pattern_name: str | None,
    prompted: bool,
    rng: np.random.Generator,
) -> Answer:
    """A freshly initialised linear head on the last token, over the plain texts or a pattern."""
    encoder = Encoder(model.tokenizer, model.max_tokens, model.max_positions)
    plain = plain_template(task.fields, encoder.between)
    template = choose_pattern(task, pattern_name).template if prompted else plain
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    # Made without nn.Linear's own initialisation, which would draw from the global generator.
    head: nn.Linear = torch.nn.utils.skip_init(nn.Linear, model.width, len(task.labels), bias=False)
    with torch.no_grad():
        std = next((s for key in ("initializer_range", "init_std") if (s := getattr(model.config, key, None))), 0.02)
        head.weight.normal_(0.0, std, generator=generator)
    head = head.to(model.device)
    return Answer(model, task, encoder, template, HeadReadout(head), PromptNotes(template=template), head)


def start_head(answer: Answer, rows: Sequence[Example], start: HeadStart) -> None:
    """Put the head of an answer, which was drawn, at zeros or where a logistic regression on labelled rows has it.

    The regression reads the frozen model's states, each scaled by its spread, and has no intercept: the head has none.
    """
    head = answer.head
    assert head is not None
    if start == "zero":
        torch.nn.init.zeros_(head.weight)
    elif start == "regression":
        prompting = Prompting(
            answer.model.forward(answer.model.frozen), answer.encoder, answer.template, StateReadout()
        )
        weight = _fit_head(prompting.read(rows), [row.label for row in rows], len(head.weight))
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(weight))


def _fit_head(states: np.ndarray, labels: Sequence[int | None], count: int) -> np.ndarray:
    """Weights (labels, width) of a logistic regression on states (rows, width); zeros for a label without rows."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(with_mean=False)
    fitted = fit_logistic(scaler.fit_transform(states), labels, HEAD_INVERSE_PENALTY, intercept=False)
    found = fitted.coef_ if len(fitted.classes_) > 2 else np.concatenate([-fitted.coef_ / 2, fitted.coef_ / 2])
    weight = np.zeros((count, states.shape[1]))
    weight[fitted.classes_] = found / scaler.scale_
    return weight


def choose_answer(
    readout: ReadoutKind,
    model: LanguageModel,
    task: Task,
    draw: Draw,
    pattern_name: str | None,
    rng: np.random.Generator,
) -> Answer:
    """Label words, or a fresh linear head, over a pattern's prompt."""
    if readout == "head":
        return answer_by_head(model, task, pattern_name, True, rng)
    return answer_by_label_words(model, task, draw, pattern_name, "label_words")


def head_parameters(answer: Answer, learning_rate: float) -> list[ParameterGroup]:
    """The linear head's tensors as a group; none where label words are read."""
    if answer.head is None:
        return []
    return [ParameterGroup("head", tuple(answer.head.parameters()), learning_rate)]
