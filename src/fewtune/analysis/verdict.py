"""The verdict: which variant leads a group, and whether it is shown to be better than each other one.

Owns the leader and whom it is compared with. Does not know when a difference counts (`inference.better`) or how any of
it is worded (`report`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fewtune.analysis.answers import answer_commonest, keep_fullest, read_answers
from fewtune.analysis.decision import IN_DOMAIN_ALONE
from fewtune.analysis.leaderboard import (
    IN_DOMAIN,
    GroupKey,
    average_draws,
    group_by_variant,
    name_metric,
)
from fewtune.analysis.predictions import AnswerReader
from fewtune.inference.answers import MethodAnswers
from fewtune.inference.better import (
    LEVEL,
    NOT_COMPARED,
    REGION,
    Comparison,
    LeaderDifferences,
    judge_leaders,
    judge_selected,
)
from fewtune.inference.differences import Difference, pair_methods, subtract
from fewtune.inference.scores import score_methods
from fewtune.metrics.counts import find_span
from fewtune.records import Record


@dataclass(frozen=True)
class GroupVerdict:
    """The verdict on one (task, model, shots); `leader` is None where no trial was scored.

    `comparisons` has the leader against every other scored variant, corrected together over all groups that were
    judged; `against_majority` has it against always answering the majority class of the test rows, corrected for the
    leader being the best of many.
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


@dataclass(frozen=True)
class GroupLead:
    """Who leads one (task, model, shots), and by how much; `over_majority` is its lead over the majority class."""

    key: GroupKey
    metric: str
    leader: str | None
    leader_score: float | None
    others: tuple[str, ...]
    """All others that were scored, the highest mean first."""
    differences: Mapping[str, Difference]
    over_majority: Difference | None
    counts: Mapping[str, int]
    """Trials by status."""


def find_lead(key: GroupKey, members: Sequence[Record], reader: AnswerReader) -> GroupLead:
    """Find who leads a group in domain; without a trial that was looked at nobody does, and no metric is named."""
    metric = name_metric(members) if members else ""
    answers = read_answers(members, reader, [IN_DOMAIN])
    means = {
        variant: float(np.mean([draw.value for draw in average_draws(trials, IN_DOMAIN)]))
        for variant, trials in group_by_variant(members).items()
        if variant in answers
    }
    failed = {record.trial.variant for record in members if record.status == "failed"}
    leader = _choose_leader(means, answers, failed)
    differences, over_majority = {}, None
    if leader is not None:
        scored = score_methods(answers, metric, IN_DOMAIN_ALONE)
        differences = {name: each.negate() for name, each in pair_methods(scored)[leader].items()}
        majority = score_methods({"": answer_commonest(answers[leader])}, metric, IN_DOMAIN_ALONE)[""]
        over_majority = subtract(scored[leader], majority)
    return GroupLead(
        key=key,
        metric=metric,
        leader=leader,
        leader_score=means[leader] if leader is not None else None,
        # By their means, and not by a set's order: that of ties must not go by hash.
        others=tuple(sorted((name for name in answers if name != leader), key=lambda name: -means[name])),
        differences=differences,
        over_majority=over_majority,
        counts={status: sum(r.status == status for r in members) for status in ("done", "failed", "skipped")},
    )


def judge_leads(
    leads: Sequence[GroupLead], levels: Mapping[tuple[str, int], float], region: float = REGION
) -> list[GroupVerdict]:
    """Judge groups, every "better" of all of them corrected together; `levels` are by task and number of shots."""
    judged = judge_leaders(
        [LeaderDifferences(lead.differences, _find_span(lead), _find_level(lead, levels)) for lead in leads], region
    )
    return [_judge(lead, found, levels, region) for lead, found in zip(leads, judged, strict=True)]


def _judge(
    lead: GroupLead, judged: Mapping[str, Comparison], levels: Mapping[tuple[str, int], float], region: float
) -> GroupVerdict:
    task, model, shots = lead.key
    against_majority = None
    if lead.over_majority is not None:
        against_majority = judge_selected(
            lead.over_majority, len(lead.others) + 1, _find_span(lead), region, _find_level(lead, levels)
        )
    return GroupVerdict(
        task=task,
        model=model,
        shots=shots,
        metric=lead.metric,
        leader=lead.leader,
        leader_score=lead.leader_score,
        comparisons={other: judged.get(other, NOT_COMPARED) for other in lead.others},
        against_majority=against_majority,
        done=lead.counts["done"],
        failed=lead.counts["failed"],
        skipped=lead.counts["skipped"],
    )


def _find_span(lead: GroupLead) -> float:
    return find_span(lead.metric) if lead.metric else 0.0  # without a trial there is none, and nothing to compare


def _find_level(lead: GroupLead, levels: Mapping[tuple[str, int], float]) -> float:
    return levels.get((lead.key[0], lead.key[2]), LEVEL)


def _choose_leader(
    means: Mapping[str, float], answers: Mapping[str, MethodAnswers], failed: Collection[str]
) -> str | None:
    if not means:
        return None
    # Only the fullest may lead, and of those one that failed nowhere, if there is any.
    full = sorted(keep_fullest(means, answers))
    full = [variant for variant in full if variant not in failed] or full
    return max(full, key=lambda variant: means[variant])
