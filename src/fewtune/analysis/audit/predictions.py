"""Audit rules for scores that disagree with the predictions stored beside them.

Owns the rule that a record and its predictions belong together. Source: tables edited by hand, or filled from the files
of another run, which nobody can tell from the numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from fewtune.analysis.audit.finding import Evidence, Finding, format_where, ids_of
from fewtune.analysis.leaderboard import name_test_set
from fewtune.analysis.predictions import AnswerReader, TrialAnswers
from fewtune.metrics.counts import score_all
from fewtune.plurals import pluralise
from fewtune.records import Record

NEAR = 1e-6
"""Scores this near are one: a record has them to the last digit."""


def find_scores_of_other_answers(evidence: Evidence) -> Iterator[Finding]:
    """Trials whose recorded scores are not what their predictions give."""
    cells: dict[str, list[tuple[Record, str]]] = defaultdict(list)
    for record in evidence.done:
        if (said := _find_other_score(record, evidence.reader)) is not None:
            cells[format_where(record)].append((record, said))
    for where, found in cells.items():
        yield Finding(
            rule="other answers",
            severity="error",
            where=where,
            reason=f"{pluralise(len(found), 'trial')} with scores that the predictions beside do not give "
            f"({found[0][1]})",
            remedy="A record or its predictions were changed or mixed up after the run. Delete them and run the study "
            "again: it repeats these trials alone.",
            trials=ids_of(record for record, _ in found),
        )


def _find_other_score(record: Record, reader: AnswerReader) -> str | None:
    """Format the first score that the predictions do not give; None where all are theirs."""
    answers = reader.answers(record)
    for test_set, metrics in record.metrics.items():
        counts = _count(answers[test_set])
        for metric, given in score_all(counts, metrics).items():
            if not abs(given - metrics[metric]) <= NEAR:
                return (
                    f"{name_test_set(test_set)}, {metric} {metrics[metric]:z.3f} recorded and {given:z.3f} by its rows"
                )
    return None


def _count(answers: TrialAnswers) -> np.ndarray:
    """Rows by gold and predicted label, (labels, labels)."""
    codes = np.flatnonzero(np.bincount(np.concatenate([answers.gold, answers.predicted])))
    gold, predicted = (np.searchsorted(codes, side) for side in (answers.gold, answers.predicted))
    return np.bincount(gold * len(codes) + predicted, minlength=len(codes) ** 2).reshape(len(codes), len(codes))
