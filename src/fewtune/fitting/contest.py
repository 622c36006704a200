"""The contest of candidates over folds of all rows within a time budget: which fit is next, and when it ends.

Owns the order. What trains no network is judged on all folds first. Each other candidate then has a first fold, in the
portfolio's order; but whoever is the best bet to the tolerance, and can be judged on all rows in time, is before
another one is begun. After that the fold is fitted next that is expected to gain most a second: of a candidate that may
be above the best bet, or of the best bet itself. What could not be fitted on all rows in the time that is left is not
tried further, and a fit that turns out so is ended. Where the best bet is better the longer it trains, no other one
takes the time that its longest last fit needs. A candidate beyond the limits of the saved model is left out at its
first fold. The cheapest candidate that keeps within them has a model in any case.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fewtune.engine import heartbeat
from fewtune.errors import FewtuneError, UnwrittenError
from fewtune.fitting.candidates import Candidate, CandidateLeftOut
from fewtune.fitting.clock import Clock
from fewtune.fitting.events import Dropped, FittingEvent, FoldBegun, FoldEnded
from fewtune.fitting.fold_answers import FoldAnswers, WorkFolder
from fewtune.fitting.prior import find_prior
from fewtune.fitting.standing import Answered, Standings, compare
from fewtune.fitting.terms import Terms
from fewtune.predictors.predictor import Predictor
from fewtune.report.wording import format_seconds
from fewtune.running.fit_rows import OnStep
from fewtune.system.failure_kinds import find_failure_kind
from fewtune.tasks.base import Task

if TYPE_CHECKING:
    from fewtune.engine.resuming import Resumption

LEAST_GAIN = 5e-4
"""Nothing more is fitted where no candidate is expected to be this much above the best bet: a twentieth of a point."""
SPARE = 1.2
"""The last fit is thought to take so many times what the folds' fits say."""
PACES = 3
"""Steps are timed so often before it is foreseen what the others take: the first few may take long."""
PROBED_ROWS = 64
"""Rows that are read to learn what reading all of them takes, where these are MANY_TIMES as many or more."""
MANY_TIMES = 8
Fit = Callable[[Candidate, Sequence[int], OnStep, "Resumption | None"], Predictor]
"""A candidate fitted on the rows at some places, and where a fit of them that was killed stands."""
Describe = Callable[[Candidate, int | None], dict[str, Any]]
"""All that decides what a candidate's model of a fold answers, by the fold's place; None: of all rows."""


class OutOfTimeError(Exception):
    """A fit takes longer than there is time for, or than it may; its message says so."""


@dataclass
class CandidateState:
    """A candidate and what its folds' models answered, by the fold's place."""

    candidate: Candidate
    answers: dict[int, FoldAnswers] = field(default_factory=dict)
    left_out: CandidateLeftOut | None = None
    closed: bool = False
    """It has no further fold: there was no time for the last one that was begun."""
    costs: list[FoldAnswers] = field(default_factory=list)
    """What folds took of all variants that read the same prompts: what one reads another finds kept."""

    def take(self, fold: int, answers: FoldAnswers) -> None:
        """Have a fold's answers."""
        self.answers[fold] = answers
        self.costs.append(answers)

    def count_fit_seconds(self) -> float:
        """The median time of a fold's fit."""
        return float(np.median([each.fit_seconds for each in self.answers.values()]))

    def count_alone_seconds(self) -> float:
        """The time of a fit by itself: of frozen features the longest, for later ones find states kept."""
        return self.count_fit_seconds() if self.candidate.trains else max(each.fit_seconds for each in self.costs)

    def count_row_seconds(self) -> float:
        """Seconds to answer a row: the most that any fold took, for later ones find some answers kept."""
        return max(each.seconds_a_row for each in self.costs)


class Contest:
    """Candidates over folds (places of the rows tested, each) of a task's rows."""

    def __init__(
        self,
        task: Task,
        candidates: Sequence[Candidate],
        folds: Sequence[npt.NDArray[np.int64]],
        terms: Terms,
        clock: Clock,
        work: WorkFolder,
        hear: Callable[[FittingEvent], None],
    ) -> None:
        costs: dict[tuple[str, str | None, str], list[FoldAnswers]] = {}
        self.entries = [CandidateState(each, costs=costs.setdefault(each.prompts, [])) for each in candidates]
        self.gold = np.array([row.label for row in task.train], dtype=np.int64)
        self._task, self._folds, self._terms = task, list(folds), terms
        self._clock, self._work, self._hear = clock, work, hear
        texts = len(task.fields)
        self.priors = {each.name: find_prior(each.kind, len(self.gold), texts) for each in candidates}
        """What other files say of each candidate, by its name."""
        self._stood: Standings | None = None
        """How they stand; None where that has changed since."""

    def take_kept(self, describe: Describe) -> dict[str, int]:
        """Take over what an earlier command kept; how many folds that was, by candidate."""
        self._describe, seconds = describe, 0.0
        for entry in self.entries:
            for place in range(len(self._folds)):
                kept = self._work.load(describe(entry.candidate, place))
                if kept is not None:
                    entry.take(place, kept)
                    seconds += kept.seconds
        command = {"candidates": [describe(entry.candidate, None) for entry in self.entries]}
        self._clock.go_on(self._work, command, seconds)
        return {entry.candidate.name: len(entry.answers) for entry in self.entries if entry.answers}

    def resume(self, candidate: Candidate, fold: int | None) -> Resumption | None:
        """Where a fit of a fold, or None: of all rows, stands that an earlier command began."""
        return self._work.resume(self._describe(candidate, fold)) if candidate.trains else None

    def stand(self) -> Standings:
        """How the candidates stand that answered some fold; there must be one."""
        if self._stood is None:
            answered, labels, metric = self.list_answered(), len(self._task.labels), self._task.primary_metric
            self._stood = compare(answered, self.gold, labels, metric, self._terms.within, self.priors)
        return self._stood

    def list_answered(self) -> dict[str, Answered]:
        """What each candidate answered, by its name."""
        return {entry.candidate.name: self.join(entry) for entry in self.entries if entry.answers}

    def is_whole(self, entry: CandidateState) -> bool:
        """Whether a candidate answered all folds."""
        return len(entry.answers) == len(self._folds)

    def count_judged(self) -> int:
        """How many rows the folds answer together: all but single rows of a label."""
        return sum(map(len, self._folds))

    def count_folds(self) -> int:
        """How many folds there are."""
        return len(self._folds)

    def number_folds(self) -> npt.NDArray[np.int64]:
        """Which fold each row is in, (rows,); -1 where none answers it."""
        found = np.full(len(self.gold), -1, dtype=np.int64)
        for place, rows in enumerate(self._folds):
            found[rows] = place
        return found

    def join(self, entry: CandidateState) -> Answered:
        """All that an entry's folds answered, by row."""
        taken = sorted(entry.answers)
        places = np.concatenate([self._folds[place] for place in taken])
        scores = np.concatenate([entry.answers[place].log_probabilities for place in taken])
        order = np.argsort(places)
        return Answered(places[order], scores[order])

    def find(self, name: str) -> CandidateState:
        """The entry of a candidate's name."""
        return next(entry for entry in self.entries if entry.candidate.name == name)

    def foresee_last_fit(self, entry: CandidateState) -> float:
        """Seconds that a fit on all rows takes."""
        rows = len(self._task.train)
        fitted = rows - np.mean([len(self._folds[place]) for place in entry.answers])
        # What may train longer reads as much of many rows as of few; features of all rows are found kept.
        growth = rows / fitted if entry.candidate.trains and len(entry.candidate.lengths) == 1 else 1.0
        return SPARE * float(growth) * entry.count_fit_seconds()

    def choose_length(self, entry: CandidateState, left: float) -> int:
        """How many times as long as for a fold it is fitted on all rows, where so many seconds are left for that."""
        if not entry.answers:
            return 1
        once = self.foresee_last_fit(entry)
        most = min(left, self._terms.limits.fit_seconds)
        return max((times for times in entry.candidate.lengths if times * once <= most), default=1)

    def hold(self, fit: Fit) -> None:
        """Fit folds until nothing is to be gained or no time is left; raises FewtuneError where none can be fitted."""
        while (chosen := self._choose_next()) is not None:
            entry, fold = chosen
            self._fit_fold(fit, entry, fold)
        if not self._any_answered():
            reasons = [f"{each.left_out.name}: {each.left_out.reason}" for each in self.entries if each.left_out]
            raise FewtuneError("no candidate could be fitted. " + " ".join(reasons))
        for entry in self.entries:
            if not entry.answers and entry.left_out is None:
                self._leave_out(entry, "no time was left for it.")

    def _choose_next(self) -> tuple[CandidateState, int] | None:
        for entry in self.entries:
            self._hold_to_limits(entry)
        open_ones = [
            e for e in self.entries if e.left_out is None and not e.closed and len(e.answers) < len(self._folds)
        ]
        next_new = next((e for e in open_ones if self._is_new(e) and self._has_time(e) and self._spares(e)), None)
        if not self._any_answered():
            next_new = next(iter(open_ones), None)
        if next_new is not None and not (next_new.candidate.trains and self._any_answered()):
            return next_new, self._next_fold(next_new)
        if not self._any_answered():
            return None
        begun = [e for e in open_ones if not self._is_new(e) and self._has_time(e) and self._spares(e)]
        chosen = self._choose_begun(begun if next_new is None else [e for e in begun if self._is_level(e)])
        chosen = next_new if chosen is None else chosen
        return None if chosen is None else (chosen, self._next_fold(chosen))

    def _choose_begun(self, begun: Sequence[CandidateState]) -> CandidateState | None:
        """Whose further fold is expected to gain most a second; None where none of them is expected to gain."""
        standings = self.stand()
        best = self.find(standings.best.name)
        gains = {each.name: each.gain for each in standings.standings}
        gains[best.candidate.name] = max(gains.values())
        ranked = sorted(begun, key=lambda e: -gains[e.candidate.name] / max(e.count_fit_seconds(), 0.01))
        if ranked and (gains[ranked[0].candidate.name] >= LEAST_GAIN or ranked[0] is best):
            return ranked[0]
        # The best bet is judged on all rows, whoever else may gain: its temperature and its card are of them.
        return best if best in ranked else None

    def _is_new(self, entry: CandidateState) -> bool:
        """Whether a candidate has its first turn still: of frozen features all folds, of whatever trains one."""
        return not (entry.answers and entry.candidate.trains)

    def _any_answered(self) -> bool:
        return any(entry.answers for entry in self.entries)

    def _next_fold(self, entry: CandidateState) -> int:
        return next(place for place in range(len(self._folds)) if place not in entry.answers)

    def _has_time(self, entry: CandidateState) -> bool:
        """Whether a further fold leaves time for the last fit of the best bet, or of this one should it become that."""
        if self._clock.seconds is None:
            return True
        wanted = entry.count_fit_seconds() if entry.answers else self._guess_fit_seconds(entry)
        last = self.foresee_last_fit(entry) if entry.answers else SPARE * wanted
        last = max(last, self._foresee_best())
        begun = self.resume(entry.candidate, self._next_fold(entry))
        done = 0.0 if begun is None else min(wanted, begun.read_seconds())
        return self._clock.left() > wanted - done + last

    def _spares(self, entry: CandidateState) -> bool:
        """Whether all its folds leave time for the longest last fit of the best bet, where that is another one.

        What so much longer training gains is more than another candidate may be expected to.
        """
        if not (entry.candidate.trains and self._any_answered()):
            return True
        best = self.find(self.stand().best.name)
        if best is entry or len(best.candidate.lengths) == 1:
            return True
        wanted = entry.count_fit_seconds() if entry.answers else self._guess_fit_seconds(entry)
        folds = len(self._folds) - len(entry.answers)
        return self._clock.left() > folds * wanted + best.candidate.lengths[-1] * self.foresee_last_fit(best)

    def _is_level(self, entry: CandidateState) -> bool:
        """Whether a candidate is the best bet to the tolerance, and can be judged on all rows in the time left."""
        standings, folds = self.stand(), len(self._folds) - len(entry.answers)
        if standings.find(entry.candidate.name).expected_loss > standings.best.expected_loss + self._terms.within:
            return False
        last = max(self.foresee_last_fit(entry), self._foresee_best())
        return self._clock.left() > folds * entry.count_fit_seconds() + last

    def _guess_fit_seconds(self, entry: CandidateState) -> float:
        """What a first fit takes at the least: as long as the fastest of its kind, or as any that trains no network."""
        answered = [each for each in self.entries if each.answers]
        alike = [each for each in answered if each.candidate.trains == entry.candidate.trains]
        if alike or not entry.candidate.trains:
            return min((each.count_alone_seconds() for each in alike), default=0.0)
        return max((each.count_alone_seconds() for each in answered), default=0.0)

    def _fit_fold(self, fit: Fit, entry: CandidateState, fold: int) -> None:
        name, left = entry.candidate.name, self._folds[fold]
        self._hear(FoldBegun(name, fold + 1, len(self._folds)))
        kept = np.setdiff1d(np.arange(len(self._task.train)), left)
        resumption, began = self.resume(entry.candidate, fold), time.perf_counter()
        try:
            with heartbeat.heard_by(self._hold_to_time):
                if not entry.answers and not entry.candidate.trains:
                    self._probe(fit, entry)
                predictor = fit(entry.candidate, kept.tolist(), self._watch(began, len(kept)), resumption)
                fitted = time.perf_counter()
                found = predictor.log_probabilities([self._task.train[place].without_label() for place in left])
        except OutOfTimeError as error:
            entry.closed = True
            if not entry.answers:
                self._leave_out(entry, str(error))
            return
        except Exception as error:
            self.drop(entry, error)
            return
        finally:
            if entry.candidate.trains:
                gc.collect()  # or the next network would stand beside this one
        if not np.isfinite(found).all():
            self.drop(entry, FewtuneError("its answers are no numbers."))
            return
        answered = time.perf_counter()
        earlier = 0.0 if resumption is None else resumption.seconds
        answers = FoldAnswers(found, fitted - began + earlier, (answered - fitted) / len(left))
        del predictor
        entry.take(fold, answers)
        self._stood = None
        self._work.keep(self._describe(entry.candidate, fold), answers)
        if resumption is not None:
            resumption.remove()
        self._clock.keep()
        self._hear(FoldEnded(name, fold + 1, len(self._folds), answered - began, self.stand()))

    def _probe(self, fit: Fit, entry: CandidateState) -> None:
        """Raise OutOfTimeError where a frozen network would take too long to read all rows, by what some take.

        What it read is kept, so that nothing is lost where there is time. The first candidate is fitted in any case.
        """
        rows, endless = len(self._task.train), math.isinf(self._clock.left())
        if entry.candidate.model is None or rows < MANY_TIMES * PROBED_ROWS or endless or not self._any_answered():
            return
        mixed = np.random.default_rng(self._terms.seed).permutation(rows)
        mixed = mixed[np.argsort(_count_before(self.gold[mixed]), kind="stable")]  # of each label one, then another one
        times = []
        # The first loads the model besides, and the last finds all rows read: what it takes the second took as well.
        for count in (PROBED_ROWS, 2 * PROBED_ROWS, 2 * PROBED_ROWS):
            began = time.perf_counter()
            fit(entry.candidate, mixed[:count].tolist(), lambda step, steps, loss: None, None)
            times.append(time.perf_counter() - began)
        seconds = max(0.0, times[1] - times[2]) / PROBED_ROWS * rows
        if seconds > self._clock.left() - self._foresee_best():
            raise OutOfTimeError(f"reading all rows takes about {format_seconds(seconds)}: more than is left.")

    def _foresee_best(self) -> float:
        """Seconds that the last fit of the best bet takes; none where there is none yet."""
        return self.foresee_last_fit(self.find(self.stand().best.name)) if self._any_answered() else 0.0

    def _hold_to_time(self) -> None:
        """Raise OutOfTimeError where no more is left than the last fit takes, unless there is no candidate for that."""
        self._clock.keep()
        if self._any_answered() and self._clock.left() < self._foresee_best():
            raise OutOfTimeError("no time was left for all of it.")

    def _hold_to_limits(self, entry: CandidateState) -> None:
        """Leave out a candidate whose folds show that it takes longer than the saved model may."""
        if not entry.answers:
            return
        limits, row, fit = self._terms.limits, entry.count_row_seconds(), self.foresee_last_fit(entry)
        if row > limits.row_seconds:
            self._forget(entry, f"it takes {1e3 * row:.3g} ms a row, above {1e3 * limits.row_seconds:.3g} ms.")
        elif fit > limits.fit_seconds:
            self._forget(entry, _format_long_fit(fit, limits.fit_seconds))

    def drop(self, entry: CandidateState, error: Exception) -> None:
        """Leave out a candidate that cannot be fitted, whatever it answered; what is no reason for that is raised."""
        out_of_memory = find_failure_kind(error) == "out_of_memory"
        if not out_of_memory and (isinstance(error, UnwrittenError) or not isinstance(error, FewtuneError)):
            raise error
        self._forget(entry, "memory did not suffice for it." if out_of_memory else str(error))

    def _forget(self, entry: CandidateState, reason: str) -> None:
        entry.answers.clear()
        self._stood = None
        self._leave_out(entry, reason)

    def _leave_out(self, entry: CandidateState, reason: str) -> None:
        entry.left_out = CandidateLeftOut(entry.candidate.name, reason)
        self._hear(Dropped(entry.left_out))

    def _watch(self, began: float, rows: int) -> OnStep:
        """Ends a fit that could not be repeated on all rows in what is left after it."""
        left, most = self._clock.left() if self._any_answered() else math.inf, self._terms.limits.fit_seconds
        if math.isinf(left) and math.isinf(most):
            return lambda step, steps, loss: None
        growth = len(self._task.train) / rows
        last_step, ended, paces = 0, began, list[float]()

        def hear(step: int, steps: int, loss: float) -> None:
            nonlocal last_step, ended
            now = time.perf_counter()
            if step <= last_step:  # of another fit, where this one collapsed
                paces.clear()
            elif last_step:  # the first step is none: it takes long for what is made once
                paces.append(now - ended)
            last_step, ended = step, now
            pace = float(np.median(paces)) if len(paces) >= PACES else 0.0
            this = now - began + pace * (steps - step)
            last = growth * max(now - began, pace * steps)
            if (this + last > left or last > most) and step < steps:
                whole = steps * float(np.median(paces)) if paces else now - began
                raise OutOfTimeError(_format_long_fit(growth * max(whole, now - began), most))

        return hear


def _format_long_fit(seconds: float, most: float) -> str:
    told = f"one fit on all rows takes about {format_seconds(seconds)}: "
    return told + ("more than is left." if seconds <= most else f"more than the {format_seconds(most)} it may.")


def _count_before(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many rows of its label stand before each row, (rows,)."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    before = np.empty(len(labels), dtype=np.int64)
    before[order] = np.arange(len(labels)) - np.repeat(starts, np.diff([*starts, len(labels)]))
    return before
