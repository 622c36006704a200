"""The verdict: which variant leads a group, and whether the evidence says it is better than each other one.

Owns the leader and whom it is compared with. Does not know when a difference counts (`comparison`), how an interval is
made (`statistics`) or how any of it is worded (`report`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fewtune.analysis.answers import VariantAnswers, answer_commonest, keep_fullest, read_answers
from fewtune.analysis.comparison import (
    REGION,
    Comparison,
    compare,
    correct_leader,
    correct_selected,
)
from fewtune.analysis.leaderboard import (
    IN_DOMAIN,
    GroupKey,
    average_draws,
    group_by_variant,
    group_records,
    name_metric,
)
from fewtune.analysis.looks import find_levels, keep_looked_at
from fewtune.analysis.predictions import AnswerReader
from fewtune.analysis.statistics import LEVEL
from fewtune.records import LookHistory, Record


@dataclass(frozen=True)
class GroupVerdict:
    """The verdict on one (task, model, shots); `leader` is None where no trial was scored.

    `comparisons` has the leader against every other scored variant, corrected together; `against_majority` has it
    against always answering the commonest gold label of the test rows, corrected for the leader being the best of many.
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


def judge_study(
    records: Iterable[Record],
    reader: AnswerReader,
    rng: np.random.Generator,
    region: float = REGION,
    looks: LookHistory | None = None,
    seeds: Sequence[int] = (),
) -> list[GroupVerdict]:
    """Judge every group in domain, on the draws of the last look at it; `seeds` are the study's data seeds in order.

    Failed and skipped trials are counted and never scored.
    """
    records = list(records)
    levels = find_levels(looks, records, seeds)
    looked_at = {record.trial_id for record in keep_looked_at(records, looks, seeds)}
    return [
        judge_group(
            (task, model, shots),
            [record for record in members if record.trial_id in looked_at],
            reader,
            rng,
            region,
            levels[task, shots],
        )
        for (task, model, shots), members in group_records(records).items()
    ]


def judge_group(
    key: GroupKey,
    members: Sequence[Record],
    reader: AnswerReader,
    rng: np.random.Generator,
    region: float = REGION,
    level: float = LEVEL,
) -> GroupVerdict:
    """Judge one group in domain; without a trial that was looked at it has no leader, and no metric is named."""
    task, model, shots = key
    metric = name_metric(members) if members else ""
    answers = read_answers(members, reader, [IN_DOMAIN])
    means = {
        variant: float(np.mean([draw.value for draw in average_draws(trials, IN_DOMAIN)]))
        for variant, trials in group_by_variant(members).items()
        if variant in answers
    }
    failed = {record.trial.variant for record in members if record.status == "failed"}
    leader = _choose_leader(means, answers, failed)
    comparisons: dict[str, Comparison] = {}
    against_majority = None
    if leader is not None:
        judge = partial(compare, answers[leader], metric=metric, rng=rng, region=region)
        others = [name for name in answers if name != leader]  # a list: the order of ties must not go by hash
        for other in sorted(others, key=lambda name: -means[name]):
            comparisons[other] = judge(answers[other])
        comparisons = correct_leader(comparisons, region, level)
        commonest = answer_commonest(answers[leader])
        against_majority = correct_selected(judge(commonest), len(answers), comparisons.values(), region, level)
    counts = {status: sum(r.status == status for r in members) for status in ("done", "failed", "skipped")}
    return GroupVerdict(
        task=task,
        model=model,
        shots=shots,
        metric=metric,
        leader=leader,
        leader_score=means[leader] if leader is not None else None,
        comparisons=comparisons,
        against_majority=against_majority,
        done=counts["done"],
        failed=counts["failed"],
        skipped=counts["skipped"],
    )


def _choose_leader(
    means: Mapping[str, float], answers: Mapping[str, VariantAnswers], failed: Collection[str]
) -> str | None:
    if not means:
        return None
    # Only the fullest may lead, and of those one that failed nowhere, if there is any.
    full = sorted(keep_fullest(means, answers))
    full = [variant for variant in full if variant not in failed] or full
    return max(full, key=lambda variant: means[variant])
