"""A race: a study's trials, look by look, until its decisions stand.

Owns which trials each look is of, which methods stop, and when the race of a task and number of shots is over. Does not
know where trials run or how a look is shown. Each task and number of shots is a race of its own, with its own error.

A look decides on the records of its draws alone, at a level that was fixed before: a race that was interrupted takes
the same looks again and goes on as one that was not. A method stops where it is below another beyond doubt, at the
level of that look, unless it is near enough to the best to be chosen, or may be near enough to one that failed and
cannot be; it stays among those that the others are compared with, on the draws that it has. The one that is truly the
best is stopped in at most as many races as may be wrong; of equal ones some may be, which costs nothing.
Relatives: FIESTA (Moss et al. 2019, https://doi.org/10.18653/v1/P19-1281); Kim and Nelson 2001,
https://doi.org/10.1145/502109.502111
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewtune.analysis.decision import Contender, Decision
from fewtune.analysis.leaderboard import rank_variants
from fewtune.analysis.looks import name_outcome, plan_further_looks, plan_looks
from fewtune.analysis.predictions import AnswerReader
from fewtune.analysis.recommend import Terms, decide_cell, name_contender
from fewtune.analysis.regret import FEWEST_DRAWS
from fewtune.analysis.study import FolderContents, read_folder
from fewtune.records import LookHistory, Record, StudyPredictions, list_written, write_looks
from fewtune.running.circumstances import describe_axes
from fewtune.running.job import Job
from fewtune.running.looks import Place, begin_looks, count_whole, make_look, note_look


@dataclass(frozen=True)
class Standing:
    """Where the race of one task and number of shots stands after a look: its decision, and the methods that stopped.

    `stopped` says why, by the method's name; `running` are those that go on, none where the race is over.
    """

    decision: Decision
    stopped: Mapping[str, str]
    running: tuple[str, ...]


class Race:
    """The races of a study in its output folder, which is held."""

    def __init__(self, jobs: Sequence[Job], seeds: Sequence[int], out: Path, reused: Collection[Record]) -> None:
        """`jobs` are all trials that the races may need, `seeds` their draws in order; `reused` is done already."""
        self._jobs, self._seeds, self._out = jobs, seeds, out
        self._history = begin_looks(out, plan_looks(len(seeds)), reused)
        self.looks = plan_further_looks(self._history, len(seeds))
        """The draws of each look."""
        self._places = {place: _list_contenders(jobs, place) for place in dict.fromkeys(map(_find_place, jobs))}
        self._stopped: dict[Place, dict[str, str]] = {place: {} for place in self._places}
        self._open = set(self._places)

    @property
    def is_over(self) -> bool:
        """Whether no race goes on."""
        return not self._open

    def list_jobs(self, draws: int) -> list[Job]:
        """The trials of a look after so many draws: of races that go on, those of the methods that do."""
        seeds = set(self._seeds[:draws])
        return [
            job
            for job in self._jobs
            if (place := _find_place(job)) in self._open
            and job.trial.data_seed in seeds
            and self._places[place][job.trial_id] not in self._stopped[place]
        ]

    def list_looked_at(self) -> list[Job]:
        """The trials of the looks that were taken in this folder so far."""
        drawn = {
            place: set(self._seeds[: max((look.draws for look in self._history.of(*place)), default=0)])
            for place in self._places
        }
        return [job for job in self._jobs if job.trial.data_seed in drawn[_find_place(job)]]

    def list_stopped(self, draws: int) -> list[tuple[Job, str]]:
        """The trials of a look after so many draws that do not run, their methods having stopped; with the reasons."""
        seeds = set(self._seeds[:draws])
        return [
            (job, self._stopped[place][name])
            for job in self._jobs
            if (place := _find_place(job)) in self._open
            and job.trial.data_seed in seeds
            and (name := self._places[place][job.trial_id]) in self._stopped[place]
        ]

    def look(self, draws: int) -> list[Standing]:
        """Look at each race that goes on, all trials of the look being recorded, and write down that it was."""
        return self._look({place: draws for place in self._places if place in self._open})

    def look_early(self) -> list[Standing]:
        """Look at each race that goes on once more, at the draws that all its methods have by now; then it is over.

        Where no further draw is whole, the last look is taken again with all of the error that the plan has left.
        """
        if not list_written(self._out):  # nothing ran in the time
            self._open.clear()
            return []
        have = {r.trial_id for r in read_folder(self._out).records if r.status != "stopped"}
        draws = {}
        for place in [place for place in self._places if place in self._open]:
            whole = self._count_whole(place, have)
            taken = max((look.draws for look in self._history.of(*place)), default=FEWEST_DRAWS)
            if whole >= taken:
                draws[place] = whole
        standings = self._look(draws, is_last=True)
        self._open.clear()
        return [replace(standing, running=()) for standing in standings]

    def _look(self, draws: Mapping[Place, int], is_last: bool = False) -> list[Standing]:
        if not draws:
            return []
        contents = read_folder(self._out)
        reader = AnswerReader(StudyPredictions(self._out))
        standings = [self._look_at(place, count, contents, reader, is_last) for place, count in draws.items()]
        write_looks(self._out, self._history)
        return standings

    def _look_at(
        self, place: Place, draws: int, contents: FolderContents, reader: AnswerReader, is_last: bool
    ) -> Standing:
        seeds = set(self._seeds[:draws])
        records = [r for r in contents.records if (r.trial.task, r.trial.shots) == place and r.trial.data_seed in seeds]
        names = tuple(dict.fromkeys(self._places[place].values()))
        cells = {name_outcome(record.trial_id, record.status): record.trial.cell for record in records}
        look = make_look(self._history, draws, cells, self._stopped[place], is_last)
        taken = (*(other for other in self._history.of(*place) if other.draws < draws), look)
        looks = LookHistory(plan=self._history.plan, looks=taken)
        terms = Terms(contents.within, looks=looks, seeds=tuple(self._seeds))
        decision = decide_cell(rank_variants(records, reader), records, reader, terms)
        self._stopped[place] = {
            **_find_stopped(decision, len(taken), names, self._stopped[place]),
            **self._stopped[place],
        }
        self._history = note_look(self._history, look.model_copy(update={"stopped": dict(self._stopped[place])}))
        going = [name for name in names if name not in self._stopped[place]]
        able = {each.name for each in decision.contenders if each.excluded is None}
        if decision.chosen is not None or draws == self.looks[-1] or able.isdisjoint(going):
            self._open.discard(place)
            going = []
        return Standing(decision, dict(self._stopped[place]), tuple(going))

    def _count_whole(self, place: Place, have: Collection[str]) -> int:
        """The draws, from the first on, of which every method that goes on has all its trials."""
        names, stopped = self._places[place], self._stopped[place]
        going = [job for job in self._jobs if job.trial_id in names and names[job.trial_id] not in stopped]
        cells = {job.trial_id: describe_axes(job.trial).cell for job in going}
        return count_whole(going, cells, self._seeds, have)


def _find_place(job: Job) -> Place:
    return job.trial.task.label, job.trial.shots


def _list_contenders(jobs: Sequence[Job], place: Place) -> dict[str, str]:
    """The name under which each of a place's trials is compared, by trial id."""
    members = [job for job in jobs if _find_place(job) == place]
    models = {job.trial_id: job.trial.model.name if job.trial.model is not None else None for job in members}
    several = len({name for name in models.values() if name is not None}) > 1
    return {job.trial_id: name_contender(job.trial.method.variant, models[job.trial_id], several) for job in members}


def _is_near_enough(contender: Contender, within: float) -> bool:
    """Whether a method may be chosen though another one is above it."""
    bound = contender.regret.bound if contender.regret is not None and contender.excluded is None else None
    return bound is not None and bound <= within


def _find_stopped(decision: Decision, number: int, names: Collection[str], before: Collection[str]) -> dict[str, str]:
    """Which methods stop at a look, and why; `before` are those that had stopped.

    One below another that cannot be chosen, having failed, goes on while it may be within the tolerance of it.
    """
    unfit = {each.name for each in decision.contenders if each.excluded is not None} - set(before)
    found = {}
    for each in decision.contenders:
        if each.name not in names or _is_near_enough(each, decision.question.within):
            continue
        if each.regret is not None and each.regret.above is not None:
            if each.regret.above in unfit and each.regret.least <= decision.question.within:
                continue
            found[each.name] = f"stopped at look {number}: not the best, {each.regret.above} is above it"
        elif each.score is None:
            found[each.name] = f"stopped at look {number}: {each.excluded or 'not scored'}"
    return found
