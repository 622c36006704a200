"""The verdict: which variant leads a group, and whether the evidence says it is better than each other one.

Owns the rule that turns an interval into better / tie / worse / cannot tell, the leader, and the sentence.
Does not know how the interval is made (`statistics`) or shown (`report`). Differences are paired by draw and
row, fit seeds averaged inside a draw.

The rule, with `region` = the largest difference that does not matter (0.01 = 1 point by default), in order:
- fewer than two draws in common: cannot tell, whatever the rows say, for the next draw may differ;
- the whole interval lies inside ±region: tie;
- the whole interval lies above 0 and its point is beyond the region: better; mirrored: worse;
- anything else: cannot tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from fewtune import records as store
from fewtune.analysis import statistics
from fewtune.analysis.leaderboard import (
    IN_DOMAIN,
    DrawKey,
    LeaderboardGroup,
    LoadPredictions,
    average_draws,
    draw_of,
    group_records,
    name_metric,
    rank_variants,
)
from fewtune.errors import RecordError, name_choices
from fewtune.records import Record

if TYPE_CHECKING:
    import polars as pl

Answer = Literal["better", "tie", "worse", "cannot tell"]

REGION = 0.01
RESAMPLES = 2000
ANALYSIS_SEED = 20240501
"""Seed of the bootstrap of a report, so that one folder always gives one report."""


@dataclass(frozen=True)
class DrawAnswers:
    """One variant's answers on one draw's test set: gold (rows,), predicted (fit seeds, rows), label names.

    Rows are ordered by row id, so that two variants' answers on one draw are paired row by row.
    """

    gold: npt.NDArray[np.str_]
    predicted: npt.NDArray[np.str_]


@dataclass(frozen=True)
class Comparison:
    """The answer on a first method against a second; the numbers are None where they share no draw.

    `point`, `low`, `high` are differences of the primary metric; `p` is the exact sign-flip test's, None
    below six draws; `reason` says in a few words why the answer is what it is.
    """

    answer: Answer
    point: float | None
    low: float | None
    high: float | None
    draws: int
    p: float | None
    reason: str


@dataclass(frozen=True)
class GroupVerdict:
    """The verdict on one (task, model, shots); `leader` is None where no trial was scored.

    `comparisons` has the leader against every other scored variant (p corrected by Holm over them);
    `against_majority` has it against always answering the commonest gold label of the test rows.
    """

    task: str
    model: str | None
    shots: int
    metric: str
    leader: str | None
    leader_score: float | None
    comparisons: Mapping[str, Comparison]
    against_majority: Comparison | None
    done: int
    failed: int
    skipped: int
    sentence: str


@dataclass(frozen=True)
class Findings:
    """All that a report shows of one output folder; `verdicts` and `leaderboard` have the same groups."""

    records: tuple[Record, ...]
    leaderboard: tuple[LeaderboardGroup, ...]
    verdicts: tuple[GroupVerdict, ...]
    missing: Mapping[str, int] = field(default_factory=dict)
    """Planned trials without a record, by variant: the study is unfinished where there are any."""


def judge_folder(out_dir: Path) -> Findings:
    """Read a study's output folder and judge it; raises RecordError where it cannot be read."""
    records = store.load_records(out_dir)
    # A study may name the metric to judge by; where it does not, each task's own is in its records.
    done = [record for record in records if record.status == "done"]
    wanted = [
        name
        for name in store.load_study_entry(out_dir, "metrics") or ()
        if name in statistics.SCORES and all(name in scores for r in done for scores in r.metrics.values())
    ]
    if wanted:
        records = [record.model_copy(update={"primary_metric": wanted[0]}) for record in records]
    load = cache(partial(store.load_predictions, out_dir))
    verdicts = judge_study(records, load, np.random.default_rng(ANALYSIS_SEED))
    recorded = {record.trial_id for record in records}
    planned = store.load_planned(out_dir) or {}
    missing = Counter(variant for trial_id, variant in planned.items() if trial_id not in recorded)
    return Findings(tuple(records), tuple(rank_variants(records, load)), tuple(verdicts), missing)


def judge_study(
    records: Iterable[Record],
    load_predictions: LoadPredictions,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    region: float = REGION,
) -> list[GroupVerdict]:
    """Judge every group in domain; failed and skipped trials are counted and never scored."""
    load = cache(load_predictions)
    return [_judge_group(key, members, load, rng, resamples, region) for key, members in group_records(records).items()]


def compare(
    first: Mapping[DrawKey, DrawAnswers],
    second: Mapping[DrawKey, DrawAnswers],
    metric: str,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    region: float = REGION,
) -> Comparison:
    """Compare two variants' answers over the draws that both have, by the rule above."""
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return Comparison("cannot tell", None, None, None, 0, None, "no draw in common")
    if metric not in statistics.SCORES:
        raise RecordError(name_choices(metric, statistics.SCORES, "primary metric"))
    if metric == "accuracy":
        rows = [_subtract_correctness(first[key], second[key]) for key in shared]
        interval = statistics.bootstrap_difference(rows, resamples, rng)
        by_draw = [float(row.mean()) for row in rows]
    else:
        score = statistics.SCORES[metric]
        names = _name_labels([*first.values(), *second.values()])
        pairs = [_pair(first[key], second[key], names) for key in shared]
        interval = statistics.bootstrap_score_difference(pairs, len(names), score, resamples, rng)
        by_draw = [statistics.score_difference(pair, len(names), score) for pair in pairs]
    answer, reason = apply_rule(interval, region)
    p = statistics.sign_flip_p(by_draw)
    return Comparison(answer, interval.point, interval.low, interval.high, interval.draws, p, reason)


def apply_rule(interval: statistics.Interval, region: float = REGION) -> tuple[Answer, str]:
    """Turn an interval into an answer and its reason, by the rule in this module's text."""
    points = f"{100 * region:g} point{'s' if region != 0.01 else ''}"
    if interval.draws < 2:
        return "cannot tell", "one draw: the interval covers the choice of test rows only"
    if -region <= interval.low and interval.high <= region:
        return "tie", f"the whole interval is within {points}"
    if interval.low > 0 and interval.point > region:
        return "better", "the whole interval is above 0"
    if interval.high < 0 and interval.point < -region:
        return "worse", "the whole interval is below 0"
    if interval.low <= 0 <= interval.high:
        return "cannot tell", f"the interval holds 0 and reaches beyond {points}"
    return "cannot tell", f"the difference is within {points} and the interval reaches beyond"


def word_comparison(other: str, comparison: Comparison) -> str:
    """Word one comparison of the leader: 'better than tfidf by 12.1 points [8.0, 16.3]'."""
    draws = f"{comparison.draws} draw{'s' if comparison.draws != 1 else ''}"
    if comparison.point is None or comparison.low is None or comparison.high is None:
        return f"cannot tell from {other}: {comparison.reason}"
    span = f"[{100 * comparison.low:.1f}, {100 * comparison.high:.1f}]"
    size = f"{abs(100 * comparison.point):.1f} points"
    if comparison.answer == "better":
        return f"better than {other} by {size} {span}"
    if comparison.answer == "worse":
        return f"worse than {other} by {size} {span}"
    signed = f"{100 * comparison.point:+.1f} points {span}"
    if comparison.answer == "tie":
        return f"tie with {other} ({signed})"
    return f"cannot tell from {other} with {draws} ({signed})"


def _judge_group(
    key: tuple[str, str | None, int],
    members: Sequence[Record],
    load: LoadPredictions,
    rng: np.random.Generator,
    resamples: int,
    region: float,
) -> GroupVerdict:
    task, model, shots = key
    metric = name_metric(members)
    answers = _read_answers(members, load)
    means = {
        variant: float(np.mean([draw.value for draw in average_draws(trials, IN_DOMAIN)]))
        for variant, trials in _by_variant(members).items()
        if variant in answers
    }
    leader = _choose_leader(means, answers)
    comparisons: dict[str, Comparison] = {}
    against_majority = None
    if leader is not None:
        judge = partial(compare, answers[leader], metric=metric, rng=rng, resamples=resamples, region=region)
        for other in sorted(answers.keys() - {leader}, key=lambda name: -means[name]):
            comparisons[other] = judge(answers[other])
        comparisons = _correct_p(comparisons)
        against_majority = judge({draw: _answer_majority(rows) for draw, rows in answers[leader].items()})
    counts = {status: sum(r.status == status for r in members) for status in ("done", "failed", "skipped")}
    score = means[leader] if leader is not None else None
    return GroupVerdict(
        task=task,
        model=model,
        shots=shots,
        metric=metric,
        leader=leader,
        leader_score=score,
        comparisons=comparisons,
        against_majority=against_majority,
        done=counts["done"],
        failed=counts["failed"],
        skipped=counts["skipped"],
        sentence=_word_verdict(leader, score, metric, comparisons, against_majority, counts),
    )


def _choose_leader(means: Mapping[str, float], answers: Mapping[str, Mapping[DrawKey, DrawAnswers]]) -> str | None:
    if not means:
        return None
    # A variant that finished few draws may have finished the easy ones: only the fullest may lead.
    most = max(len(answers[variant]) for variant in means)
    full = sorted(variant for variant in means if len(answers[variant]) == most)
    return max(full, key=lambda variant: means[variant])


def _read_answers(members: Iterable[Record], load: LoadPredictions) -> dict[str, dict[DrawKey, DrawAnswers]]:
    tables: dict[str, dict[DrawKey, list[pl.DataFrame]]] = {}
    for record in members:
        if record.status == "done" and record.primary_metric in record.metrics.get(IN_DOMAIN, {}):
            predictions = load(record.trial_id)
            rows = predictions.filter(predictions["test_set"] == IN_DOMAIN).sort("row_id")
            tables.setdefault(record.trial.variant, {}).setdefault(draw_of(record), []).append(rows)
    return {
        variant: {
            draw: DrawAnswers(
                seeds[0]["gold"].to_numpy().astype(np.str_),
                np.stack([rows["predicted"].to_numpy().astype(np.str_) for rows in seeds]),
            )
            for draw, seeds in draws.items()
        }
        for variant, draws in tables.items()
    }


def _answer_majority(rows: DrawAnswers) -> DrawAnswers:
    names, counts = np.unique(rows.gold, return_counts=True)
    return DrawAnswers(rows.gold, np.full((1, len(rows.gold)), names[np.argmax(counts)]))


def _subtract_correctness(first: DrawAnswers, second: DrawAnswers) -> statistics.FloatArray:
    first_right = (first.predicted == first.gold).mean(0)
    second_right = (second.predicted == second.gold).mean(0)
    return np.asarray(first_right - second_right, dtype=np.float64)


def _pair(first: DrawAnswers, second: DrawAnswers, names: npt.NDArray[np.str_]) -> statistics.PairedRows:
    gold, ours, theirs = (
        np.searchsorted(names, answers).astype(np.int64) for answers in (first.gold, first.predicted, second.predicted)
    )
    return statistics.PairedRows(gold, ours, theirs)


def _name_labels(draws: Iterable[DrawAnswers]) -> npt.NDArray[np.str_]:
    return np.unique(np.concatenate([part.ravel() for draw in draws for part in (draw.gold, draw.predicted)]))


def _correct_p(comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    tested = {name: c.p for name, c in comparisons.items() if c.p is not None}
    corrected = dict(zip(tested, statistics.holm(list(tested.values())).tolist(), strict=True))
    return {name: replace(c, p=corrected.get(name)) for name, c in comparisons.items()}


def _by_variant(members: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in members:
        found.setdefault(record.trial.variant, []).append(record)
    return found


def _word_verdict(
    leader: str | None,
    score: float | None,
    metric: str,
    comparisons: Mapping[str, Comparison],
    against_majority: Comparison | None,
    counts: Mapping[str, int],
) -> str:
    if leader is None or score is None or against_majority is None:
        text = "No trial was scored, so nothing leads"
    else:
        order: tuple[Answer, ...] = ("cannot tell", "worse", "tie", "better")
        ranked = sorted(comparisons.items(), key=lambda item: order.index(item[1].answer))
        parts = [f"{leader} leads ({score:.3f} {metric})"]
        parts += [word_comparison(other, comparison) for other, comparison in ranked]
        parts.append(word_comparison("always answering the commonest label", against_majority))
        text = "; ".join(parts)
    missing = [f"{counts[status]} {status}" for status in ("failed", "skipped") if counts[status]]
    left_out = f" Not scored: {', '.join(missing)}." if missing else ""
    return f"{text}.{left_out}"
