"""Audit rules for costs that were measured in different ways, and for models that differ.

Owns the rules about where trials ran. Source: arXiv 2405.13181 compares times of different GPUs, and one epoch with a
whole run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from fewtune.analysis.audit.finding import Evidence, Finding, format_group, ids_of
from fewtune.analysis.leaderboard import group_records
from fewtune.records import Record

DECIDES_SECONDS = (
    "processor",
    "device",
    "cores",
    "workers",
    "threads",
    "devices_per_trial",
    "cache_share",
    "precision",
    "packages",
    "python",
)
"""Parts of an environment that seconds depend on."""

UNLIKE_PACE = 1.5
"""Ratio of a draw's seconds to the other draws' from which the machine's speed must have changed."""
FEWEST_METHODS, LEAST_SECONDS = 3, 1.0
"""The ratio is taken over at least so many methods that took at least so many seconds."""


def list_unlike_parts(records: Iterable[Record]) -> dict[str, set[str]]:
    """The parts that seconds depend on and that differ among records, with all that they are."""
    places: dict[str, set[str]] = defaultdict(set)
    for record in records:
        for part in DECIDES_SECONDS:
            if part in record.environment:
                places[part].add(_word(record.environment[part]))
    return {part: found for part, found in places.items() if len(found) > 1}


def find_unlike_machines(evidence: Evidence) -> Iterator[Finding]:
    """Comparisons whose seconds and bytes come from unlike machines or software."""
    for members in group_records(evidence.done).values():
        differing = list_unlike_parts(members)
        if differing:
            each = "; ".join(f"{part}: {' against '.join(sorted(found))}" for part, found in differing.items())
            yield Finding(
                rule="unlike machines",
                severity="warning",
                where=format_group(members),
                reason=f"trials that are compared ran in unlike places ({each}): their seconds and bytes are not like "
                "for like",
                remedy="Compare scores alone, or run all trials on one machine with one set of versions.",
                trials=ids_of(members),
            )


def find_unlike_paces(evidence: Evidence) -> Iterator[Finding]:
    """Draws in which methods took longer than in another: on a slower machine of the same name, or a busy one."""
    for members in group_records(evidence.done).values():
        paces = _pace_draws(members)
        fastest, slowest = (choose(paces, key=paces.__getitem__, default=0) for choose in (min, max))
        if paces and paces[slowest] >= UNLIKE_PACE * paces[fastest]:
            times = paces[slowest] / paces[fastest]
            yield Finding(
                rule="unlike pace",
                severity="warning",
                where=format_group(members),
                reason=f"in draw {slowest} methods took {times:.1f} times as long as in draw {fastest} (their median): "
                "seconds are not like for like, though machines may have one name",
                remedy="Compare scores and memory alone, or run the draws of one pace anew with nothing beside them.",
                trials=ids_of(r for r in members if r.trial.data_seed in (slowest, fastest)),
            )


def _pace_draws(members: Sequence[Record]) -> dict[int, float]:
    """By data seed, how long methods took beside their own median over draws: the median of three methods at least."""
    seconds: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in members:
        cost = record.cost
        if cost is not None and cost.fit_seconds is not None and cost.predict_seconds is not None:
            seconds[record.trial.variant][record.trial.data_seed].append(cost.fit_seconds + cost.predict_seconds)
    beside: dict[int, list[float]] = defaultdict(list)
    for by_draw in seconds.values():
        means = {draw: fmean(each) for draw, each in by_draw.items()}
        usual = median(means.values())
        if usual >= LEAST_SECONDS:
            for draw, mean in means.items():
                beside[draw].append(mean / usual)
    return {draw: median(each) for draw, each in sorted(beside.items()) if len(each) >= FEWEST_METHODS}


def find_unlike_weights(evidence: Evidence) -> Iterator[Finding]:
    """One model's name with unlike weights behind it."""
    weights: dict[tuple[str, str], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in evidence.done:
        if record.trial.model is not None and "weights" in record.fingerprints:
            weights[record.trial.task, record.trial.model][record.fingerprints["weights"]].append(record)
    for (task, model), found in weights.items():
        if len(found) > 1:
            yield Finding(
                rule="unlike weights",
                severity="error",
                where=f"{task} · {model}",
                reason=f"{len(found)} different sets of weights stand behind this name: its methods did not start from "
                "the same model",
                remedy="Pin the revision, and run the trials of one of them anew.",
                trials=ids_of(record for records in found.values() for record in records),
            )


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return str(value)
