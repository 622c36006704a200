"""The course of one race: how many draws each method gets, round by round, and when it stops.

Owns both rules. Does not know trials or records (`race`).

By expected loss: the first round gives every method three draws; each further one gives a few to the best bet or its
largest threat (`inference.allocation`). The others are paused: they go on where they become the largest threat. Bounds
are shown beside: each round may be the last, so that each has the share of the error that its draws have of the whole.

By bounds: all methods get the draws of the looks that were planned. A method stops where it is below another beyond
doubt, at the level of that look, unless it is near enough to the best to be chosen, or may be near enough to one that
failed and cannot be. The one that is truly the best is stopped in at most as many races as may be wrong; of equal ones
some may be, which costs nothing.
Relatives: Chick and Inoue 2001, https://doi.org/10.1287/opre.49.5.732.10615; FIESTA (Moss et al. 2019,
https://doi.org/10.18653/v1/P19-1281); Kim and Nelson 2001, https://doi.org/10.1145/502109.502111
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from fewtune.analysis.decision import Decision, is_near_enough
from fewtune.analysis.looks import choose_level, level_round
from fewtune.inference.allocation import allocate_draws
from fewtune.inference.differences import FEWEST_DRAWS
from fewtune.records import Look, LookHistory

DRAWS_A_ROUND = 2
"""Draws that a round by expected loss gives after the first, in all."""


class Course(ABC):
    """Draws by method as a race stands: those that its next round is of, until it is looked at."""

    def __init__(self, names: Sequence[str], first: int, most: int) -> None:
        self.draws = dict.fromkeys(names, first)
        self.stopped: dict[str, str] = {}
        """Methods that get no more draws whatever comes, and why."""
        self.is_open = True
        self._most = most

    @property
    def most_drawn(self) -> int:
        """The draws of the method that has most."""
        return max(self.draws.values())

    @abstractmethod
    def choose_level(self, history: LookHistory, look: Look, is_last: bool) -> float:
        """What the bounds of this round may spend of the error."""

    @abstractmethod
    def advance(self, decision: Decision, number: int) -> list[str]:
        """Give out the draws of the next round, by the decision of this one; the methods that get some, if any."""

    def absorb(self, whole: Mapping[str, int]) -> None:
        """At the end of a race, take in draws that are there already: it goes on where there are more than it asked
        for."""
        return

    @abstractmethod
    def cut(self, whole: Mapping[str, int], taken: int) -> bool:
        """Take the draws that are whole by now, the time being over; whether they are enough to look at.

        `taken` are the draws of the last look that was written down, 0 where there is none.
        """


class LossCourse(Course):
    """By expected loss."""

    _mean_before = 0.0

    def choose_level(self, history: LookHistory, look: Look, is_last: bool) -> float:
        """The share of this round's draws, of all the draws that the race may have."""
        now = sum(self.draws.values()) / len(self.draws)
        level = level_round(history, look, self._mean_before, now, is_last)
        self._mean_before = now
        return level

    def advance(self, decision: Decision, number: int) -> list[str]:
        """Draws for the best bet or its largest threat; none where the decision is settled or no draws are left."""
        question = decision.question
        given: Mapping[str, int] = {}
        if decision.choice is not None and not decision.settled:
            # A trial that failed is no draw, and was given all the same.
            scored = {name: each.counts[0] for name, each in decision.rivals.items()}
            scored |= {decision.choice.name: next((each.counts[1] for each in decision.rivals.values()), 0)}
            left = {name: scored[name] + self._most - self.draws[name] for name in scored}
            found = allocate_draws(
                decision.choice.name, decision.rivals, left, DRAWS_A_ROUND, question.within, question.span
            )
            given = found.draws
        self.draws |= {name: self.draws[name] + count for name, count in given.items()}
        self.is_open = bool(given)
        return list(given)

    def absorb(self, whole: Mapping[str, int]) -> None:
        """Draws of a longer race, or of a study without one, tell as much as its own."""
        more = {name: count for name, count in whole.items() if count > self.draws[name]}
        self.draws |= more
        self.is_open = self.is_open or bool(more)

    def cut(self, whole: Mapping[str, int], taken: int) -> bool:
        """Each method's own whole draws, whatever was looked at before."""
        self.draws = {name: min(self.draws[name], count) for name, count in whole.items()}
        return self.most_drawn >= FEWEST_DRAWS


class BoundCourse(Course):
    """By bounds, at the looks that were planned."""

    def __init__(self, names: Sequence[str], looks: Sequence[int]) -> None:
        super().__init__(names, looks[0], looks[-1])
        self._looks = looks

    def choose_level(self, history: LookHistory, look: Look, is_last: bool) -> float:
        """What the plan leaves for this look."""
        return choose_level(history, look, is_last)

    def advance(self, decision: Decision, number: int) -> list[str]:
        """The draws of the next look for those that go on."""
        found = _find_stopped(decision, number, self.draws, self.stopped)
        self.stopped = {**found, **self.stopped}
        going = [name for name in self.draws if name not in self.stopped]
        able = {each.name for each in decision.contenders if each.excluded is None}
        later = [draws for draws in self._looks if draws > self.most_drawn]
        self.is_open = not decision.settled and bool(later) and not able.isdisjoint(going)
        if not self.is_open:
            return []
        self.draws |= dict.fromkeys(going, later[0])
        return going

    def cut(self, whole: Mapping[str, int], taken: int) -> bool:
        """The draws that all methods have which go on."""
        going = [name for name in self.draws if name not in self.stopped and whole[name] > 0]
        common = min((whole[name] for name in going), default=0)
        self.draws |= dict.fromkeys((name for name in self.draws if name not in self.stopped), common)
        return common >= max(taken, 2)


def _find_stopped(
    decision: Decision, number: int, names: Mapping[str, int], before: Mapping[str, str]
) -> dict[str, str]:
    """Which methods stop at a look, and why; `before` are those that had stopped.

    One below another that cannot be chosen, having failed, goes on while it may be within the tolerance of it.
    """
    unfit = {each.name for each in decision.contenders if each.excluded is not None} - set(before)
    found = {}
    for each in decision.contenders:
        if each.name not in names or is_near_enough(decision.question, each):
            continue
        if each.regret is not None and each.regret.above is not None:
            if each.regret.above in unfit and each.regret.least <= decision.question.within:
                continue
            found[each.name] = f"stopped at look {number}: not the best, {each.regret.above} is above it"
        elif each.score is None:
            found[each.name] = f"stopped at look {number}: {each.excluded or 'not scored'}"
    return found
