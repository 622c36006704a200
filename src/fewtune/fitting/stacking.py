"""A stack as one more candidate: the best candidates' answers pooled, judged by the same folds.

Owns which candidates are its members and whether there is time for it. How weights are found is `stack_weights`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewtune.fitting.candidates import count_bytes
from fewtune.fitting.contest import CandidateState, Contest
from fewtune.fitting.stack_weights import fit_weights, judge_stack
from fewtune.fitting.standing import Answered
from fewtune.fitting.terms import ModelLimits

MOST_MEMBERS = 3
FEWEST_ROWS = 24
"""Rows answered from which on weights are worth finding."""


@dataclass(frozen=True)
class Stack:
    """Candidates' names with their weights, what the stack answered of each row, and what it takes."""

    weights: Mapping[str, float]
    answered: Answered
    fit_seconds: float
    row_seconds: float

    @property
    def name(self) -> str:
        """What it is called beside candidates."""
        return f"stack of {' + '.join(self.weights)}"


def propose_stack(contest: Contest, left: float, limits: ModelLimits) -> Stack | None:
    """A stack of the best candidates that answered all rows; None where too few keep together within what is left of
    the time, in seconds, and within the limits.

    Members of no weight are left out.
    """
    ranked = sorted(contest.stand().standings, key=lambda each: -each.score)
    entries = [contest.find(each.name) for each in ranked]
    apart: dict[tuple[str, str | None], CandidateState] = {}
    for entry in filter(contest.is_whole, entries):  # the best of a method on a model: its variants say much the same
        apart.setdefault((entry.candidate.method, entry.candidate.model), entry)
    members = list(apart.values())[:MOST_MEMBERS]
    while len(members) > 1 and not _keeps_within(contest, members, left, limits):
        members = members[:-1]
    if len(members) < 2:
        return None
    answered = [contest.join(entry) for entry in members]
    places = answered[0].places
    if len(places) < FEWEST_ROWS:
        return None
    scores, gold = np.stack([each.log_probabilities for each in answered]), contest.gold[places]
    weights = fit_weights(scores, gold)
    kept = [place for place, weight in enumerate(weights) if weight > 0]
    if len(kept) < 2:
        return None
    found = judge_stack(scores[kept], gold, contest.number_folds()[places])
    weights = fit_weights(scores[kept], gold)
    chosen = [members[place] for place in kept]
    return Stack(
        weights={entry.candidate.name: float(weight) for entry, weight in zip(chosen, weights, strict=True)},
        answered=Answered(places, found),
        fit_seconds=sum(entry.count_alone_seconds() for entry in chosen),
        row_seconds=sum(entry.count_row_seconds() for entry in chosen),
    )


def _keeps_within(contest: Contest, members: Sequence[CandidateState], left: float, limits: ModelLimits) -> bool:
    """Whether candidates keep together within the time that is left, in seconds, and within the limits."""
    fit = sum(map(contest.foresee_last_fit, members))
    row = sum(entry.count_row_seconds() for entry in members)
    bytes_loaded = sum(count_bytes(model) for model in {entry.candidate.model for entry in members})
    return fit <= min(left, limits.fit_seconds) and row <= limits.row_seconds and bytes_loaded <= limits.model_bytes
