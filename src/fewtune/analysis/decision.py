"""The decision: use X, within R points of the best; or what is still missing.

Owns the rule. Does not know how a bound is made (`regret`), which methods a study offers and what they cost
(`recommend`) or how a decision is worded (`report`).

The rule, for one task and number of shots, over every method and model that was tried:
1. Compared are all methods that were scored on two draws or more and keep within the budget. Each has a regret bound:
   at most so many points below the best of them, all bounds at once at 95 %.
2. May be chosen: those of them that were scored on every draw and failed in none.
3. The decision is the cheapest of these whose bound is within the tolerance; of equally cheap ones the better.
4. Where no bound is, the decision says how many further draws of which methods would bring one there, if they go on as
   these, with the trials and seconds that takes; or how many times as many rows, where draws alone would not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fewtune.analysis import statistics
from fewtune.analysis.answers import VariantAnswers, answer_commonest, keep_fullest
from fewtune.analysis.comparison import IN_DOMAIN_ALONE
from fewtune.analysis.regret import (
    FEWEST_DRAWS,
    RegretBound,
    Rivals,
    Scored,
    UpperLimits,
    bound_rivals,
    combine_looks,
    pair_methods,
    reach_above,
    score_draws,
    share_level,
    subtract,
)

WITHIN = 0.03
"""How far below the best a choice may be, where nothing is asked: 3 points."""
MOST_DRAWS = 20
"""More rows are foreseen with so many draws of them at most."""
MORE_ROWS = (2, 3, 5, 8, 12, 20, 30, 50)
"""So many times as many rows are looked at: beyond them it is no advice."""


@dataclass(frozen=True)
class Contender:
    """One method on one model: its mean score, what it costs, its bound; whatever is not known is None.

    `excluded` says why it cannot be chosen, None where it can.
    """

    name: str
    score: float | None
    seconds: float | None
    """To fit, and to answer the queries that it is priced with."""
    seconds_a_draw: float | None
    """What one further draw of it takes, all its fit seeds."""
    trials_a_draw: int
    excluded: str | None = None
    fit_seconds: float | None = None
    seconds_a_row: float | None = None
    memory_bytes: int | None = None
    memory_is_held: bool = False
    """Whether it is what the process held, and not only what was allocated, which is less."""
    collapses: bool = False
    """Collapsed in some trials and not in others: its bounds, and others', hold less often than they say."""
    regret: RegretBound | None = None
    """None where it was not compared."""
    unlabelled: bool = False
    """It learnt from rows without labels besides."""


@dataclass(frozen=True)
class MoreRows:
    """So many times as many labelled rows to draw from and to test on, at the same shots, and so many draws of them."""

    times: int
    draws: int


@dataclass(frozen=True)
class Missing:
    """What would bring a bound within the tolerance: further draws (None: none within reach) of these methods.

    Where they have unlike numbers of draws, so many of the one that has fewest (`each`). Among them are methods
    that cannot be chosen, where what is not known of them keeps a bound wide.
    """

    draws: int | None
    methods: tuple[str, ...]
    trials: int | None
    seconds: float | None
    closest: str | None
    """The method whose bound is lowest now."""
    rows: MoreRows | None = None
    """What would do where no number of draws does; None where that is out of reach too."""
    each: int | None = None
    """Draws that each of the methods has then, where they have unlike numbers now."""


@dataclass(frozen=True)
class Lead:
    """How far a method's mean is above always answering the commonest label, and by how much at the least."""

    point: float
    least: float


@dataclass(frozen=True)
class Question:
    """What is decided: a task and number of shots, the metric, and the loss that is accepted."""

    task: str
    shots: int
    metric: str
    within: float = WITHIN
    level: float = statistics.LEVEL
    """The chance that any bound of this look is wrong; of several looks each has a share of the whole."""
    look: int = 1
    """Which look at these methods it is, from 1."""
    next_level: float | None = None
    """The level of the look that would follow; None: this one's."""


@dataclass(frozen=True)
class EarlierLook:
    """A look that was taken before: at the draws of these data seeds, at a level of its own."""

    seeds: frozenset[int]
    level: float


@dataclass(frozen=True)
class Decision:
    """The answer to a question; `chosen` is None where something is missing, which `missing` then says.

    `best` is the compared method of the highest mean score; `draws` are those of the method that has most; `limited`:
    methods beyond the budget were not compared, of which one may be better.
    `lead` is the chosen one's over always answering the commonest label, one-sided at the level over the methods.
    """

    question: Question
    chosen: Contender | None
    best: str | None
    draws: int
    contenders: tuple[Contender, ...]
    missing: Missing | None
    lead: Lead | None = None
    limited: bool = False

    @property
    def regret(self) -> float | None:
        """How far the chosen one may be below the best, in the metric's own unit."""
        return None if self.chosen is None or self.chosen.regret is None else self.chosen.regret.bound

    @property
    def compared(self) -> tuple[Contender, ...]:
        """The methods that were compared, the highest mean first."""
        return tuple(each for each in self.contenders if each.regret is not None)


def decide(
    question: Question,
    contenders: Sequence[Contender],
    answers: Mapping[str, VariantAnswers],
    weights: Mapping[str, float] = IN_DOMAIN_ALONE,
    beyond_budget: Collection[str] = (),
    earlier: Sequence[EarlierLook] = (),
) -> Decision:
    """Decide by the rule in this module's text; methods beyond the budget are neither compared nor chosen.

    What `earlier` looks, which share the error with this one, said of two methods still holds.
    """
    within_budget = {name: draws for name, draws in answers.items() if name not in beyond_budget}
    scored = score_draws(_keep_bounded(within_budget), question.metric, weights)
    rivals = pair_methods(scored)
    looks = [(pair_methods(_keep_draws(scored, look.seeds)), look.level) for look in earlier]
    limits = combine_looks([*looks, (rivals, question.level)])
    may_be_chosen = [each.name for each in contenders if each.excluded is None]
    regrets = bound_rivals(rivals, limits, question.metric, may_be_chosen)
    held = tuple(
        sorted(
            (replace(each, regret=regrets.get(each.name)) for each in contenders),
            key=lambda c: (c.regret is None, -(c.score or 0.0), c.name),
        )
    )
    able = [c for c in held if c.excluded is None and c.regret is not None]
    good = [c for c in able if c.regret and c.regret.bound is not None and c.regret.bound <= question.within]
    chosen = min(good, key=lambda c: (c.seconds is None, c.seconds or 0.0, -(c.score or 0.0)), default=None)
    return Decision(
        question=question,
        chosen=chosen,
        best=_find_best(held, within_budget, limits.inferior),
        draws=max((len(draws) for draws in within_budget.values()), default=0),
        contenders=held,
        missing=None if chosen is not None else _find_missing(question, held, rivals, limits),
        lead=None if chosen is None else _lead_commonest(question, rivals, answers[chosen.name], chosen.name, weights),
        limited=len(within_budget) < len(answers),
    )


def _find_best(
    held: Sequence[Contender], answers: Mapping[str, VariantAnswers], inferior: Collection[str]
) -> str | None:
    """The highest mean of the methods that have all draws and are not below another beyond doubt; else of all."""
    compared = [each.name for each in held if each.regret is not None]
    whole = [name for name in keep_fullest(compared, answers) if name not in inferior]
    return next(iter(whole or compared), None)


def _keep_bounded(answers: Mapping[str, VariantAnswers]) -> dict[str, VariantAnswers]:
    """Those that share draws enough with the method that has most of them to be bounded; all where none does."""
    fullest = max(answers.values(), key=len, default={})
    kept = {name: draws for name, draws in answers.items() if len(draws.keys() & fullest.keys()) >= FEWEST_DRAWS}
    return kept or dict(answers)


def _keep_draws(scored: Mapping[str, Scored], seeds: Collection[int]) -> dict[str, Scored]:
    """The methods' scores on draws of these data seeds alone; methods without any are left out."""
    kept = {name: {key: each for key, each in draws.items() if key[0] in seeds} for name, draws in scored.items()}
    return {name: draws for name, draws in kept.items() if draws}


def _lead_commonest(
    question: Question,
    rivals: Mapping[str, Rivals],
    answers: VariantAnswers,
    name: str,
    weights: Mapping[str, float],
) -> Lead:
    scored = score_draws({"chosen": answers, "commonest": answer_commonest(answers)}, question.metric, weights)
    pair = subtract(scored["chosen"], scored["commonest"])
    point = float(np.mean(pair.by_draw))
    borrowed = rivals[name].borrowed.get(len(pair.by_draw), statistics.NOTHING_BORROWED)
    return Lead(point, point - reach_above(pair, borrowed, question.level / len(rivals)))


def _find_missing(
    question: Question, held: Sequence[Contender], rivals: Mapping[str, Rivals], limits: UpperLimits
) -> Missing:
    compared = [c for c in held if c.regret is not None]
    able = [c for c in compared if c.excluded is None]
    bounds = {c.name: c.regret.bound for c in able if c.regret is not None and c.regret.bound is not None}
    closest = min(bounds, key=bounds.__getitem__, default=None)
    names = tuple(c.name for c in able)
    have = min((rivals[name].draws for name in names), default=0)
    if not names:
        return Missing(None, (), None, None, None)
    if closest is None:
        return _price(max(have + 1, FEWEST_DRAWS), able, rivals, closest)
    level = share_level(question.next_level or question.level, len(rivals))
    rest = {name: limits.find_rivals(name) for name in bounds}

    def suffices(name: str, draws: int, rows: int = 1) -> bool:
        return name in bounds and _foresee(rivals[name], rest[name], level, draws, rows) <= question.within

    def find_draws(tried: range, rows: int = 1) -> int | None:
        # Where some draws suffice, more do.
        place = bisect_left(tried, True, key=lambda draws: any(suffices(name, draws, rows) for name in bounds))
        return tried[place] if place < len(tried) else None

    draws = find_draws(range(have + 1, have + statistics.MOST_FURTHER_DRAWS + 1))
    if draws is not None:
        wanted = [c for c in compared if c.name not in limits.inferior or suffices(c.name, draws)]
        return _price(draws, wanted, rivals, closest)
    for rows in MORE_ROWS:
        draws = find_draws(range(FEWEST_DRAWS, MOST_DRAWS + 1), rows)
        if draws is not None:
            return Missing(None, names, None, None, closest, rows=MoreRows(rows, draws))
    return Missing(None, names, None, None, closest)


def _foresee(rivals: Rivals, open_rivals: Mapping[str, float], level: float, draws: int, rows: float) -> float:
    """What a method's bound would be after so many draws like these; what is known of its rivals holds then too."""
    then = rivals.highest(level, draws, rows)
    return max((min(high, then[other]) for other, high in open_rivals.items()), default=0.0)


def _price(until: int, methods: Sequence[Contender], rivals: Mapping[str, Rivals], closest: str | None) -> Missing:
    """What it takes until each of the methods has so many draws."""
    further = {c.name: until - rivals[c.name].draws for c in methods if rivals[c.name].draws < until}
    drawn = [c for c in methods if c.name in further]
    seconds = [None if c.seconds_a_draw is None else further[c.name] * c.seconds_a_draw for c in drawn]
    return Missing(
        draws=max(further.values(), default=0),
        methods=tuple(further),
        trials=sum(further[c.name] * c.trials_a_draw for c in drawn),
        seconds=None if None in seconds else sum(each for each in seconds if each is not None),
        closest=closest,
        each=until if len(set(further.values())) > 1 else None,
    )
