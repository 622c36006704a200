"""Audit rules for repeated runs, for draws that do not vary, and for comparisons of too few draws.

Owns the rules about how often something was really tried. Sources: facts of arXiv 2405.13181's released results, whose
ten runs are two, and whose files with and without decayed learning rates are equal.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

from fewtune.analysis.audit.finding import Evidence, Finding, format_group, format_where, ids_of
from fewtune.analysis.leaderboard import draw_of, group_records
from fewtune.inference.variances import MOST_SHARED
from fewtune.plurals import pluralise
from fewtune.records import Record


def find_identical_runs(evidence: Evidence) -> Iterator[Finding]:
    """Fits of one variant that differ in seed or draw, yet not in a single digit of their losses and scores."""
    for cell in _split(evidence.done):
        same: dict[str, list[Record]] = defaultdict(list)
        for record in cell:
            if record.notes.fit.losses:
                same[json.dumps([record.notes.fit.losses, record.metrics], sort_keys=True)].append(record)
        distinct = [alike for records in same.values() for alike in _part_alike(evidence, records)]
        copies = [records for records in distinct if len(records) > 1]
        if copies:
            yield Finding(
                rule="identical runs",
                severity="error",
                where=format_where(cell[0]),
                reason=f"{sum(map(len, distinct))} fits with different seeds are {len(distinct)} distinct: the others "
                "repeat their losses and every row's score",
                remedy="Count each distinct run once. Find what sets the seed again after it was set, and run anew.",
                trials=ids_of(record for records in copies for record in records),
            )


def find_repeated_draws(evidence: Evidence) -> Iterator[Finding]:
    """Data seeds that gave the same rows."""
    rows: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for record in evidence.done:
        if "draw" in record.fingerprints:
            rows[record.trial.task, record.trial.shots, record.fingerprints["draw"]].add(record.trial.data_seed)
    for (task, shots, draw), seeds in rows.items():
        if len(seeds) > 1:
            named = ", ".join(map(str, sorted(seeds)))
            yield Finding(
                rule="repeated draws",
                severity="error",
                where=f"{task} · {pluralise(shots, 'shot')}",
                reason=f"data seeds {named} drew the same rows in the same order: they are one draw",
                remedy="Count them as one draw, and give seeds that draw other rows.",
                trials=ids_of(r for r in evidence.done if r.fingerprints.get("draw") == draw),
            )


def find_settings_without_effect(evidence: Evidence) -> Iterator[Finding]:
    """Two variants of one method whose settings differ and whose answers, scores included, never do."""
    for members in group_records(evidence.done).values():
        by_variant: dict[str, dict[tuple[object, ...], Record]] = defaultdict(dict)
        for record in members:
            axes = record.trial
            by_variant[axes.variant][draw_of(record), axes.fit_seed, axes.pattern] = record
        words = {key: str(key) for trials in by_variant.values() for key in trials}
        for first, second in combinations(by_variant.values(), 2):
            shared = sorted(first.keys() & second.keys(), key=words.__getitem__)
            if not shared:
                continue
            one, other = first[shared[0]].trial, second[shared[0]].trial
            changed = sorted(
                k for k in {*one.settings, *other.settings} if one.settings.get(k) != other.settings.get(k)
            )
            if one.method != other.method or not changed:
                continue
            if all(_answer_alike(evidence, first[key], second[key]) for key in shared):
                yield Finding(
                    rule="settings without effect",
                    severity="error",
                    where=format_group([first[shared[0]]]),
                    reason=f"{one.variant} and {other.variant} differ in {', '.join(changed)}, and gave equal scores "
                    f"on every row of {pluralise(len(shared), 'trial')} each",
                    remedy="Find out whether the setting was applied at all (records hold each group's rates and "
                    "tensors); do not report the two as two methods.",
                    trials=ids_of([*(first[key] for key in shared), *(second[key] for key in shared)]),
                )


def find_single_draws(evidence: Evidence) -> Iterator[Finding]:
    """Comparisons that rest on one draw."""
    for members in group_records(evidence.done).values():
        draws = {draw_of(record) for record in members}
        variants = {record.trial.variant for record in members}
        if len(draws) == 1 and len(variants) > 1:
            yield Finding(
                rule="single draw",
                severity="warning",
                where=format_group(members),
                reason=f"{len(variants)} methods compared on one draw: another sample of examples may turn their order",
                remedy="Run more data seeds; five are a start, and six allow an exact test.",
                trials=ids_of(members),
            )


def find_single_supports(evidence: Evidence) -> Iterator[Finding]:
    """Draws that share nearly all their labelled rows: nothing shows how other rows would have done."""
    for members in group_records(evidence.done).values():
        share = max(record.notes.support_share or 0.0 for record in members)
        if share > MOST_SHARED and len({draw_of(record) for record in members}) > 1:
            yield Finding(
                rule="single support",
                severity="warning",
                where=format_group(members),
                reason=f"any two draws share {100 * share:.0f} % of their labelled rows: what others would have given "
                "does not show, and is in no interval or bound",
                remedy="Read them as of these labelled rows alone; or use half of the rows a draw at most.",
                trials=ids_of(members),
            )


def find_unlike_draws(evidence: Evidence) -> Iterator[Finding]:
    """Variants of one comparison that saw other rows under the same data seed."""
    for members in group_records(evidence.done).values():
        draws: dict[int, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
        for record in members:
            draws[record.trial.data_seed][record.fingerprints.get("draw", "")].append(record)
        for seed, found in draws.items():
            if len(found) > 1:
                parties = ["; ".join(sorted({r.trial.variant for r in records})) for records in found.values()]
                yield Finding(
                    rule="unlike draws",
                    severity="error",
                    where=format_group(members),
                    reason=f"under data seed {seed} methods saw different rows ({' against '.join(parties)}), so their "
                    "scores cannot be paired",
                    remedy="Run the study anew in one folder: its rows or its sampling changed between these trials.",
                    trials=ids_of(record for records in found.values() for record in records),
                )


def find_missing_trials(evidence: Evidence) -> Iterator[Finding]:
    """Trials that failed, or were planned and never ran: what is left may be the easy part."""
    if evidence.missing:
        each = ", ".join(f"{variant} ({count})" for variant, count in evidence.missing.items())
        yield Finding(
            rule="missing trials",
            severity="warning",
            where="study",
            reason=f"{pluralise(sum(evidence.missing.values()), 'planned trial')} without a record: {each}",
            remedy="Run `fewtune run` again: it goes on where it stopped.",
        )
    failed: dict[str, list[Record]] = defaultdict(list)
    for record in evidence.records:
        if record.status == "failed":
            failed[format_where(record)].append(record)
    for where, records in failed.items():
        kinds = sorted({r.failure.kind.replace("_", " ") for r in records if r.failure is not None})
        yield Finding(
            rule="missing trials",
            severity="warning",
            where=where,
            reason=f"{pluralise(len(records), 'trial')} failed ({', '.join(kinds)}): no mean counts "
            f"{'it' if len(records) == 1 else 'them'}",
            remedy="Read the reason under failed trials: a method that fails on some draws is worse than its mean.",
            trials=ids_of(records),
        )


def _split(records: Iterable[Record]) -> list[list[Record]]:
    """Records of one task, model, shots, variant and pattern together."""
    cells: dict[tuple[object, ...], list[Record]] = defaultdict(list)
    for record in records:
        axes = record.trial
        key = (axes.task, axes.model, axes.shots, axes.variant, axes.pattern)
        cells[key].append(record)
    return list(cells.values())


def _part_alike(evidence: Evidence, records: Sequence[Record]) -> list[list[Record]]:
    """Part records with equal losses and metrics by the scores of their rows."""
    parts: list[list[Record]] = []
    for record in records:
        part = next((part for part in parts if _answer_alike(evidence, part[0], record)), None)
        if part is None:
            parts.append([record])
        else:
            part.append(record)
    return parts


def _answer_alike(evidence: Evidence, first: Record, second: Record) -> bool:
    if first.metrics != second.metrics or first.notes.fit.losses != second.notes.fit.losses:
        return False
    return evidence.reader.digest(first.trial_id) == evidence.reader.digest(second.trial_id)
