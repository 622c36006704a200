"""Which method to use under a budget, what it costs to be wrong, and what would change the answer.

Owns the rule. Does not know how a difference is judged (`comparison`) or shown (`report`).

The rule, for each task and number of shots, over every method and model that was tried:
1. Eligible is what was scored on every draw and keeps within the budget.
2. The best eligible one has the highest mean score, in domain and out of domain weighed as told.
3. Not ruled out are the best and those that it is not "better" than. Chosen is the cheapest of them, fitting and so
   many queries together, that is credibly above always answering the commonest label; of all of them where none is.
4. The answer is "use" where the chosen one is the best or ties with it, and is credibly above the commonest label;
   otherwise it is "cannot tell", with the chosen one as what to take if there is no time for more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from fewtune.analysis import statistics
from fewtune.analysis.answers import VariantAnswers, answer_commonest, read_answers
from fewtune.analysis.comparison import (
    REGION,
    RESAMPLES,
    Comparison,
    compare,
    correct_leader,
    correct_selected,
    word_comparison,
    word_further_draws,
)
from fewtune.analysis.frontier import price
from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardGroup, LeaderboardRow, name_metric
from fewtune.analysis.predictions import AnswerReader
from fewtune.records import Record

QUERIES = 1000
"""Queries that a method is priced with where nothing is told."""
MOST_ADVICE = 3
"""Rivals whose further draws are advised, those that may score most first."""

Judge = Callable[[VariantAnswers, VariantAnswers], Comparison]


@dataclass(frozen=True)
class Budget:
    """What a method may take; None: no limit. `out_of_domain_weight` is shared by the test sets out of domain."""

    max_fit_seconds: float | None = None
    max_memory_bytes: int | None = None
    """Of what the process holds, where records tell; of what was allocated where they do not."""
    max_latency_seconds: float | None = None
    """Seconds to answer one row, rows answered together."""
    out_of_domain_weight: float = 0.0
    queries: int = QUERIES


@dataclass(frozen=True)
class Candidate:
    """One method on one model: its mean weighted score, and seconds for fitting and all queries; None: not known.

    `excluded` says why it cannot be chosen, None where it can; `best_against_it` is the best one's comparison with it.
    """

    name: str
    score: float | None
    seconds: float | None
    excluded: str | None
    best_against_it: Comparison | None = None


@dataclass(frozen=True)
class Recommendation:
    """The answer for one task and number of shots; `chosen` and `best` are None where nothing is eligible.

    `above_commonest`: the chosen one is credibly above always answering the commonest label; where it is not, none is.
    `at_risk` is how far another method that was not ruled out may score above the chosen one (the upper end of an
    interval), and `rival` that method. `reasons` and `further` are sentences; `further` says which trials to run.
    """

    task: str
    shots: int
    metric: str
    answer: Literal["use", "cannot tell"]
    chosen: str | None
    above_commonest: bool
    best: str | None
    candidates: tuple[Candidate, ...]
    rival: str | None
    at_risk: float | None
    reasons: tuple[str, ...]
    further: tuple[str, ...]

    @property
    def among(self) -> str:
        """Of which methods the best one is the best: ' of those eligible' where one with a mean is not."""
        return _word_among(self.candidates)

    @property
    def choice(self) -> str:
        """What the chosen one is: 'cheapest not ruled out', of those above the commonest label where any is."""
        return _word_choice(self.above_commonest)


@dataclass(frozen=True)
class _Cell:
    """All methods and models tried on one task and number of shots."""

    rows: Mapping[str, LeaderboardRow]
    answers: Mapping[str, VariantAnswers]
    weights: Mapping[str, float]
    draws: int
    """Of the method that has most."""
    judge: Judge
    region: float


@dataclass(frozen=True)
class _Rival:
    """Another method that was not ruled out: it and the chosen one compared, and how far above that it may score."""

    name: str
    comparison: Comparison
    risk: float


def recommend(
    groups: Sequence[LeaderboardGroup],
    records: Sequence[Record],
    reader: AnswerReader,
    budget: Budget,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    region: float = REGION,
) -> list[Recommendation]:
    """Recommend for every task and number of shots."""
    cells: dict[tuple[str, int], list[LeaderboardGroup]] = {}
    for group in groups:
        cells.setdefault((group.task, group.shots), []).append(group)
    found = []
    for (task, shots), members in cells.items():
        trials = [record for record in records if (record.trial.task, record.trial.shots) == (task, shots)]
        several = len({group.model for group in members}) > 1
        test_sets = list(dict.fromkeys(name for group in members for name in group.test_sets))
        weights = weigh_test_sets(test_sets, budget.out_of_domain_weight)
        answers = read_answers(trials, reader, list(weights), partial(_name_trial, several=several))
        metric = name_metric(trials)
        judge = partial(compare, metric=metric, rng=rng, resamples=resamples, region=region, weights=weights)
        rows = {
            _name(row.variant, group.model if row.uses_model else None, several): row
            for group in members
            for row in group.rows
        }
        draws = max((len(found) for found in answers.values()), default=0)
        found.append(_recommend(task, shots, metric, _Cell(rows, answers, weights, draws, judge, region), budget))
    return found


def weigh_test_sets(test_sets: Sequence[str], out_of_domain_weight: float) -> dict[str, float]:
    """Each test set's weight, adding up to 1; those out of domain share theirs evenly, weights of 0 are left out.

    None at all where a weight out of domain has no test set to fall on.
    """
    outside = [name for name in test_sets if name != IN_DOMAIN]
    if out_of_domain_weight and not outside:
        return {}
    weights = {IN_DOMAIN: 1 - out_of_domain_weight, **{name: out_of_domain_weight / len(outside) for name in outside}}
    return {name: weight for name, weight in weights.items() if weight > 0}


def _name(variant: str, model: str | None, several: bool) -> str:
    return f"{variant} ({model})" if several and model is not None else variant


def _name_trial(record: Record, several: bool) -> str:
    return _name(record.trial.variant, record.trial.model, several)


def _recommend(task: str, shots: int, metric: str, cell: _Cell, budget: Budget) -> Recommendation:
    candidates = [_weigh_candidate(name, row, cell, budget) for name, row in cell.rows.items()]
    candidates.sort(key=lambda candidate: (candidate.excluded is not None, -(candidate.score or 0.0), candidate.name))
    eligible = [candidate for candidate in candidates if candidate.excluded is None]
    if not eligible:
        reasons = (
            ("no method was scored within the budget",)
            if cell.weights
            else ("rows out of domain are to weigh, and there are none here",)
        )
        return Recommendation(
            task, shots, metric, "cannot tell", None, False, None, tuple(candidates), None, None, reasons, further=()
        )
    best = eligible[0]
    against = _compare_with(best, eligible, cell)
    standing = [best, *(c for c in eligible[1:] if against[c.name].answer != "better")]
    floors = {
        c.name: correct_selected(
            cell.judge(cell.answers[c.name], answer_commonest(cell.answers[c.name])),
            len(eligible),
            against.values(),
            cell.region,
        )
        for c in standing
    }
    above = [c for c in standing if floors[c.name].answer == "better"]
    by_cost = sorted(standing, key=lambda c: (c.seconds is None, c.seconds or 0.0))
    chosen = next((c for c in by_cost if c in above), by_cost[0])
    rivals = _find_rivals(chosen, best, standing, against, cell, metric)
    rival = max(rivals, key=lambda each: each.risk, default=None)
    settled = chosen is best or against[chosen.name].answer == "tie"
    return Recommendation(
        task=task,
        shots=shots,
        metric=metric,
        answer="use" if settled and chosen in above else "cannot tell",
        chosen=chosen.name,
        above_commonest=chosen in above,
        best=best.name,
        candidates=tuple(replace(c, best_against_it=against.get(c.name)) for c in candidates),
        rival=rival.name if rival is not None else None,
        at_risk=rival.risk if rival is not None else None,
        reasons=(
            *_give_reasons(chosen, best, candidates, by_cost, against, floors, budget),
            *_word_memory(eligible, cell, budget),
        ),
        further=tuple(_advise(cell, chosen, rivals, {} if above else floors)),
    )


def _compare_with(first: Candidate, others: Sequence[Candidate], cell: _Cell) -> dict[str, Comparison]:
    """One method against others, corrected together."""
    found = {c.name: cell.judge(cell.answers[first.name], cell.answers[c.name]) for c in others if c is not first}
    return correct_leader(found, cell.region)


def _find_rivals(
    chosen: Candidate,
    best: Candidate,
    standing: Sequence[Candidate],
    against: Mapping[str, Comparison],
    cell: _Cell,
    metric: str,
) -> list[_Rival]:
    """The others that were not ruled out, the best first: what it says of the chosen one is told once."""
    comparisons = against if chosen is best else _compare_with(chosen, standing, cell)
    room = statistics.RANGES[metric][1] - (chosen.score or 0.0)
    found = []
    for c in standing:
        if c is not chosen:
            comparison = against[chosen.name] if c is best else comparisons[c.name]
            reach = comparison.high if c is best else -(comparison.low or 0.0)
            found.append(_Rival(c.name, comparison, min(room, max(0.0, reach or 0.0))))
    return found


def _weigh_candidate(name: str, row: LeaderboardRow, cell: _Cell, budget: Budget) -> Candidate:
    means = [row.scores[test_set].mean if test_set in row.scores else None for test_set in cell.weights]
    known = [mean for mean in means if mean is not None]
    score = None
    if cell.weights and len(known) == len(means) and name in cell.answers:
        score = sum(weight * mean for weight, mean in zip(cell.weights.values(), known, strict=True))
    return Candidate(name, score, price(row, budget.queries), _exclude(name, row, score, cell, budget))


def _exclude(name: str, row: LeaderboardRow, score: float | None, cell: _Cell, budget: Budget) -> str | None:
    """Say why a method cannot be chosen; None where it can."""
    if not cell.weights:
        return "no test set out of domain to weigh"
    if row.failed:
        return f"failed in {row.failed} of {row.done + row.failed} trials"
    if score is None:
        return "skipped" if row.skipped else "not scored on all that counts"
    if len(cell.answers[name]) < cell.draws:
        return f"scored on {len(cell.answers[name])} of {cell.draws} draws"
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


def _word_among(candidates: Sequence[Candidate]) -> str:
    left_out = any(c.excluded is not None and c.score is not None for c in candidates)
    return " of those eligible" if left_out else ""


def _word_choice(above_commonest: bool) -> str:
    return "cheapest not ruled out" + (" that is above the commonest label" if above_commonest else "")


def _give_reasons(
    chosen: Candidate,
    best: Candidate,
    candidates: Sequence[Candidate],
    by_cost: Sequence[Candidate],
    against: Mapping[str, Comparison],
    floors: Mapping[str, Comparison],
    budget: Budget,
) -> list[str]:
    compared = "" if chosen is best else f": {word_comparison(chosen.name, against[chosen.name])}"
    reasons = [f"{best.name} has the highest mean{_word_among(candidates)} ({best.score:.3f}){compared}"]
    if chosen.seconds is not None:
        work = f"to fit and answer {budget.queries} queries"
        choice = _word_choice(floors[chosen.name].answer == "better")
        reasons.append(f"{chosen.name} is the {choice}: {chosen.seconds:.0f} s {work}")
    reasons.append(f"{chosen.name}: {word_comparison('always answering the commonest label', floors[chosen.name])}")
    cheaper = [c.name for c in by_cost[: by_cost.index(chosen)]]
    if cheaper:
        reasons.append(f"cheaper, but not credibly above the commonest label: {', '.join(cheaper)}")
    beaten = [name for name, comparison in against.items() if comparison.answer == "better"]
    if beaten:
        reasons.append(f"ruled out, credibly worse than {best.name}: {', '.join(beaten)}")
    return reasons


def _word_memory(eligible: Sequence[Candidate], cell: _Cell, budget: Budget) -> list[str]:
    """Say what a limit of memory was held against, where that understates the need."""
    unsure = ", ".join(c.name for c in eligible if cell.rows[c.name].resident_memory_bytes is None)
    if budget.max_memory_bytes is None or not unsure:
        return []
    return [f"memory was taken as allocated, for no record tells what the process held, which is more: {unsure}"]


def _advise(cell: _Cell, chosen: Candidate, rivals: Sequence[_Rival], floors: Mapping[str, Comparison]) -> list[str]:
    """Say which further trials would change or settle the answer.

    `floors`: methods against the commonest label, where none of them is above it.
    """
    advice = []
    incomplete = [
        name for name, row in cell.rows.items() if row.failed or len(cell.answers.get(name, {})) not in (0, cell.draws)
    ]
    if incomplete:
        advice.append(
            f"the draws that {', '.join(incomplete)} lack{'s' if len(incomplete) == 1 else ''}: run the study again"
        )
    if cell.draws < 2:
        return [*advice, "a second draw at least, of every method: one draw cannot tell"]
    unsettled = [rival for rival in rivals if rival.comparison.answer == "cannot tell"]
    # The first is the best one, where it is not chosen itself: on it alone the answer depends.
    for rival in [*unsettled[:1], *sorted(unsettled[1:], key=lambda rival: -rival.risk)][:MOST_ADVICE]:
        further = rival.comparison.further_draws
        if further is None:
            advice.append(
                f"no number of draws within reach tells {rival.name} from {chosen.name}, if they go on as these"
            )
        else:
            advice.append(f"about {word_further_draws(further)} of {rival.name} and {chosen.name}")
    if floors:
        within_reach = {name: c.further_draws for name, c in floors.items() if c.further_draws and (c.point or 0.0) > 0}
        if within_reach:
            nearest = min(within_reach, key=within_reach.__getitem__)
            draws = word_further_draws(within_reach[nearest])
            advice.append(f"about {draws} of {nearest}, to tell it from always answering the commonest label")
        advice.append(
            "more labelled rows or a larger model, for nothing that was not ruled out is credibly above the commonest "
            "label"
        )
    return advice
