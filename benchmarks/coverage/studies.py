"""Made-up studies of nine methods, decided at once or look by look: how often bounds are wrong, and what choices lose.

Owns how their methods vary and how a study goes on. `__main__` says what is measured of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.coverage.pairs import COLLAPSE, LOSS, ONES, RIGHT, ROWS, SPAN, judge_group, tell_better
from fewtune.analysis.decision import IN_DOMAIN_ALONE, WITHIN, Contender, Decision, LookTaken, Question, decide_scored
from fewtune.analysis.leaderboard import IN_DOMAIN
from fewtune.analysis.looks import LEAST_LEVEL, LOOKS, choose_level, foresee_level, plan_looks
from fewtune.inference.answers import DrawAnswers, MethodAnswers
from fewtune.inference.better import LeaderDifferences, judge_leaders
from fewtune.inference.differences import pair_methods
from fewtune.inference.scores import MethodScores, score_methods
from fewtune.records import Look, LookHistory

MOST_DRAWS = 40
"""After which a user gives up adding some by hand."""
METHODS, STUDIES, LOOKED_AT = 9, 300, 200
"""Of each study that is decided, and how many of each kind."""


@dataclass(frozen=True)
class Kind:
    """How the methods of a study vary over draws: their deviations (least, most), collapses, rows that draws share.

    `steady` is the share of rows on which a method answers as in every other draw; None: each draw has its own rows.
    """

    name: str
    deviations: tuple[float, float] = (0.03, 0.03)
    collapses: bool = False
    steady: float | None = None


KINDS = (
    Kind("3 points"),
    Kind("1 to 8 points", (0.01, 0.08)),
    Kind("3 points, one in seven collapses", collapses=True),
    *(Kind(f"3 points, rows shared, {100 * share:g} % alike", steady=share) for share in (0.5, 0.75, 0.9, 0.97)),
    Kind("8 to 1 points, the best most", (0.08, 0.01)),
)


def measure_decisions(kind: Kind, draws: int, studies: int, seed: int = 0) -> dict[str, float]:
    """Shares of studies with any wrong bound, and with any false "better"; of those decided, and what choices lose."""
    rng = np.random.default_rng(seed)
    wrong, better, lost = [], [], []
    for _ in range(studies):
        lower = [0.0, *[WITHIN] * (METHODS - 1)]
        found = decide_made_up(make_study(kind, draws, lower, rng))
        bounds = {c.name: 1.0 if c.regret is None or c.regret.bound is None else c.regret.bound for c in found.compared}
        wrong.append(any(bounds[str(m)] < below for m, below in enumerate(lower)))
        if found.settled and found.choice is not None:
            lost.append(lower[int(found.choice.name)])
        better.append(any(judge_group(make_study(kind, draws, [0.0] * METHODS, rng))[1].values()))
    return {
        "wrong": float(np.mean(wrong)),
        "better": float(np.mean(better)),
        "decided": len(lost) / studies,
        "lost": float(np.mean(lost)) if lost else 0.0,
    }


def make_study(kind: Kind, draws: int, lower: Sequence[float], rng: np.random.Generator) -> list[MethodAnswers]:
    """Methods that are right on a share of RIGHT less what each is lower by, in the mean over all draws."""
    deviations = np.geomspace(*kind.deviations, len(lower))
    found: list[MethodAnswers] = []
    for place, (below, deviation) in enumerate(zip(lower, deviations, strict=True)):
        shares = RIGHT - below + rng.normal(0.0, deviation / np.sqrt(2), draws)
        if kind.collapses and place % 2:
            shares -= LOSS * ((rng.random(draws) < COLLAPSE) - COLLAPSE)
        # A row is answered right where its own number is below the share: the same number in every draw, or a new one.
        always = rng.random(ROWS)
        method: dict[tuple[int, str], dict[str, DrawAnswers]] = {}
        for draw, share in enumerate(np.clip(shares, 0, 1)):
            alike = rng.random(ROWS) < (kind.steady or 0.0)
            right = np.where(alike, always < RIGHT - below, rng.random(ROWS) < share)
            codes = np.arange(ROWS, dtype=np.int32) + (0 if kind.steady is not None else ROWS * draw)
            method[draw, ""] = {IN_DOMAIN: DrawAnswers(ONES, right.astype(np.uint8)[None], 2, codes)}
        found.append(method)
    return found


def decide_made_up(answers: Sequence[MethodAnswers]) -> Decision:
    """The decision by bounds among methods that cost the more the better they are."""
    scored = score_made_up(answers)
    contenders = [Contender(name, 0.0, float(-int(name)), 1.0, 1) for name in scored]
    return decide_scored(Question("made-up", 16, "accuracy", WITHIN, guarantee="bound"), contenders, scored)


def score_made_up(answers: Sequence[MethodAnswers]) -> dict[str, MethodScores]:
    """Their scores, by the method's number."""
    return score_methods({str(m): each for m, each in enumerate(answers)}, "accuracy", IN_DOMAIN_ALONE)


@dataclass(frozen=True)
class Course:
    """How a study went that was looked at more than once."""

    wrong: bool
    better: bool
    decided: bool
    lost: float
    trials: int


def race(answers: Sequence[MethodAnswers], lower: Sequence[float]) -> Course:
    """A race by bounds: planned looks, methods that are not the best stop, the end where one is near enough."""
    have, scored = dict.fromkeys(range(len(answers)), 0), score_made_up(answers)
    history, running, marks = LookHistory(plan=plan_looks(LOOKS[-1])), set(have), []
    for draws in history.plan:
        have |= dict.fromkeys(running, draws)
        found, history = look(scored, have, history)
        marks.append((is_wrong(found.decision, lower), found.better))
        if found.decision.settled:
            break
        running -= {int(c.name) for c in found.decision.compared if c.regret is not None and c.regret.above is not None}
    return end_course(found.decision, marks, lower, sum(have.values()))


def follow(answers: Sequence[MethodAnswers], lower: Sequence[float]) -> Course:
    """A user who adds the draws that are said to be missing, to all methods, until there is a decision or no draw."""
    draws, marks, history, scored = LOOKS[0], [], LookHistory(plan=LOOKS[:1]), score_made_up(answers)
    while True:
        found, history = look(scored, dict.fromkeys(range(len(answers)), draws), history)
        marks.append((is_wrong(found.decision, lower), found.better))
        further = found.decision.further
        if further is None or draws == MOST_DRAWS:
            return end_course(found.decision, marks, lower, draws * len(answers))
        draws = min(MOST_DRAWS, draws + max(further.draws.values(), default=MOST_DRAWS))


@dataclass(frozen=True)
class Seen:
    """What one look showed: the decision, and whether the leader was called better than any other."""

    decision: Decision
    better: bool


def look(scored: Mapping[str, MethodScores], have: Mapping[int, int], history: LookHistory) -> tuple[Seen, LookHistory]:
    """Look at methods on as many draws as each has, at the level that is left for it."""
    now = Look(task="made-up", shots=16, draws=max(have.values()), methods=len(scored), level=LEAST_LEVEL)
    now = now.model_copy(update={"level": choose_level(history, now)})
    seen = {str(m): {key: scored[str(m)][key] for key in list(scored[str(m)])[:count]} for m, count in have.items()}
    contenders = [
        Contender(name, 0.0, float(-int(name)), 1.0, 1, None if len(draws) == now.draws else "stopped")
        for name, draws in seen.items()
    ]
    after = history.model_copy(update={"looks": (*history.looks, now)})
    taken = [LookTaken(frozenset(range(each.draws)), each.level) for each in after.looks]
    following = foresee_level(after, now.task, now.shots)
    question = Question("made-up", 16, "accuracy", WITHIN, now.level, len(after.looks), following, "bound")
    decision = decide_scored(question, contenders, seen, taken)
    full = [name for name, draws in seen.items() if len(draws) == now.draws]
    leader = max(full, key=lambda name: float(np.mean([draw.score for draw in seen[name].values()])))
    others = {name: each.negate() for name, each in pair_methods(seen)[leader].items()}
    [judged] = judge_leaders([LeaderDifferences(others, SPAN, now.level)])
    return Seen(decision, any(tell_better(judged).values())), after


def is_wrong(found: Decision, lower: Sequence[float]) -> bool:
    """Whether any method's bound is less than what it is below the best."""
    bounds = {c.name: 1.0 if c.regret is None or c.regret.bound is None else c.regret.bound for c in found.compared}
    return any(bounds[str(m)] < below for m, below in enumerate(lower) if str(m) in bounds)


def end_course(found: Decision, marks: Sequence[tuple[bool, bool]], lower: Sequence[float], trials: int) -> Course:
    wrong, better = (any(each) for each in zip(*marks, strict=True))
    lost = lower[int(found.choice.name)] if found.settled and found.choice is not None else 0.0
    return Course(wrong, better, found.settled, lost, trials)


def measure_looks(kind: Kind, how: str, studies: int, seed: int = 0) -> dict[str, float]:
    """Shares of studies with a wrong bound, or a false "better", at any look; trials to the end, and what is lost."""
    rng = np.random.default_rng(seed)
    take, draws = (race, LOOKS[-1]) if how == "race" else (follow, MOST_DRAWS)
    apart, equal = [0.0, *[WITHIN] * (METHODS - 1)], [0.0] * METHODS
    ones = [take(make_study(kind, draws, apart, rng), apart) for _ in range(studies)]
    others = [take(make_study(kind, draws, equal, rng), equal) for _ in range(studies)]
    return {
        "wrong": float(np.mean([each.wrong for each in ones])),
        "better": float(np.mean([each.better for each in others])),
        "decided": float(np.mean([each.decided for each in ones])),
        "lost": float(np.mean([each.lost for each in ones if each.decided] or [0.0])),
        "trials": float(np.mean([each.trials for each in ones])),
        "trials_equal": float(np.mean([each.trials for each in others])),
    }
