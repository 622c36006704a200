"""A stack: a weighted sum of the log-probabilities of fitted predictors with the same labels.

Owns the pooling, and how a stack is made of predictors. It is log-linear: a weighted sum of the members' calibrated
log-probabilities and of an offset a label, normalised again. How weights are found is `fitting.stack_weights`. Source:
Genest and Zidek 1986, https://doi.org/10.1214/ss/1177013825
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fewtune.errors import PredictorError
from fewtune.plurals import pluralise
from fewtune.predictors.manifest import LARGEST_BIAS, LARGEST_WEIGHT, MemberPart, StackPart
from fewtune.predictors.predictor import Arrays, Predictor, Scorer
from fewtune.predictors.regression import LOWEST
from fewtune.predictors.temperature import normalise
from fewtune.tasks.base import Example


def pool(
    log_probabilities: Sequence[np.ndarray], weights: Sequence[float], bias: Sequence[float] | None = None
) -> np.ndarray:
    """Log-probabilities (rows, labels) from those of each member, by a weight a member and an offset a label.

    A member's are LOWEST at least: none alone makes a label impossible.
    """
    # Summed member by member, so that a row's answer is the same to the last bit whatever rows stand beside it.
    pairs = zip(weights, log_probabilities, strict=True)
    scores: np.ndarray = sum((weight * np.maximum(each, LOWEST) for weight, each in pairs), np.zeros(()))
    return normalise(scores if bias is None else scores + np.array(bias))


@dataclass(frozen=True)
class StackScorer:
    """Members of the same labels and texts, a weight for each, and an offset a label where there are any."""

    members: tuple[Predictor, ...]
    weights: tuple[float, ...]
    bias: tuple[float, ...] | None = None

    def log_probabilities(self, rows: Sequence[Example]) -> np.ndarray:
        return pool([member.log_probabilities(rows) for member in self.members], self.weights, self.bias)

    def count_cut(self) -> int:
        return max(member.count_cut() for member in self.members)  # whoever reads least has cut what others cut

    def count_tokens(self, rows: Sequence[Example]) -> list[int]:
        counts: list[int] = np.sum([member.scorer.count_tokens(rows) for member in self.members], axis=0).tolist()
        return counts

    def describe(self) -> StackPart:
        return StackPart(members=tuple(map(_describe_member, self.members)), weights=self.weights, bias=self.bias)

    def arrays(self) -> Arrays:
        return {}  # of its own; those of its members are saved in folders of theirs

    def answers_alone(self) -> bool:
        return all(member.scorer.answers_alone() for member in self.members)

    def write_more(self, folder: Path) -> None:
        """Nothing of its own."""


def stack_predictors(
    predictors: Sequence[Predictor], weights: Sequence[float], bias: Sequence[float] | None = None
) -> Predictor:
    """A predictor that pools others, which keep their temperatures, by a weight of 0 or more for each.

    Those of weight 0 are left out: they would cost time and change no answer. What members abstain from counts for
    nothing. Raises PredictorError where labels, texts, weights or bias (an offset a label) do not go together.
    """
    if not predictors or len(weights) != len(predictors):
        raise PredictorError(
            f"a stack has a weight for each member, and one member at least: {pluralise(len(predictors), 'member')} "
            f"and {pluralise(len(weights), 'weight')} were given."
        )
    first = predictors[0]
    for number, member in enumerate(predictors, start=1):
        for what, asked, given in (("labels", first.labels, member.labels), ("texts", first.fields, member.fields)):
            if given != asked:
                raise PredictorError(
                    f"a stack's members have the same {what} in one order: member {number} has {', '.join(given)}, and "
                    f"member 1 {', '.join(asked)}. Fit them on the same rows."
                )
        if isinstance(member.scorer, StackScorer):
            raise PredictorError(f"member {number} is a stack itself: give its members.")
    if not all(0 <= weight <= LARGEST_WEIGHT for weight in weights) or not any(weights):
        raise PredictorError(
            f"weights are {', '.join(f'{weight:g}' for weight in weights)}: each is from 0 to {LARGEST_WEIGHT:g}, and "
            "one at least above 0."
        )
    if bias is not None and (len(bias) != len(first.labels) or not all(abs(each) <= LARGEST_BIAS for each in bias)):
        raise PredictorError(
            f"bias has {pluralise(len(bias), 'number')}: give one for each of the {len(first.labels)} labels, from "
            f"{-LARGEST_BIAS:g} to {LARGEST_BIAS:g}."
        )
    kept = [
        (replace(p, abstention=None), float(weight)) for p, weight in zip(predictors, weights, strict=True) if weight
    ]
    members, positive = zip(*kept, strict=True)
    offsets = None if bias is None else tuple(map(float, bias))
    return Predictor(first.labels, first.fields, StackScorer(members, positive, offsets))


def list_scorers(scorer: Scorer) -> dict[str, Scorer]:
    """A scorer, or of a stack its members, by the folder that each one's files are saved in."""
    if not isinstance(scorer, StackScorer):
        return {"": scorer}
    return {name_member_folder(place): member.scorer for place, member in enumerate(scorer.members)}


def name_member_folder(place: int) -> str:
    """The folder of a member's files, below that of the stack."""
    return f"members/{place}"


def _describe_member(member: Predictor) -> MemberPart:
    part = member.scorer.describe()
    assert not isinstance(part, StackPart)  # `stack_predictors` takes none
    return MemberPart(scorer=part, temperature=member.temperature, origin=dict(member.origin))
