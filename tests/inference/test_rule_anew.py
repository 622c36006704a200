"""The rule of choosing, written a second time from its description alone, decides committed studies alike.

It goes its own way where it can: SciPy's laws and numerical integration, and nothing of `differences` or
`expected_loss`. Scores, what rows add to them and what one row weighs are tested in modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, optimize, special

from fewtune.analysis.answers import read_answers
from fewtune.analysis.decision import Contender, Question, decide_scored
from fewtune.analysis.leaderboard import draw_of
from fewtune.analysis.predictions import AnswerReader
from fewtune.analysis.recommend import DecisionTerms, recommend
from fewtune.analysis.study import analyse_folder
from fewtune.inference.answers import DrawKey
from fewtune.inference.scores import MethodScores, score_methods
from fewtune.inference.unseen import look_at_pair
from fewtune.metrics.counts import FloatArray, IntArray, find_span
from fewtune.records import Record, load_predictions, load_records

RESULTS = Path(__file__).parents[2] / "results"

CELLS = {
    "thirteen methods, three to twelve draws": ("race-mnli", "mnli", 128),
    "a correlation, methods that collapse": ("cola-mnli", "cola", 128),
    "all test rows shared, and a quarter of supports": ("label-length", "questions", 28),
    "eleven methods, five draws": ("pool-methods", "sentiment", 16),
}
TOLERANCES = (0.005, 0.03, 0.1, 0.3)

Scored = Mapping[str, MethodScores]


def moderate(variances: Sequence[float], freedoms: Sequence[int]) -> list[tuple[float, float]]:
    """Smyth's moderated variances with their degrees of freedom, of which at most twice its own are lent to each."""
    seen, own = np.asarray(variances), np.asarray(freedoms, dtype=np.float64)
    known = own > 0
    if known.sum() < 5:
        return list(zip(seen, own, strict=True))
    half = own[known] / 2
    logs = np.log(np.maximum(seen[known], 1e-12)) - special.digamma(half) + np.log(half)
    beyond = logs.var(ddof=1) - special.polygamma(1, half).mean()
    prior = 2 * own.max()
    if beyond > special.polygamma(1, prior / 2):
        prior = 2 * optimize.brentq(lambda x: special.polygamma(1, x) - beyond, 1e-6, prior / 2, xtol=1e-14)
    centre = np.exp(logs.mean() + special.digamma(prior / 2) - np.log(prior / 2))
    lent = np.minimum(prior, 2 * own)
    return [((d * s + f * centre) / (d + f), d + f) if d else (s, 0.0) for s, d, f in zip(seen, own, lent, strict=True)]


def vary_rows(draws: Sequence[tuple[IntArray, FloatArray]]) -> tuple[float, float]:
    """What test rows do to a value, from its draws' (rows, effects): its variance on one, its covariance on two."""
    own = sum(float((effects**2).sum()) for _, effects in draws) / len(draws)
    if len(draws) == 1:
        return own, 0.0
    rows = np.unique(np.concatenate([rows for rows, _ in draws]), return_inverse=True)[1]
    together = (np.bincount(rows, np.concatenate([effects for _, effects in draws])) ** 2).sum()
    return own, max(0.0, together - len(draws) * own) / (len(draws) * (len(draws) - 1))


def weigh_one_row(first: MethodScores, second: MethodScores, both: Iterable[DrawKey]) -> float:
    """What one of all test rows of the draws that both have can change of the mean difference."""
    draws = [[look_at_pair(*pair) for pair in zip(first[key].tested, second[key].tested, strict=True)] for key in both]
    return max(
        float(np.mean([each.weight * len(each.rows) for each in sets]))
        / len(set(np.concatenate([each.rows for each in sets]).tolist()))
        for sets in zip(*draws, strict=True)
    )


def lay_tails(scored: Scored, candidate: str) -> list[tuple[float, float, float]]:
    """Each rival's lead over the candidate: its mean, its standard error and its degrees of freedom (steps 1 to 3)."""
    names, count = list(scored), {name: len(draws) for name, draws in scored.items()}
    values = {name: np.array([draw.score for draw in draws.values()]) for name, draws in scored.items()}
    raw = [float(values[name].var(ddof=1)) if count[name] > 1 else 0.0 for name in names]
    sigma = {n: each[0] for n, each in zip(names, moderate(raw, [count[n] - 1 for n in names]), strict=True)}
    mine, others = scored[candidate], [name for name in names if name != candidate]
    both = {name: sorted(scored[name].keys() & mine.keys()) for name in others}
    gaps = {name: np.array([scored[name][key].score - mine[key].score for key in both[name]]) for name in others}
    sums = {name: sigma[name] + sigma[candidate] for name in others}
    some = [name for name in others if sums[name] > 0]
    ratios = moderate([float(gaps[n].var(ddof=1)) / sums[n] for n in some], [len(both[n]) - 1 for n in some])
    moderated = {n: (0.0, float(len(both[n]) - 1)) for n in others} | dict(zip(some, ratios, strict=True))
    rows = {name: vary_rows([(draw.rows, draw.effects) for draw in draws.values()]) for name, draws in scored.items()}
    tails = []
    for name in others:
        theirs, counts = scored[name], (count[name], count[candidate])
        ratio, freedom = moderated[name]
        varies = sums[name] * ratio
        mean = float(values[name].mean() - values[candidate].mean())
        if counts[0] != counts[1] and varies < sigma[min(name, candidate, key=count.__getitem__)]:
            counts, mean = (min(counts),) * 2, float(gaps[name].mean())  # surer on the draws that both have

        def vary_mean(first: float, second: float, pair: float, have: tuple[int, int] = counts) -> float:
            return first / have[0] + second / have[1] - (first + second - pair) / max(have)

        of_pair = vary_rows([(mine[key].rows, theirs[key].effects - mine[key].effects) for key in both[name]])
        by_rows, covaries = zip(rows[name], rows[candidate], of_pair, strict=True)
        by_draws = max(vary_mean(sigma[name], sigma[candidate], varies), vary_mean(*by_rows))
        share = min(0.9, max(mine[key].shared_support for key in both[name]))
        by_draws += share / (1 - share) * max(0.0, varies - max(0.0, of_pair[0] - of_pair[1]))
        common = max(0.0, of_pair[1] - vary_mean(*covaries))
        error = float(np.sqrt(max(by_draws + common, weigh_one_row(theirs, mine, both[name]) ** 2)))
        freedom = freedom * ((by_draws + common) / by_draws) ** 2 if by_draws else np.inf
        tails.append((mean, error, freedom))
    return tails


def sum_chances(tails: Sequence[tuple[float, float, float]], by: float) -> float:
    """The chances that rivals are more than so much above, added up (step 4)."""
    means, errors, freedoms = np.array(tails).T
    places = (means - by) / errors
    return float(np.where(np.isinf(freedoms), special.ndtr(places), special.stdtr(freedoms, places)).sum())


def integrate_loss(tails: Sequence[tuple[float, float, float]], span: float) -> float:
    """The expected loss, by numerical integration (step 5)."""
    curve = partial(sum_chances, tails)
    certain = 0.0 if curve(0.0) <= 1 else span
    if curve(0.0) > 1 > curve(span):
        certain = optimize.brentq(lambda by: curve(by) - 1, 0.0, span, xtol=1e-15)
    bends = {mean + k * error for mean, error, _ in tails for k in (-30, -3, 0, 3, 30)}
    cuts = sorted({certain, span, *(place for place in bends if certain < place < span)})
    rest = sum(integrate.quad(curve, *ends, epsabs=1e-12, epsrel=1e-10)[0] for ends in pairwise(cuts))
    return certain + float(rest)


def lose(scored: Scored, within: Sequence[float], span: float) -> list[dict[str, tuple[float, float]]]:
    """Each method's expected loss and risk, by how much is accepted."""
    tails = {name: lay_tails(scored, name) for name in scored}
    losses = {name: integrate_loss(each, span) for name, each in tails.items()}
    return [{n: (losses[n], min(1.0, sum_chances(tails[n], most))) for n in scored} for most in within]


def choose(losses: Mapping[str, tuple[float, float]], seconds: Mapping[str, float], within: float) -> tuple[str, bool]:
    """The cheapest that is good enough, or the best bet; and whether it is good enough (step 6)."""
    good = [name for name, (loss, risk) in losses.items() if loss <= within / 6 and risk <= 0.05]
    if good:
        return min(good, key=seconds.__getitem__), True
    return min(losses, key=losses.__getitem__), False


@cache
def read_cell(study: str, task: str, shots: int) -> tuple[list[Record], Scored]:
    """A cell's scored trials, and its methods' scores by draw."""
    out = RESULTS / study
    records = [each for each in load_records(out) if (each.trial.task, each.trial.shots) == (task, shots)]
    answers = read_answers(records, AnswerReader(partial(load_predictions, out)), ["in_domain"])
    return records, score_methods(answers, records[0].primary_metric, {"in_domain": 1.0})


def keep_all(scored: Scored) -> Scored:
    return scored


def drop_draws(scored: Scored) -> Scored:
    """Methods in turn lack none, the last one and the last two of their draws, and have two at the least."""
    return {
        name: dict(sorted(draws.items())[: max(2, len(draws) - place % 3)])
        for place, (name, draws) in enumerate(scored.items())
    }


def part_rows(scored: Scored) -> Scored:
    """As if no draw shared a row with another."""
    return {
        name: {
            key: replace(
                draw,
                rows=draw.rows + 10_000 * key[0],
                shared_support=0.0,
                tested=tuple(replace(each, rows=each.rows.astype(np.int64) + 10_000 * key[0]) for each in draw.tested),
            )
            for key, draw in draws.items()
        }
        for name, draws in scored.items()
    }


@pytest.mark.parametrize(
    ("cell", "change"),
    [
        *((cell, change) for cell in CELLS for change in (keep_all, drop_draws)),
        *((c, part_rows) for c in list(CELLS)[2:]),
    ],
)
def test_committed_studies_are_decided_alike(cell: str, change: Callable[[Scored], Scored]) -> None:
    records, scored = read_cell(*CELLS[cell])
    scored = change(scored)
    metric = records[0].primary_metric
    span = find_span(metric)
    seconds = {name: float(place * 7 % 5) for place, name in enumerate(scored)}
    contenders = [
        Contender(name, float(np.mean([draw.score for draw in draws.values()])), seconds[name], 1.0, 1)
        for name, draws in scored.items()
    ]
    settled = set()
    for within, losses in zip(TOLERANCES, lose(scored, TOLERANCES, span), strict=True):
        found = decide_scored(Question("", 16, metric, within), contenders, scored)
        for each in found.contenders:
            assert each.loss is not None
            assert (each.loss.expected, each.loss.risk) == pytest.approx(losses[each.name], abs=1e-9)
        # Of equally cheap ones the better: a little dearer is what has the lower mean.
        price = {each.name: (seconds[each.name], -(each.score or 0.0)) for each in contenders}
        ranks = {name: float(rank) for rank, name in enumerate(sorted(price, key=price.__getitem__))}
        assert found.choice is not None
        assert (found.choice.name, found.settled) == choose(losses, ranks, within)
        settled.add(found.settled)
    assert settled == {False, True}, "either way at some tolerance"


@pytest.mark.parametrize("cell", CELLS)
def test_scores_are_those_that_records_have(cell: str) -> None:
    records, scored = read_cell(*CELLS[cell])
    for record in records:
        if record.status == "done":
            expected = record.metrics["in_domain"][record.primary_metric]
            assert scored[record.trial.variant][draw_of(record)].score == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("study", "within"), [("demo", 0.05), ("race-mnli", 0.03), ("label-length", 0.03)])
def test_a_studys_recommendation_is_that_of_the_rule(study: str, within: float) -> None:
    analysed = analyse_folder(RESULTS / study)
    boards = [group.board for group in analysed.groups]
    for found in recommend(boards, analysed.records, analysed.reader, DecisionTerms(within)):
        _, scored = read_cell(study, found.question.task, found.question.shots)
        assert {each.name for each in found.compared} == set(scored)
        able = {each.name: each.seconds or 0.0 for each in found.contenders if each.excluded is None}
        [all_losses] = lose(scored, [within], found.question.span)
        losses = {name: all_losses[name] for name in able}
        assert found.choice is not None and found.choice.loss is not None
        assert (found.choice.name, found.settled) == choose(losses, able, within)
        assert (found.choice.loss.expected, found.choice.loss.risk) == pytest.approx(
            losses[found.choice.name], abs=1e-9
        )
