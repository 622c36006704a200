"""A scorer that prompts a language model: a template, contexts before it, a readout, calibration.

Owns how rows are scored by one, the same for every method and after loading. What of the network differs from its base
is `network`. Contextual and batch calibration only differ in the prior that is subtracted here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.readouts import HeadReadout, LabelWordReadout, Readout, StateReadout, WordsOver
from fewtune.engine.score import score_prompts
from fewtune.predictors.compared import compare_embeddings
from fewtune.predictors.manifest import (
    BasePart,
    ContextPart,
    HeadPart,
    LabelWordsPart,
    LanguagePart,
    NearestPart,
    NeighboursPart,
    RegressionPart,
)
from fewtune.predictors.nearest import NearestDemonstrations
from fewtune.predictors.neighbours import Neighbours
from fewtune.predictors.network import Change
from fewtune.predictors.regression import Regression
from fewtune.predictors.temperature import normalise
from fewtune.prompts.calibration import centre
from fewtune.prompts.tokens import Encoder
from fewtune.tasks.base import Example

FEWEST_CENTRED = 32
"""Rows scored together whose mean stands for a prior; fewer take the one that was estimated when fitting."""

Before = str | Callable[[Sequence[Example]], Sequence[str]]
"""What stands before a prompt: one text for every row, or what gives each row its own."""


@dataclass(frozen=True)
class Prompting:
    """How a row becomes a prompt, what runs it and what reads its answer."""

    forward: Forward
    encoder: Encoder
    template: str
    readout: Readout
    compared: str | None = None
    """The template of a row's second text, where it is read apart from the first: what is read is how they compare."""

    def read(self, rows: Sequence[Example], before: Before = "") -> np.ndarray:
        """What the readout makes of rows behind a text, (rows, outcomes), float64."""
        first = self._read(self.template, rows, before)
        return first if self.compared is None else compare_embeddings(first, self._read(self.compared, rows, before))

    def _read(self, template: str, rows: Sequence[Example], before: Before) -> np.ndarray:
        prompts = encode_rows(self.encoder, template, self.readout, rows, before)
        shared = isinstance(before, str) and before
        opening = [*self.encoder.opening, *self.encoder.tokenise([str(before)])[0]] if shared else []
        return score_prompts(self.forward, prompts, self.readout, opening)

    def count_tokens(self, rows: Sequence[Example], before: Before = "") -> np.ndarray:
        """Tokens of each row's prompt behind a text, (rows,)."""
        templates = [self.template] if self.compared is None else [self.template, self.compared]
        prompts = [encode_rows(self.encoder, each, self.readout, rows, before) for each in templates]
        return np.array([sum(map(len, each)) for each in zip(*prompts, strict=True)], dtype=np.int64)

    def score(self, rows: Sequence[Example], before: Before = "", log_prior: np.ndarray | None = None) -> np.ndarray:
        """Log-probabilities over what is read, (rows, outcomes), less a log prior where one is given."""
        scores = normalise(self.read(rows, before))
        return scores if log_prior is None else normalise(scores - log_prior)


@dataclass(frozen=True)
class LanguageScorer:
    """A prompt read behind one or several contexts, whose probabilities are averaged, on a network that was adapted."""

    model: LanguageModel
    prompting: Prompting
    change: Change
    contexts: tuple[ContextPart, ...] = (ContextPart(),)
    reader: Regression | Neighbours | None = None
    """What makes labels' scores of what is read, where the readout reads no label's score itself."""
    nearest: NearestDemonstrations | None = None
    """What stands before each row, for a context that names it."""

    def log_probabilities(self, rows: Sequence[Example]) -> np.ndarray:
        if self.reader is not None:
            return normalise(self.reader.log_probabilities(self.prompting.read(rows, self.contexts[0].before)))
        each = [self._score_behind(context, rows) for context in self.contexts]
        return each[0] if len(each) == 1 else average(each)

    def _score_behind(self, context: ContextPart, rows: Sequence[Example]) -> np.ndarray:
        scores = self.prompting.score(rows, self._read_before(context))
        if context.centred and len(rows) >= FEWEST_CENTRED:
            return normalise(scores - centre(scores))
        return scores if context.log_prior is None else normalise(scores - np.array(context.log_prior))

    def _read_before(self, context: ContextPart) -> Before:
        if context.nearest is None:
            return context.before
        assert self.nearest is not None
        return self.nearest

    def count_cut(self) -> int:
        return self.prompting.encoder.count_cut().rows

    def count_tokens(self, rows: Sequence[Example]) -> list[int]:
        read = [self._read_before(context) for context in self.contexts]
        counts: list[int] = np.sum([self.prompting.count_tokens(rows, before) for before in read], axis=0).tolist()
        return counts

    def describe(self) -> LanguagePart:
        model, encoder = self.model, self.prompting.encoder
        return LanguagePart(
            base=BasePart(
                name=model.name,
                weights_fingerprint=model.weights_fingerprint,
                precision=model.precision,
                revision=model.revision,
            ),
            template=self.prompting.template,
            compared=self.prompting.compared,
            max_tokens=encoder.given_tokens,
            max_positions=encoder.max_positions,
            contexts=self.contexts,
            block=self.prompting.forward.block,
            readout=self._describe_readout(),
            network=self.change.describe(self.prompting.forward, model),
        )

    def _describe_readout(self) -> LabelWordsPart | HeadPart | RegressionPart | NeighboursPart:
        readout = self.prompting.readout
        if isinstance(self.reader, Regression):
            unit = isinstance(readout, StateReadout) and readout.unit
            return self.reader.describe().model_copy(update={"unit": unit})
        if self.reader is not None:
            return self.reader.describe()
        if isinstance(readout, HeadReadout):
            return HeadPart()
        if isinstance(readout, LabelWordReadout):
            tokens = tuple(map(tuple, readout.label_tokens))
            return LabelWordsPart(tokens=tokens, over=readout.over, per_token=readout.per_token)
        raise TypeError(f"{type(readout).__name__} reads no label's score and cannot be saved")

    def arrays(self) -> dict[str, np.ndarray]:
        found = self.change.arrays(self.prompting.forward, self.model)
        readout = self.prompting.readout
        if self.nearest is not None:
            found["nearest.states"] = self.nearest.states
        if self.reader is not None:
            found |= self.reader.arrays()
        elif isinstance(readout, HeadReadout):
            found["head.weight"] = readout.head.weight.detach().float().cpu().numpy()
        return found

    def answers_alone(self) -> bool:
        return not any(context.centred for context in self.contexts)

    def write_more(self, folder: Path) -> None:
        self.change.write_more(folder, self.model)


def find_by_states(part: NearestPart, states: np.ndarray, prompting: Prompting) -> NearestDemonstrations:
    """What stands before each row of a prompt's, by the states (demonstrations, width) of what may stand there."""
    return NearestDemonstrations(part, states, read_states(prompting, part.template))


def read_states(prompting: Prompting, template: str) -> Prompting:
    """The same network reading a template's text as a state of length one."""
    return replace(prompting, template=template, readout=StateReadout(unit=True))


def read_words(
    encoder: Encoder,
    tokens: Sequence[Sequence[int]],
    over: WordsOver,
    per_token: bool = False,
) -> LabelWordReadout:
    """The readout of label words where an encoder's prompts ask for them."""
    return LabelWordReadout(tokens, over, len(encoder.closing) if encoder.mask is not None else None, per_token)


def encode_rows(
    encoder: Encoder, template: str, readout: Readout, rows: Sequence[Example], before: Before = ""
) -> list[list[int]]:
    """Prompts of tokens, one a row, with room left for the answer."""
    texts = before if isinstance(before, str) else before(rows)
    return encoder.encode(template, rows, texts, reserve=readout.answer_tokens)


def average(scores: Sequence[np.ndarray]) -> np.ndarray:
    """Log of the mean of probabilities given as log-probabilities (rows, outcomes)."""
    stacked = np.stack(scores)
    return normalise(np.logaddexp.reduce(stacked, axis=0) - np.log(len(scores)))
