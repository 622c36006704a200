"""Costs that were not measured alike, and models that are not the same.

Owns the rules about where trials ran. Source: arXiv 2405.13181 compares times of different GPUs, and one epoch with a
whole run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from fewtune.analysis.audit.finding import Evidence, Finding, ids_of, word_group
from fewtune.analysis.leaderboard import group_records
from fewtune.records import Record

DECIDES_SECONDS = ("processor", "device", "cores", "workers", "cache_share", "precision", "packages", "python")
"""Parts of an environment that seconds depend on."""


def find_unlike_machines(evidence: Evidence) -> Iterator[Finding]:
    """Comparisons whose seconds and bytes come from unlike machines or software."""
    for members in group_records(evidence.done).values():
        places: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in members:
            for part in DECIDES_SECONDS:
                if part in record.environment:
                    places[part][_word(record.environment[part])].append(record)
        differing = {part: found for part, found in places.items() if len(found) > 1}
        if differing:
            each = "; ".join(f"{part}: {' against '.join(sorted(found))}" for part, found in differing.items())
            yield Finding(
                rule="unlike machines",
                severity="warning",
                where=word_group(members),
                reason=f"trials that are compared ran in unlike places ({each}): their seconds and bytes are not like "
                "for like",
                remedy="Compare scores alone, or run all trials on one machine with one set of versions.",
                trials=ids_of(members),
            )


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
