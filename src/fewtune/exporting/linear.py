"""Writes a model's readout as one linear map from the last token's state to a logit a label.

Owns how heads, label words of one token, calibration by a prior, regressions and temperatures become one. Softmax of
the logits gives the predictor's probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fewtune.engine.readouts import HeadReadout, LabelWordReadout, StateReadout
from fewtune.predictors.language import LanguageScorer
from fewtune.predictors.regression import Regression


@dataclass(frozen=True)
class LinearAnswer:
    """Weights (labels, width) and offsets (labels,), float64; offsets are centred, for softmax sees no common shift."""

    weight: np.ndarray
    offset: np.ndarray
    unit: bool = False
    """States are scaled to length one first."""

    @property
    def has_offset(self) -> bool:
        return bool(np.abs(self.offset).max() > 0)


def read_linear(scorer: LanguageScorer, temperature: float) -> LinearAnswer | None:
    """The map that a scorer's answers are; None of label words of several tokens, or several contexts."""
    found = _read_parts(scorer)
    if found is None or len(scorer.contexts) != 1:
        return None
    weight, offset = found
    prior = scorer.contexts[0].log_prior
    offset = (offset if prior is None else offset - np.array(prior)) / temperature
    readout = scorer.prompting.readout
    unit = isinstance(readout, StateReadout) and readout.unit
    return LinearAnswer(weight / temperature, offset - offset.mean(), unit)


def _read_parts(scorer: LanguageScorer) -> tuple[np.ndarray, np.ndarray] | None:
    readout = scorer.prompting.readout
    if isinstance(scorer.reader, Regression):
        return _read_regression(scorer.reader)
    if isinstance(readout, HeadReadout):
        weight = readout.head.weight.detach().double().cpu().numpy()
        return weight, np.zeros(len(weight))
    if isinstance(readout, LabelWordReadout) and readout.branches is None and scorer.prompting.encoder.mask is None:
        ids = torch.tensor([tokens[0] for tokens in readout.label_tokens])
        with torch.no_grad():
            rows, bias = scorer.prompting.forward.head_columns(ids.to(scorer.prompting.forward.device))
        offset = np.zeros(len(ids)) if bias is None else bias.double().cpu().numpy()
        return rows.double().cpu().numpy(), offset
    return None


def _read_regression(regression: Regression) -> tuple[np.ndarray, np.ndarray] | None:
    """Logits of a regression over all labels; None where it never saw one, whose score is no linear map."""
    if len(regression.classes) != regression.labels:
        return None
    weight, offset = regression.list_classes()
    order = np.argsort(regression.classes)
    return weight[order], offset[order]
