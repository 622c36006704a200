"""Audit rule for differences that come from the decision threshold and not from what was learnt.

Owns the rule. Source: context distillation against pattern-based fine-tuning out of domain in this project's own
records: 7 points apart by accuracy, .003 by AUROC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np

from fewtune.analysis.answers import can_pair, read_answers
from fewtune.analysis.audit.finding import Evidence, Finding, format_group, ids_of
from fewtune.analysis.decision import IN_DOMAIN_ALONE
from fewtune.analysis.leaderboard import IN_DOMAIN, draw_of, group_records, keep_whole_draws, name_metric
from fewtune.analysis.predictions import AnswerReader, Ranks
from fewtune.inference.answers import DrawKey, MethodAnswers
from fewtune.inference.better import LEVEL, REGION
from fewtune.inference.differences import FEWEST_DRAWS, Difference, subtract
from fewtune.inference.scores import DrawScore, MethodScores, score_methods
from fewtune.plurals import pluralise
from fewtune.records import Record

SHARE = 1 / 3
"""Of a difference by the label that was said: as much of it at most may be there by AUROC."""


def find_threshold_differences(evidence: Evidence) -> Iterator[Finding]:
    """Methods that the leader in domain differs from by the labels said, and not by how it ranks rows."""
    for members in group_records(evidence.done).values():
        sets = list(dict.fromkeys(name for record in members for name in record.metrics))
        outside = [name for name in sets if name != IN_DOMAIN]
        places = {"in domain": [IN_DOMAIN], "out of domain": outside}
        # Trials of one draw with unlike rows are other rules', and refused where they are compared.
        if IN_DOMAIN not in sets or not can_pair(members, evidence.reader):
            continue
        inside = score_methods(
            read_answers(members, evidence.reader, [IN_DOMAIN]), name_metric(members), IN_DOMAIN_ALONE
        )
        told: list[str] = []
        about: list[Record] = []
        for place, names in places.items():
            for first, second, words in _compare_leader(members, evidence.reader, names, inside) if names else ():
                told.append(f"{place}, {words}")
                about += [record for record in members if record.trial.variant in (first, second)]
        if told:
            yield Finding(
                rule="threshold",
                severity="note",
                where=format_group(members),
                reason=f"a threshold differs, not what was learnt: {'; '.join(told)}",
                remedy="Do not read it as one method knowing more: shift the threshold first, on unlabelled rows "
                "(batch calibration) or on a few labelled ones.",
                trials=ids_of(about),
            )


def _compare_leader(
    members: Sequence[Record], reader: AnswerReader, names: Sequence[str], inside: Mapping[str, MethodScores]
) -> Iterator[tuple[str, str, str]]:
    metric, weights = name_metric(members), {name: 1 / len(names) for name in names}
    answers = read_answers(members, reader, list(names))
    leader = max(inside.keys() & answers.keys(), key=lambda name: (_mean(inside[name]), name), default=None)
    if leader is None:
        return
    scored = inside if list(names) == [IN_DOMAIN] else score_methods(answers, metric, weights)
    rank = cache(lambda name: _rank(members, name, answers[name], reader, weights))
    for other in sorted(scored.keys() - {leader}):
        if len(scored[leader].keys() & scored[other].keys()) < FEWEST_DRAWS:
            continue
        by_labels = subtract(scored[leader], scored[other])
        if not _differs(by_labels):
            continue
        ranked = [rank(name) for name in (leader, other)]
        if ranked[0] is None or ranked[1] is None:
            continue
        by_ranks = subtract(ranked[0], ranked[1])
        gap = by_labels.mean
        if not _is_beyond_doubt(by_ranks) and abs(by_ranks.mean) <= SHARE * abs(gap):
            areas = " and ".join(f"{_mean(side):.3f}" for side in ranked if side is not None)
            side = "above" if gap > 0 else "below"
            size = pluralise(abs(100 * gap), "point", ".1f")
            words = f"{leader} is {size} {side} {other} by {metric}, and not by AUROC ({areas})"
            yield leader, other, words


def _rank(
    members: Sequence[Record],
    variant: str,
    answers: MethodAnswers,
    reader: AnswerReader,
    weights: Mapping[str, float],
) -> MethodScores | None:
    """A variant's AUROC by draw, test sets weighed, fit seeds averaged; None where any trial's is not known."""
    found: dict[DrawKey, DrawScore] = {}
    by_draw: dict[DrawKey, list[Mapping[str, Ranks]]] = {}
    for record in keep_whole_draws([record for record in members if record.trial.variant == variant]):
        by_draw.setdefault(draw_of(record), []).append(reader.ranks(record))
    for key, sets in answers.items():
        seeds = by_draw.get(key, [])
        score, effects = 0.0, []
        for name, share in weights.items():
            each = [seed.get(name) for seed in seeds]
            known = [area for area in each if area is not None]
            if not known or len(known) < len(each):
                return None
            score += share * (sum(area for area, _ in known) / len(known))
            effects.append(share * (sum(row_effects for _, row_effects in known) / len(known)))
        rows = np.concatenate([sets[name].rows for name in weights]).astype(np.int64)
        shared_support = max(sets[name].shared_support for name in weights)
        found[key] = DrawScore(score, rows, np.concatenate(effects), shared_support)
    return found


def _differs(difference: Difference) -> bool:
    return abs(difference.mean) > REGION and _is_beyond_doubt(difference)


def _is_beyond_doubt(difference: Difference) -> bool:
    return abs(difference.mean) > difference.reach(LEVEL / 2)


def _mean(scored: MethodScores) -> float:
    return float(np.mean([draw.score for draw in scored.values()]))
