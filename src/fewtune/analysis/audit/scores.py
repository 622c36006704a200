"""Audit rules for scores at chance level, and for training rows from which nothing can be learnt.

Owns the rules about scores beside what costs nothing: the majority class, one label only, the untaught student.
Source: in arXiv 2405.13181 no CoLA score beats the majority label, all HANS means are chance, the teacher is untrained.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from fewtune.analysis.audit.finding import Evidence, Finding, format_group, format_where, ids_of
from fewtune.analysis.leaderboard import IN_DOMAIN, draw_of, gives_one_answer, group_records, score_majority
from fewtune.plurals import pluralise
from fewtune.records import Record

NEAR = 1e-9
"""Differences of scores up to this are rounding errors."""


def find_scores_at_majority(evidence: Evidence) -> Iterator[Finding]:
    """Methods whose mean is not above the majority class's; an error where that is all methods in domain."""
    for members in group_records(evidence.done).values():
        scored = [record for record in members if record.trial.model is not None]
        low = [found for name in _list_sets(scored) if (found := _find_low(scored, name)) is not None]
        if not low:
            continue
        yield Finding(
            rule="at the majority",
            severity="error" if any(each.all_methods and each.test_set == IN_DOMAIN for each in low) else "warning",
            where=format_group(scored),
            reason="not above always answering the majority class: " + "; ".join(each.words for each in low),
            remedy="Nothing can be concluded from the order of such scores: what looks like a better method is a "
            "better guess of the label shares. Give it more examples, a larger model or a task that it can learn.",
            trials=ids_of(record for each in low for record in each.records),
        )


def find_one_answer(evidence: Evidence) -> Iterator[Finding]:
    """Trials that gave one label to every row in domain."""
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in evidence.done:
        if record.trial.model is not None:
            cells[format_where(record)].append(record)
    for where, records in cells.items():
        stuck = [
            record for record in records if IN_DOMAIN in record.metrics and gives_one_answer(record, evidence.reader)
        ]
        if stuck:
            yield Finding(
                rule="one answer",
                severity="warning",
                where=where,
                reason=f"{len(stuck)} of {pluralise(len(records), 'trial')} gave every row in domain the same label",
                remedy="Its mean mixes trials that learnt with trials that did not: read the share of collapsed trials "
                "beside it; more steps or another rate may help.",
                trials=ids_of(stuck),
            )


def find_idle_teachers(evidence: Evidence) -> Iterator[Finding]:
    """Teachers that are no better in domain than the student before it was taught."""
    cells: dict[str, list[Record]] = defaultdict(list)
    for record in evidence.done:
        both = [_read_reference(record, name).get(IN_DOMAIN, {}) for name in ("teacher", "untaught_student")]
        if all(record.primary_metric in scores for scores in both):
            cells[format_where(record)].append(record)
    for where, records in cells.items():
        metric = records[0].primary_metric
        teacher, student = (
            fmean(_read_reference(record, name)[IN_DOMAIN][metric] for record in records)
            for name in ("teacher", "untaught_student")
        )
        if teacher <= student:
            several = len({draw_of(record) for record in records}) > 1
            yield Finding(
                rule="idle teacher",
                severity="error" if several else "warning",
                where=where,
                reason=f"the teacher's {metric} in domain, {teacher:.3f} over {pluralise(len(records), 'trial')}, is "
                f"not above the untaught student's, {student:.3f}: there was nothing to teach",
                remedy="Give the teacher a context that helps it, a calibration or a larger model; measure it first.",
                trials=ids_of(records),
            )


@dataclass(frozen=True)
class _Low:
    test_set: str
    all_methods: bool
    words: str
    records: tuple[Record, ...]


def _list_sets(records: list[Record]) -> list[str]:
    return sorted({name for record in records for name in record.metrics}, key=lambda name: (name != IN_DOMAIN, name))


def _find_low(members: list[Record], test_set: str) -> _Low | None:
    """The methods at or below the majority on a test set; None where there are none."""
    variants: dict[str, list[Record]] = defaultdict(list)
    for record in members:
        if record.primary_metric in record.metrics.get(test_set, {}) and score_majority(record, test_set) is not None:
            variants[record.trial.variant].append(record)
    low = {name: records for name, records in variants.items() if _margin(records, test_set) <= NEAR}
    if not low:
        return None
    flat = tuple(record for records in low.values() for record in records)
    # As in the leaderboard's head: of all trials, whichever are told.
    majority = fmean(score_majority(record, test_set) or 0.0 for records in variants.values() for record in records)
    each = ", ".join(
        f"{name} {fmean(r.metrics[test_set][r.primary_metric] for r in records):z.3f}" for name, records in low.items()
    )
    place = "in domain" if test_set == IN_DOMAIN else f"on {test_set}"
    who = f"all methods ({each})" if len(low) == len(variants) else each
    words = f"{place}, {flat[0].primary_metric} {majority:z.3f}: {who}"
    return _Low(test_set, len(low) == len(variants), words, flat)


def _margin(records: list[Record], test_set: str) -> float:
    return fmean(r.metrics[test_set][r.primary_metric] - (score_majority(r, test_set) or 0.0) for r in records)


def _read_reference(record: Record, name: str) -> dict[str, dict[str, float]]:
    found = record.notes.references.get(name)
    return found.metrics if found is not None else {}
