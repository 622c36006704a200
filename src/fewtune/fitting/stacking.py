"""A stack as one more candidate: the strongest candidates' answers pooled, judged by the same folds.

Owns which candidates are its members and whether there is time for it. How weights are found is `stack_weights`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fewtune.fitting.contest import Contest
from fewtune.fitting.stack_weights import fit_weights, judge_stack
from fewtune.fitting.standing import Answered, Standings

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


def propose_stack(contest: Contest, standings: Standings, left: float) -> Stack | None:
    """A stack of the best candidates that answered all rows; None where there are too few, or too little time is left.

    `left` is in seconds. Members of no weight are left out.
    """
    ranked = sorted(standings.standings, key=lambda each: -each.score)
    entries = [contest.find(each.name) for each in ranked]
    members = [entry for entry in entries if contest.is_whole(entry)][:MOST_MEMBERS]
    while len(members) > 1 and sum(map(contest.foresee_last_fit, members)) > left:
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
