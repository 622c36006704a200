"""The decision: use X, within R points of the best; or what is still missing.

Owns the rule. Does not know how a bound is made (`regret`), what a method costs (`leaderboard`) or how it is worded.

The rule, for one task, model and number of shots:
1. Compared are all methods that were scored on two draws or more and keep within the budget. Each has a regret bound:
   at most so many points below the best of them, all bounds at once at 95 %.
2. May be chosen: those of them that were scored on every draw and failed in none.
3. The decision is the cheapest of these whose bound is within the tolerance; of equally cheap ones the better.
4. Where no bound is, the decision says how many further draws of which methods would bring one there, if they go on as
   these, with the trials and seconds that takes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fewtune.analysis import statistics
from fewtune.analysis.answers import VariantAnswers
from fewtune.analysis.comparison import IN_DOMAIN_ALONE
from fewtune.analysis.regret import (
    PairDifference,
    RegretBound,
    Scored,
    borrow,
    bound_scored,
    reach_above,
    score_draws,
    subtract,
)

WITHIN = 0.03
"""Points that a choice may cost, where nothing is asked: 3."""


@dataclass(frozen=True)
class Contender:
    """One method on one model: its mean score, what it costs, its bound; `excluded` says why it cannot be chosen."""

    name: str
    score: float | None
    seconds: float | None
    """To fit, and to answer the queries that it is priced with."""
    seconds_a_draw: float | None
    """What one further draw of it takes, all its fit seeds."""
    trials_a_draw: int
    excluded: str | None = None
    regret: RegretBound | None = None
    """None where it was not compared."""


@dataclass(frozen=True)
class Missing:
    """What would bring a bound within the tolerance: further draws (None: none within reach) of these methods."""

    draws: int | None
    methods: tuple[str, ...]
    trials: int | None
    seconds: float | None
    closest: str | None
    """The method whose bound is lowest now."""


@dataclass(frozen=True)
class Decision:
    """The answer for one task and number of shots; `chosen` is None where something is missing, which `missing` says.

    `within` is the tolerance, `best` the compared method of the highest mean score.
    """

    task: str
    model: str | None
    shots: int
    metric: str
    within: float
    chosen: Contender | None
    best: str | None
    contenders: tuple[Contender, ...]
    missing: Missing | None

    @property
    def regret(self) -> float | None:
        """How far the chosen one may be below the best, in the metric's own unit."""
        return None if self.chosen is None or self.chosen.regret is None else self.chosen.regret.bound


@dataclass(frozen=True)
class Question:
    """What is decided: the task, model and shots of a group, its metric, and the loss that is accepted."""

    task: str
    model: str | None
    shots: int
    metric: str
    within: float = WITHIN
    level: float = statistics.LEVEL
    """The chance that any bound is wrong; a look of several has a share of it."""


def decide(
    question: Question,
    contenders: Sequence[Contender],
    answers: Mapping[str, VariantAnswers],
    weights: Mapping[str, float] = IN_DOMAIN_ALONE,
    beyond_budget: Collection[str] = (),
) -> Decision:
    """Decide by the rule in this module's text; methods beyond the budget are neither compared nor chosen."""
    compared = {name: found for name, found in answers.items() if name not in beyond_budget}
    scored = score_draws(compared, question.metric, weights)
    regrets = bound_scored(scored, question.metric, question.level)
    held = tuple(
        sorted(
            (replace(each, regret=regrets.get(each.name)) for each in contenders),
            key=lambda c: (c.regret is None, -(c.score or 0.0), c.name),
        )
    )
    able = [c for c in held if c.excluded is None and c.regret is not None]
    good = [c for c in able if c.regret and c.regret.bound is not None and c.regret.bound <= question.within]
    chosen = min(good, key=lambda c: (c.seconds is None, c.seconds or 0.0, -(c.score or 0.0)), default=None)
    best = next((c.name for c in held if c.regret is not None), None)
    missing = None if chosen is not None else _find_missing(question, able, scored)
    return Decision(
        question.task, question.model, question.shots, question.metric, question.within, chosen, best, held, missing
    )


def _find_missing(question: Question, able: Sequence[Contender], scored: Mapping[str, Scored]) -> Missing:
    bounds = {c.name: c.regret.bound for c in able if c.regret is not None and c.regret.bound is not None}
    closest = min(bounds, key=bounds.__getitem__, default=None)
    names = tuple(c.name for c in able)
    have = min((len(scored[name]) for name in names), default=0)
    if closest is None:
        return _price(1 if have == 1 else 2 - have, able, closest) if names else Missing(None, (), None, None, None)
    level = question.level / max(1, len(scored) - 1)
    pairs = {name: {o: subtract(scored[o], scored[name]) for o in scored if o != name} for name in bounds}
    for draws in range(have + 1, have + statistics.MOST_FURTHER_DRAWS + 1):
        if any(_project(each.values(), level, draws) <= question.within for each in pairs.values()):
            return _price(draws - have, [c for c in able if _is_open(c.name, pairs, level)], closest)
    return Missing(None, names, None, None, closest)


def _project(pairs: Iterable[PairDifference], level: float, draws: int) -> float:
    """The bound that these pairs would give on so many draws, if they go on as they are."""
    every = list(pairs)
    return max(
        (
            float(np.mean(pair.by_draw)) + reach_above(pair, borrow(every, len(pair.by_draw)), level, draws)
            for pair in every
        ),
        default=0.0,
    )


def _is_open(name: str, pairs: Mapping[str, Mapping[str, PairDifference]], level: float) -> bool:
    """Whether a method may still be the best: none is above it beyond doubt."""
    every = list(pairs.get(name, {}).values())
    return not any(
        float(np.mean(pair.by_draw)) - reach_above(pair, borrow(every, len(pair.by_draw)), level) > 0 for pair in every
    )


def _price(draws: int, methods: Sequence[Contender], closest: str | None) -> Missing:
    seconds = [c.seconds_a_draw for c in methods]
    return Missing(
        draws=draws,
        methods=tuple(c.name for c in methods),
        trials=draws * sum(c.trials_a_draw for c in methods),
        seconds=None if None in seconds else draws * sum(each for each in seconds if each is not None),
        closest=closest,
    )
