"""The decision: the method to use with its expected loss, or the best bet so far and what would settle it.

Owns the rule. Does not know how an expected loss or a bound is made (`inference`), which methods a study offers and
what they cost (`recommend`) or how a decision is worded (`report`).

The rule, for one task and number of shots, over every method and model that was tried:
1. Compared are all methods that were scored on two draws or more and keep within the budget. Each has an expected loss,
   a risk (the chance that it loses more than is accepted) and a regret bound (at most so many points below the best of
   them, all bounds at once at 95 %).
2. May be chosen: those of them that failed in no trial.
3. The choice is the cheapest of these that is expected to lose a sixth of the tolerance at most, with a risk of 5 % at
   most; of equally cheap ones the better. Where a bound is asked for as a guarantee, it is the cheapest whose bound is
   within the tolerance.
4. Where there is none, the answer is the best bet, the method of the least expected loss, with the further draws,
   trials and seconds that are expected to settle it; or how many times as many rows, where draws alone would not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fewtune.analysis.answers import answer_commonest, keep_fullest
from fewtune.analysis.leaderboard import IN_DOMAIN
from fewtune.guarantee import Guarantee
from fewtune.inference.allocation import Allocation, allocate_draws
from fewtune.inference.answers import MethodAnswers
from fewtune.inference.better import LEVEL, MOST_FURTHER_DRAWS
from fewtune.inference.differences import FEWEST_DRAWS, Rivals, pair_methods, subtract
from fewtune.inference.expected_loss import ExpectedLoss, expect_loss
from fewtune.inference.regret import (
    RegretBound,
    UpperLimits,
    bound_regrets,
    combine_looks,
    limit_leads,
    share_level,
)
from fewtune.inference.scores import MethodScores, score_methods
from fewtune.metrics.counts import find_span

WITHIN = 0.03
"""How far below the best a choice may be, where nothing is asked: 3 points."""
SHARE_LOST = 1 / 6
"""Of the tolerance, what a choice may be expected to lose: half a point of three."""
MOST_RISK = 0.05
"""The chance that a choice may have of losing more than the tolerance."""
IN_DOMAIN_ALONE = {IN_DOMAIN: 1.0}
MOST_DRAWS = 20
"""More rows are foreseen with so many draws of them at most."""
MORE_ROWS = (2, 3, 5, 8, 12, 20, 30, 50)
"""So many times as many rows are looked at: beyond them it is no advice."""


@dataclass(frozen=True)
class Contender:
    """One method on one model: its mean score, what it costs, what choosing it may lose; None: not known.

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
    draws: int = 0
    refitted: int = 0
    """Fits that had collapsed and were made again, over all trials."""
    fit_seconds: float | None = None
    seconds_a_row: float | None = None
    memory_bytes: int | None = None
    memory_is_held: bool = False
    """Whether it is what the process held, and not only what was allocated, which is less."""
    collapses: bool = False
    """Collapsed in some trials and not in others: what is expected and bounded holds less often than it says."""
    regret: RegretBound | None = None
    """None where it was not compared."""
    loss: ExpectedLoss | None = None
    """None where it was not compared, or draws do not show yet how it varies."""
    unlabelled: bool = False
    """It learnt from rows without labels besides."""


@dataclass(frozen=True)
class MoreRows:
    """So many times as many labelled rows to draw from and to test on, at the same shots, and so many draws of them."""

    times: int
    draws: int


@dataclass(frozen=True)
class Further:
    """What would settle a decision: further draws by method (none: none within reach), trials and seconds they take.

    `loss` is what the best bet would be expected to lose then, None where a bound is asked for.
    """

    draws: Mapping[str, int]
    trials: int = 0
    seconds: float | None = None
    loss: float | None = None
    rows: MoreRows | None = None
    """What would do where no number of draws does; None where that is out of reach too."""


@dataclass(frozen=True)
class Lead:
    """How far a method's mean is above always answering the majority class, and by how much at the least."""

    point: float
    least: float


@dataclass(frozen=True)
class Question:
    """What is decided: a task and number of shots, the metric, the loss that is accepted, and what has to be met."""

    task: str
    shots: int
    metric: str
    within: float = WITHIN
    level: float = LEVEL
    """The chance that any bound of this look is wrong; of several looks each has a share of the whole."""
    look: int = 1
    """Which look at these methods it is, from 1."""
    next_level: float | None = None
    """The level of the look that would follow; None: this one's."""
    guarantee: Guarantee = "expected_loss"

    @property
    def most_lost(self) -> float:
        """What a choice may be expected to lose."""
        return SHARE_LOST * self.within

    @property
    def span(self) -> float:
        """How far apart two values of the metric can be."""
        return find_span(self.metric)


@dataclass(frozen=True)
class LookTaken:
    """A look at the methods: at the draws of these data seeds, at a level of its own."""

    seeds: frozenset[int]
    level: float


@dataclass(frozen=True)
class Decision:
    """The answer to a question: `choice`, which is `settled` or the best bet; None where no method can be chosen.

    `best` is the compared method of the highest mean score; `draws` are those of the method that has most; `limited`:
    methods beyond the budget were not compared, of which one may be better. `further` says what would settle it, and
    `row_weight` what one test row of all adds to a difference: no draws of them tell a smaller one.
    """

    question: Question
    choice: Contender | None
    settled: bool
    best: str | None
    draws: int
    contenders: tuple[Contender, ...]
    further: Further | None = None
    lead: Lead | None = None
    limited: bool = False
    row_weight: float = 0.0
    without_unlabelled: Contender | None = None
    """The best bet of those that learnt from labelled rows alone, where the choice did not and others did."""
    rivals: Rivals = field(default_factory=dict, repr=False)
    """All others less the choice."""

    @property
    def regret(self) -> float | None:
        """How far the choice may be below the best, in the metric's own unit."""
        return None if self.choice is None or self.choice.regret is None else self.choice.regret.bound

    @property
    def compared(self) -> tuple[Contender, ...]:
        """The methods that were compared, the highest mean first."""
        return tuple(each for each in self.contenders if each.regret is not None)


def decide(
    question: Question,
    contenders: Sequence[Contender],
    answers: Mapping[str, MethodAnswers],
    weights: Mapping[str, float] = IN_DOMAIN_ALONE,
    beyond_budget: Collection[str] = (),
    looks: Sequence[LookTaken] = (),
) -> Decision:
    """Decide by the rule in this module's text; methods beyond the budget are neither compared nor chosen.

    Bounds are made of the `looks`, which share the error; where there are none, of all draws at the question's level.
    """
    within_budget = {name: draws for name, draws in answers.items() if name not in beyond_budget}
    scored = score_methods(_keep_compared(within_budget), question.metric, weights)
    return decide_scored(
        question,
        contenders,
        scored,
        looks,
        limited=len(within_budget) < len(answers),
        lead_of=lambda name: _lead_majority(question, answers[name], len(scored), weights),
    )


def decide_scored(
    question: Question,
    contenders: Sequence[Contender],
    scored: Mapping[str, MethodScores],
    looks: Sequence[LookTaken] = (),
    *,
    limited: bool = False,
    lead_of: Callable[[str], Lead | None] = lambda name: None,
) -> Decision:
    """Decide among methods whose scores are known by draw."""
    rivals = pair_methods(scored)
    seen = [(_keep_draws(scored, look.seeds), look.level) for look in looks]
    limits = combine_looks([(pair_methods(kept), level) for kept, level in seen] or [(rivals, question.level)])
    may_be_chosen = [each.name for each in contenders if each.excluded is None]
    # Beside a rival of which no two draws are shared nothing is known of what a choice may lose.
    known = {n: r for n, r in rivals.items() if len(r) == len(rivals) - 1 and all(e.is_known for e in r.values())}
    unknown = {name: RegretBound(None, 0) for name in rivals}  # of methods that no look was at
    looked_at = {name: each for name, each in known.items() if name in limits.highest}
    regrets = unknown | bound_regrets(looked_at, limits, question.span, may_be_chosen)
    losses = {name: expect_loss(each, question.within, question.span) for name, each in known.items()}
    weighed = (replace(each, regret=regrets.get(each.name), loss=losses.get(each.name)) for each in contenders)
    held = tuple(sorted(weighed, key=lambda c: (c.regret is None, -(c.score or 0.0), c.name)))
    able = [each for each in held if each.excluded is None and each.regret is not None]
    good = [each for each in able if _is_good(question, each)]
    choice = min(good, key=_rank_by_cost, default=None) or min(able, key=_rank_by_loss, default=None)
    weights_by_row = [each.row_weight for pairs in rivals.values() for each in pairs.values()]
    return Decision(
        question=question,
        choice=choice,
        settled=bool(good),
        best=_find_best(held, scored, limits.inferior),
        draws=max((len(draws) for draws in scored.values()), default=0),
        contenders=held,
        further=None if good or choice is None else _foresee(question, choice, held, rivals, limits),
        lead=None if choice is None else lead_of(choice.name),
        limited=limited,
        row_weight=max(weights_by_row, default=0.0),
        without_unlabelled=_find_without_unlabelled(choice, able),
        rivals={} if choice is None else rivals[choice.name],
    )


def is_near_enough(question: Question, contender: Contender) -> bool:
    """Whether a method meets what is asked of a choice, wherever it may be chosen."""
    return contender.excluded is None and _is_good(question, contender)


def _is_good(question: Question, contender: Contender) -> bool:
    if question.guarantee == "bound":
        bound = contender.regret.bound if contender.regret is not None else None
        return bound is not None and bound <= question.within
    loss = contender.loss
    return loss is not None and loss.expected <= question.most_lost and loss.risk <= MOST_RISK


def _rank_by_cost(each: Contender) -> tuple[bool, float, float]:
    return each.seconds is None, each.seconds or 0.0, -(each.score or 0.0)


def _rank_by_loss(each: Contender) -> tuple[bool, float, float]:
    """The least expected loss first; where draws do not show it yet, the highest mean."""
    return each.loss is None, 0.0 if each.loss is None else each.loss.expected, -(each.score or 0.0)


def _find_best(held: Sequence[Contender], scored: Mapping[str, MethodScores], inferior: Collection[str]) -> str | None:
    """The highest mean of the methods that have all draws and are not below another beyond doubt; else of all."""
    compared = [each.name for each in held if each.regret is not None]
    whole = [name for name in keep_fullest(compared, scored) if name not in inferior]
    return next(iter(whole or compared), None)


def _find_without_unlabelled(choice: Contender | None, able: Sequence[Contender]) -> Contender | None:
    if choice is None or not choice.unlabelled:
        return None
    return min((each for each in able if not each.unlabelled), key=_rank_by_loss, default=None)


def _keep_compared(answers: Mapping[str, MethodAnswers]) -> dict[str, MethodAnswers]:
    """Those that share draws enough with the method that has most of them to be compared; all where none does."""
    fullest = max(answers.values(), key=len, default={})
    kept = {name: draws for name, draws in answers.items() if len(draws.keys() & fullest.keys()) >= FEWEST_DRAWS}
    return kept or dict(answers)


def _keep_draws(scored: Mapping[str, MethodScores], seeds: Collection[int]) -> dict[str, MethodScores]:
    """The methods' scores on draws of these data seeds alone; methods without any are left out."""
    kept = {name: {key: each for key, each in draws.items() if key[0] in seeds} for name, draws in scored.items()}
    return {name: draws for name, draws in kept.items() if draws}


def _lead_majority(
    question: Question, answers: MethodAnswers, methods: int, weights: Mapping[str, float]
) -> Lead | None:
    scored = score_methods({"choice": answers, "majority": answer_commonest(answers)}, question.metric, weights)
    lead = subtract(scored["choice"], scored["majority"])
    return Lead(lead.mean, lead.mean - lead.reach(question.level / methods)) if lead.is_known else None


def _foresee(
    question: Question,
    choice: Contender,
    held: Sequence[Contender],
    rivals: Mapping[str, Rivals],
    limits: UpperLimits,
) -> Further:
    """What would settle a decision, if draws and rows go on as these."""
    draws = _count_draws(held, rivals)
    able = [each.name for each in held if each.excluded is None and each.regret is not None]
    if all(count < FEWEST_DRAWS for count in draws.values()):
        return _price({name: FEWEST_DRAWS - count for name, count in draws.items()}, held)
    if question.guarantee == "bound":
        return _foresee_bound(question, able, held, rivals, limits)
    others, most = rivals[choice.name], {name: count + MOST_FURTHER_DRAWS for name, count in draws.items()}

    def reaches(loss: ExpectedLoss) -> bool:
        return loss.expected <= question.most_lost and loss.risk <= MOST_RISK

    def allocate(count: int) -> Allocation:
        return allocate_draws(choice.name, others, most, count, question.within, question.span)

    # More draws leave less to lose where means stay: the least number that suffices is found by halves.
    count = 1 + bisect_left(range(1, MOST_FURTHER_DRAWS + 1), True, key=lambda count: reaches(allocate(count).loss))
    if count <= MOST_FURTHER_DRAWS:
        found = allocate(count)
        return _price(found.draws, held, found.loss.expected)

    def suffices(each: int, rows: int) -> bool:
        then = {name: pair.foresee(each, each, rows) for name, pair in others.items()}
        return reaches(expect_loss(then, question.within, question.span))

    return Further({}, rows=_find_rows(suffices))


def _foresee_bound(
    question: Question,
    able: Sequence[str],
    held: Sequence[Contender],
    rivals: Mapping[str, Rivals],
    limits: UpperLimits,
) -> Further:
    """What would bring a bound within the tolerance; what is known of a method's rivals holds then too."""
    have = _count_draws(held, rivals)
    level = share_level(question.next_level or question.level, len(rivals))
    open_rivals = {name: limits.find_rivals(name) for name in able}

    def suffices(name: str, draws: int, rows: int = 1) -> bool:
        then = limit_leads({other: each.foresee(draws, draws, rows) for other, each in rivals[name].items()}, level)
        return max((min(high, then[o]) for o, high in open_rivals[name].items()), default=0.0) <= question.within

    least = min((have[name] for name in able), default=0)
    tried = range(least + 1, least + MOST_FURTHER_DRAWS + 1)
    place = bisect_left(tried, True, key=lambda draws: any(suffices(name, draws) for name in able))
    if place < len(tried):
        until = tried[place]
        wanted = [name for name in have if name not in limits.inferior or (name in able and suffices(name, until))]
        return _price({name: until - have[name] for name in wanted if have[name] < until}, held)
    return Further({}, rows=_find_rows(lambda draws, rows: any(suffices(name, draws, rows) for name in able)))


def _find_rows(suffices: Callable[[int, int], bool]) -> MoreRows | None:
    """The fewest times as many rows, and draws of them, that suffice; None where none that is tried does."""
    tried = range(FEWEST_DRAWS, MOST_DRAWS + 1)
    for rows in MORE_ROWS:
        place = bisect_left(tried, True, key=lambda draws, rows=rows: suffices(draws, rows))  # type: ignore[misc]
        if place < len(tried):
            return MoreRows(rows, tried[place])
    return None


def _count_draws(held: Iterable[Contender], rivals: Mapping[str, Rivals]) -> dict[str, int]:
    """The draws of each compared method."""
    names = [each.name for each in held if each.regret is not None]
    return {name: next((each.counts[1] for each in rivals[name].values()), 0) for name in names}


def _price(draws: Mapping[str, int], held: Iterable[Contender], loss: float | None = None) -> Further:
    """What so many further draws of methods take."""
    drawn = [each for each in held if each.name in draws]
    seconds = [None if each.seconds_a_draw is None else draws[each.name] * each.seconds_a_draw for each in drawn]
    return Further(
        draws=dict(draws),
        trials=sum(draws[each.name] * each.trials_a_draw for each in drawn),
        seconds=None if None in seconds else sum(each for each in seconds if each is not None),
        loss=loss,
    )
