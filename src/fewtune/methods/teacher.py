"""The teacher of context distillation: a frozen model that reads contexts before it answers.

Owns its contexts, its tuning where it is tuned first, and its soft targets. A support row is never answered
behind a context that gives its label away. Does not know the student.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from fewtune.engine.fit import fit
from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.readouts import NextTokenReadout
from fewtune.errors import DataError
from fewtune.methods.answer import Answer, answer_by_label_words, choose_pattern
from fewtune.methods.contexts import Context, ContextSettings, make_contexts, warn_of_short_contexts
from fewtune.methods.fine_tuning import plan_training
from fewtune.methods.optimisation import FineTuning
from fewtune.methods.scratchpad import Scratchpad
from fewtune.methods.teacher_settings import TeacherSettings
from fewtune.methods.trainable import train_all
from fewtune.predictors.language import Before, Prompting, average
from fewtune.records import TeacherNotes
from fewtune.tasks.base import Draw, Example, Task

TUNING_RATE = 2e-5

ROWS_OF_VOCABULARY = 64
"""Rows of which the probabilities of the whole vocabulary are held at once, a context each."""

Scorer = Callable[[Sequence[Example]], np.ndarray]


@dataclass(frozen=True)
class Teacher:
    """A scorer of label words for each context, and soft targets for the loss."""

    contexts: tuple[Context, ...]
    scorers: tuple[Scorer, ...]
    target_scorers: tuple[Scorer, ...]
    """Log-probabilities of what the loss compares: label words, or the whole vocabulary."""
    top_k: int | None
    forward: Forward
    report: Callable[[], TeacherNotes]
    """What the record should note, asked for after the rows are answered."""
    warnings: tuple[str, ...]
    """What to warn of, such as demonstrations that the model could not read."""

    def score(self, rows: Sequence[Example]) -> np.ndarray:
        """Log-probabilities over the labels (rows, labels), probabilities averaged over the contexts."""
        return average([scorer(rows) for scorer in self.scorers])

    def answer_rows(self, rows: Sequence[Example]) -> list[np.ndarray | None]:
        """A soft target a row, over the contexts that do not show it; None where every context does."""
        # Whole vocabularies of many rows would not fit into memory; of label words there are few.
        each = len(rows) if self.top_k is None else ROWS_OF_VOCABULARY
        return [target for at in range(0, len(rows), each or 1) for target in self._answer(rows[at : at + each])]

    def _answer(self, rows: Sequence[Example]) -> list[np.ndarray | None]:
        shown = [{e.row_id for e in context.rows} for context in self.contexts]
        answers: list[list[np.ndarray]] = [[] for _ in rows]
        for scorer, hidden in zip(self.target_scorers, shown, strict=True):
            asked = [i for i, row in enumerate(rows) if row.label is None or row.row_id not in hidden]
            if asked:
                for i, scores in zip(asked, scorer([rows[i].without_label() for i in asked]), strict=True):
                    answers[i].append(scores)
        return [self._target(given) if given else None for given in answers]

    def _target(self, answers: list[np.ndarray]) -> np.ndarray:
        mean: np.ndarray = average([scores[None] for scores in answers])[0]
        if self.top_k is None:
            return mean
        top = np.argsort(-mean, kind="stable")[: self.top_k]
        rest = np.log(max(1e-9, 1.0 - float(np.exp(mean[top]).sum())))
        target: np.ndarray = np.stack([np.append(top, -1.0), np.append(mean[top], rest)], axis=1)
        return target


def make_teacher(
    settings: TeacherSettings, model: LanguageModel, task: Task, draw: Draw, rng: np.random.Generator
) -> Teacher:
    """Freeze the teacher, tuned on the support first where that is asked, and write its contexts."""
    if "reads_on" not in model.architecture.find_abilities(model.config):
        raise DataError(f"teacher {model.name}: an encoder, whose rows cannot go on from a context. Use a decoder.")
    # Tuned, it learns likelihoods under the whole vocabulary; asked alone, the labels' own columns say the same.
    over: Literal["label_words", "vocabulary"] = "vocabulary" if settings.tuned_teacher_epochs else "label_words"
    answer = answer_by_label_words(model, task, draw, settings.pattern, over)
    forward = _freeze(settings, model, answer, draw, rng)
    prompting = answer.prompt(forward)
    pattern = choose_pattern(task, settings.pattern)
    demonstrations = (settings.demonstrations or 0) if "demonstrations" in settings.context else 0
    instruction = settings.instruction if "instruction" in settings.context else ""
    scratchpad = _open_scratchpad(settings, forward, answer)
    asked = ContextSettings(settings.contexts, demonstrations, settings.calibration, settings.separator, instruction)
    follow = str if scratchpad is None else scratchpad.follow
    contexts = make_contexts(asked, prompting, pattern, draw, rng, follow)
    scorers = [partial(prompting.score, before=each.before, log_prior=each.log_prior) for each in contexts]
    targets: list[Scorer] = list(scorers)
    if settings.kl_over == "vocabulary":
        targets = [_next_tokens(prompting, each.before) for each in contexts]
    top_k = settings.top_k if settings.kl_over == "vocabulary" else None

    def report() -> TeacherNotes:
        return TeacherNotes(
            model=model.name,
            contexts=[[e.row_id for e in context.rows] for context in contexts],
            cut=answer.encoder.count_cut(),
            scratchpad=None if scratchpad is None else scratchpad.report(),
        )

    warnings = tuple(f"of the teacher, {warning}" for warning in warn_of_short_contexts(asked, contexts))
    return Teacher(tuple(contexts), tuple(scorers), tuple(targets), top_k, forward, report, warnings)


def _open_scratchpad(settings: TeacherSettings, forward: Forward, answer: Answer) -> Scratchpad | None:
    if "scratchpad" not in settings.context:
        return None
    return Scratchpad(forward, answer, settings.scratchpad, settings.scratchpad_tokens, settings.separator)


def _freeze(
    settings: TeacherSettings, model: LanguageModel, answer: Answer, draw: Draw, rng: np.random.Generator
) -> Forward:
    if settings.tuned_teacher_epochs == 0:
        return model.forward(model.frozen)
    trained = train_all(model, TUNING_RATE, body_only=False)
    recipe = FineTuning(epochs=settings.tuned_teacher_epochs, batch_size=settings.batch_size)
    tuned = plan_training(recipe, draw, answer, trained, rng)
    assert tuned.fitting is not None
    fit(tuned.fitting, rng, lambda step, steps, loss: None)
    trained.network.requires_grad_(False)
    return trained.forward


def _next_tokens(prompting: Prompting, before: Before) -> Scorer:
    """Log-probabilities over the vocabulary after the prompt, (rows, vocabulary)."""
    if prompting.readout.answer_tokens != 1:
        raise DataError("kl_over vocabulary compares one next token; a label word here has several: use label_words.")
    return partial(replace(prompting, readout=NextTokenReadout()).read, before=before)
