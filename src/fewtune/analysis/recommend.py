"""Which methods a study can recommend: their costs, the ones within a budget, and the decision among them.

Owns what makes a method a contender. Does not know the rule that chooses (`decision`) or how it is shown (`report`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fewtune.analysis.answers import read_answers
from fewtune.analysis.decision import (
    IN_DOMAIN_ALONE,
    WITHIN,
    Contender,
    Decision,
    LookTaken,
    Question,
    decide,
)
from fewtune.analysis.frontier import price
from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardGroup, LeaderboardRow, name_metric, rank_variants
from fewtune.analysis.looks import find_earlier, find_levels, find_look, foresee_level, keep_looked_at
from fewtune.analysis.predictions import AnswerReader
from fewtune.guarantee import Guarantee
from fewtune.inference.differences import FEWEST_DRAWS
from fewtune.plurals import pluralise
from fewtune.records import LookHistory, Record

QUERIES = 1000
"""Queries that a method is priced with where nothing is told."""


@dataclass(frozen=True)
class CostBudget:
    """What a method may take; None: no limit. `out_of_domain_weight` is shared by the test sets out of domain."""

    max_fit_seconds: float | None = None
    max_memory_bytes: int | None = None
    """Of what the process holds, where records tell; of what was allocated where they do not."""
    max_latency_seconds: float | None = None
    """Seconds to answer one row, rows answered together."""
    out_of_domain_weight: float = 0.0
    queries: int = QUERIES


@dataclass(frozen=True)
class DecisionTerms:
    """Under which terms a decision is made: the tolerance, the budget, and the looks that share the error."""

    within: float = WITHIN
    budget: CostBudget = CostBudget()
    looks: LookHistory | None = None
    """How often the study was looked at; None: once."""
    seeds: tuple[int, ...] = ()
    """The study's data seeds, in the order in which looks take them."""
    guarantee: Guarantee = "expected_loss"


def recommend(
    groups: Iterable[LeaderboardGroup], records: Sequence[Record], reader: AnswerReader, terms: DecisionTerms
) -> list[Decision]:
    """Decide for every task and number of shots, over all methods and models; the order is that of the groups."""
    cells: dict[tuple[str, int], list[LeaderboardGroup]] = {}
    for group in groups:
        cells.setdefault((group.task, group.shots), []).append(group)
    return [decide_cell(members, records, reader, terms) for members in cells.values()]


def decide_cell(
    groups: Sequence[LeaderboardGroup], records: Iterable[Record], reader: AnswerReader, terms: DecisionTerms
) -> Decision:
    """Decide for the groups of one task and number of shots, one a model, on the draws of the last look at it."""
    task, shots = groups[0].task, groups[0].shots
    present = [record for record in records if (record.trial.task, record.trial.shots) == (task, shots)]
    by_bound = terms.guarantee == "bound"
    # A bound is of the draws of a look; an expected loss is as good whoever looks, and takes all draws.
    trials = keep_looked_at(present, terms.looks, terms.seeds) if by_bound else present
    if len(trials) < len(present):
        groups = rank_variants(trials, reader)
    several = len({group.model for group in groups}) > 1
    test_sets = list(dict.fromkeys(name for group in groups for name in group.test_sets))
    weights = weigh_test_sets(test_sets, terms.budget.out_of_domain_weight)
    answers = read_answers(trials, reader, list(weights), partial(_name_trial, several=several)) if weights else {}
    rows = {
        name_contender(row.variant, group.model if row.uses_model else None, several): row
        for group in groups
        for row in group.rows
    }
    contenders = []
    taken = terms.looks.of(task, shots) if terms.looks is not None else ()
    excesses = {name: _find_excess(row, terms.budget) for name, row in rows.items()}
    beyond = [name for name, over in excesses.items() if over is not None]
    wanted = max((len(found) for name, found in answers.items() if name not in beyond), default=0)
    last = find_look(terms.looks, present, terms.seeds)
    look = last or (taken[-1] if taken else None)
    # What was above a method may be beyond the budget, and was judged by the rows in domain alone.
    stopped = look.stopped if by_bound and look and not beyond and weights == IN_DOMAIN_ALONE else {}
    for name, row in rows.items():
        lacking = stopped.get(name) or _find_fault(row, len(answers.get(name, {})), wanted, by_bound, bool(weights))
        contenders.append(_contend(name, row, _score(row, weights), lacking or excesses[name], terms.budget))
    metric = name_metric(trials or present)
    level = find_levels(terms.looks, present, terms.seeds)[task, shots]
    further = foresee_level(terms.looks, task, shots) if terms.looks is not None else level
    number = taken.index(look) + 1 if look else 1
    question = Question(task, shots, metric, terms.within, level, number, further, terms.guarantee)
    counted = [*find_earlier(terms.looks, present, terms.seeds), *([last] if last else [])]
    looks = [LookTaken(frozenset(terms.seeds[: each.draws]), each.level) for each in counted if terms.seeds]
    return decide(question, contenders, answers, weights, beyond, looks)


def weigh_test_sets(test_sets: Sequence[str], out_of_domain_weight: float) -> dict[str, float]:
    """Each test set's weight, adding up to 1; those out of domain share theirs evenly, weights of 0 are left out.

    None at all where a weight out of domain has no test set to fall on.
    """
    outside = [name for name in test_sets if name != IN_DOMAIN]
    if out_of_domain_weight and not outside:
        return {}
    weights = {IN_DOMAIN: 1 - out_of_domain_weight, **{name: out_of_domain_weight / len(outside) for name in outside}}
    return {name: weight for name, weight in weights.items() if weight > 0}


def name_contender(variant: str, model: str | None, several: bool) -> str:
    """Name a method, and its model (None: it uses none) where several are compared."""
    return f"{variant} ({model})" if several and model is not None else variant


def _name_trial(record: Record, several: bool) -> str:
    return name_contender(record.trial.variant, record.trial.model, several)


def _score(row: LeaderboardRow, weights: Mapping[str, float]) -> float | None:
    """The weighted mean score; None where a test set that counts was not scored."""
    means = [row.scores[test_set].mean if test_set in row.scores else None for test_set in weights]
    known = [mean for mean in means if mean is not None]
    if not weights or len(known) < len(means):
        return None
    return sum(weight * mean for weight, mean in zip(weights.values(), known, strict=True))


def _contend(
    name: str, row: LeaderboardRow, score: float | None, excluded: str | None, budget: CostBudget
) -> Contender:
    trials_a_draw = round(row.done / row.draws) if row.draws else 1
    return Contender(
        name=name,
        score=score,
        seconds=price(row, budget.queries),
        seconds_a_draw=None if row.trial_seconds is None else trials_a_draw * row.trial_seconds,
        trials_a_draw=trials_a_draw,
        excluded=excluded,
        draws=row.draws,
        refitted=row.refitted,
        unlabelled=row.unlabelled,
        fit_seconds=row.fit_seconds,
        seconds_a_row=row.predict_seconds_per_row,
        memory_bytes=row.memory_bytes,
        memory_is_held=row.resident_memory_bytes is not None,
        collapses=row.collapses,
    )


def _find_fault(row: LeaderboardRow, have: int, draws: int, by_bound: bool, weighs: bool) -> str | None:
    """Say why a method cannot be chosen whatever it costs; None where it can.

    Bounds are of methods that have all draws; an expected loss allows for unlike numbers of them.
    """
    if not weighs:
        return "no test set out of domain to weigh"
    if row.failed:
        return f"failed in {row.failed} of {pluralise(row.done + row.failed, 'trial')}"
    if not have:
        return "skipped" if row.skipped else "not scored on all that counts"
    enough = draws if by_bound else min(draws, FEWEST_DRAWS)
    return f"scored on {have} of {pluralise(draws, 'draw')}" if have < enough else None


def _find_excess(row: LeaderboardRow, budget: CostBudget) -> str | None:
    """Say what of a method is beyond the budget; None where nothing is."""
    limits = (
        ("seconds to fit", row.fit_seconds, budget.max_fit_seconds),
        (_name_memory(row), _in_gibibytes(row.memory_bytes), _in_gibibytes(budget.max_memory_bytes)),
        ("seconds a row", row.predict_seconds_per_row, budget.max_latency_seconds),
    )
    for what, value, limit in limits:
        if limit is not None and (value is None or value > limit):
            return f"{what} unknown" if value is None else f"{value:.4g} {what}, over {limit:.4g}"
    return None


def _name_memory(row: LeaderboardRow) -> str:
    return "GiB of memory held" if row.resident_memory_bytes is not None else "GiB of memory allocated"


def _in_gibibytes(size: int | None) -> float | None:
    return None if size is None else size / 2**30
