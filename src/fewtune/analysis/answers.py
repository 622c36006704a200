"""Each variant's predictions as arrays, aligned by draw and test set so that variants can be paired.

Owns putting trials together: fit seeds beside each other, labels as indices that all variants of a group share. Does
not know how they are read (`predictions`) or what is done with them (`inference`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from pathlib import Path

import numpy as np

from fewtune.analysis.leaderboard import draw_of, keep_whole_draws
from fewtune.analysis.predictions import AnswerReader, Codes, TrialAnswers
from fewtune.errors import RecordError
from fewtune.inference.answers import DrawAnswers, DrawKey, MethodAnswers
from fewtune.records import Record, predictions_path


def keep_fullest(names: Iterable[str], draws: Mapping[str, Sized]) -> list[str]:
    """Those with the most draws: one that has few may have the easy ones."""
    counts = {name: len(draws[name]) for name in names}
    return [name for name, count in counts.items() if count == max(counts.values())]


def read_answers(
    members: Iterable[Record],
    reader: AnswerReader,
    test_sets: Sequence[str],
    name: Callable[[Record], str] = lambda record: record.trial.variant,
) -> dict[str, MethodAnswers]:
    """Read scored trials: name -> draw -> test set -> answers; those that lack a test set or a whole draw are left out.

    Trials of one draw and name are fit seeds of one another. Raises RecordError where trials of one draw were scored on
    unlike rows.
    """
    trials: dict[str, list[Record]] = {}
    for record in members:
        scored = all(record.primary_metric in record.metrics.get(test_set, {}) for test_set in test_sets)
        if record.status == "done" and scored:
            trials.setdefault(name(record), []).append(record)
    found: dict[str, dict[DrawKey, list[dict[str, TrialAnswers]]]] = {}
    whole: dict[DrawKey, tuple[Record, dict[str, TrialAnswers]]] = {}
    shares: dict[DrawKey, float] = {}
    for variant, records in trials.items():
        draws = found.setdefault(variant, {})
        for record in keep_whole_draws(records):
            answers = reader.answers(record)
            _check_pairs(*whole.setdefault(draw_of(record), (record, answers)), record, answers)
            draws.setdefault(draw_of(record), []).append(answers)
            # Records of before it was noted say nothing of it, and leave what others say of the draw.
            shares[draw_of(record)] = max(shares.get(draw_of(record), 0.0), record.notes.support_share or 0.0)
    flat = [trial for draws in found.values() for seeds in draws.values() for trial in seeds]
    labels = {test_set: _list_codes([trial[test_set] for trial in flat]) for test_set in test_sets}
    return {
        variant: {
            draw: {
                test_set: _stack([trial[test_set] for trial in seeds], labels[test_set], shares[draw])
                for test_set in test_sets
            }
            for draw, seeds in draws.items()
        }
        for variant, draws in found.items()
    }


def can_pair(done: Iterable[Record], reader: AnswerReader) -> bool:
    """Whether all scored trials of one draw have the same rows and gold labels."""
    first: dict[DrawKey, Record] = {}
    pairs = ((first.setdefault(draw_of(record), record), record) for record in done)
    return all(_find_unlike(one, reader.answers(one), other, reader.answers(other)) is None for one, other in pairs)


def answer_commonest(answers: MethodAnswers) -> MethodAnswers:
    """Always the commonest gold label of the test rows, on the draws and test sets of these answers."""
    return {draw: {name: answer_majority(rows) for name, rows in sets.items()} for draw, sets in answers.items()}


def answer_majority(rows: DrawAnswers) -> DrawAnswers:
    """Always the commonest gold label of these rows, the first of equally common ones."""
    commonest = int(np.bincount(rows.gold, minlength=rows.labels).argmax())
    return replace(rows, predicted=np.full((1, len(rows.gold)), commonest, dtype=rows.gold.dtype))


def _check_pairs(first: Record, one: dict[str, TrialAnswers], second: Record, other: dict[str, TrialAnswers]) -> None:
    """Refuse trials of one draw whose rows or gold labels differ: they cannot be paired row by row."""
    test_set = _find_unlike(first, one, second, other)
    if test_set is not None:
        paths = [predictions_path(Path(), record.trial_id) for record in (first, second)]
        raise RecordError(
            f"{paths[1]}: other rows of {test_set!r:.80}, or other gold labels, than {paths[0]} of the same draw. "
            "Delete the one that was changed and run the study again: it repeats this trial alone."
        )


def _find_unlike(
    first: Record, one: dict[str, TrialAnswers], second: Record, other: dict[str, TrialAnswers]
) -> str | None:
    """The first test set of which two trials have other rows or gold labels; None where all are alike."""
    for test_set in first.metrics.keys() & second.metrics.keys():
        pairs = ((one[test_set].rows, other[test_set].rows), (one[test_set].gold, other[test_set].gold))
        if not all(a is b or np.array_equal(a, b) for a, b in pairs):
            return test_set
    return None


def _list_codes(trials: Sequence[TrialAnswers]) -> Codes:
    """The codes that occur, in order."""
    sides = {id(side): side for trial in trials for side in (trial.gold, trial.predicted)}  # trials share gold labels
    counts = np.bincount(np.concatenate(list(sides.values()))) if sides else np.zeros(0, dtype=np.int64)
    return np.flatnonzero(counts).astype(np.uint32)


def _stack(seeds: Sequence[TrialAnswers], codes: Codes, shared_support: float) -> DrawAnswers:
    gold, predicted = seeds[0].gold, np.stack([trial.predicted for trial in seeds])
    small = np.min_scalar_type(len(codes))
    apart = len(codes) > 0 and codes[-1] >= len(codes)  # else each code is its own place
    places = [(codes.searchsorted(side) if apart else side).astype(small) for side in (gold, predicted)]
    return DrawAnswers(places[0], places[1], len(codes), seeds[0].rows, shared_support)
