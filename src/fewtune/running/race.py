"""Runs a race: a study's trials, round by round, until its decisions are settled.

Owns which trials each round is of, and what is written down of it. Does not know how draws are given out (`course`),
where trials run or how a round is shown. Each task and number of shots is a race of its own, with its own error.

Every round decides on the records of its own draws alone: a race that was interrupted takes the same rounds again and
goes on as one that was not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewtune.analysis.decision import Decision
from fewtune.analysis.leaderboard import rank_variants
from fewtune.analysis.looks import name_outcome, plan_further_looks, plan_looks
from fewtune.analysis.predictions import AnswerReader
from fewtune.analysis.recommend import DecisionTerms, decide_cell, name_contender
from fewtune.analysis.study import FolderContents, read_folder
from fewtune.guarantee import Guarantee
from fewtune.records import LookHistory, Record, StudyPredictions, list_written, write_looks
from fewtune.running.course import BoundCourse, Course, LossCourse
from fewtune.running.job import Job
from fewtune.running.look_count import Place, begin_looks, count_whole, make_look, note_look
from fewtune.running.trial_metadata import describe_axes


@dataclass(frozen=True)
class RaceStanding:
    """Where the race of one task and number of shots stands after a round: its decision, and who gets further draws.

    `stopped` says by name why methods get none any more; `running` are those that get some in the next round, none
    where the race is over or goes on with draws that are there already.
    """

    decision: Decision
    stopped: Mapping[str, str]
    running: tuple[str, ...]


@dataclass(frozen=True)
class Round:
    """The trials that a round is of, those of earlier rounds among them; and those that stopped methods leave out."""

    jobs: Sequence[Job]
    left_out: Sequence[tuple[Job, str]]


class Race:
    """The races of a study in its output folder, which is held."""

    def __init__(
        self,
        jobs: Sequence[Job],
        seeds: Sequence[int],
        out: Path,
        reused: Collection[Record],
        guarantee: Guarantee = "expected_loss",
    ) -> None:
        """`jobs` are all trials that the races may need, `seeds` their draws in order; `reused` is done already."""
        self._jobs, self._seeds, self._out, self._guarantee = jobs, seeds, out, guarantee
        self._reused = {record.trial_id for record in reused}
        plan, most = plan_looks(len(seeds)), len(seeds)
        if guarantee == "bound":
            self._history = begin_looks(out, plan, reused)
            self.looks: Sequence[int] = plan_further_looks(self._history, most)
        else:
            begun = begin_looks(out, tuple(dict.fromkeys((plan[0], most))), reused)
            # A race that may have more draws than the one before it in this folder spreads its levels over all of them.
            self._history = begun if begun.plan[-1] >= most else begun.model_copy(update={"plan": (*begun.plan, most)})
            self.looks = (plan[0],)
        self.number = 0
        """Rounds that were looked at."""
        places = dict.fromkeys(map(_find_place, jobs))
        self._names = {place: _list_contenders(jobs, place) for place in places}
        self._courses: dict[Place, Course] = {}
        for place in places:
            names = tuple(dict.fromkeys(self._names[place].values()))
            by_bound = guarantee == "bound"
            self._courses[place] = (
                BoundCourse(names, self.looks) if by_bound else LossCourse(names, self.looks[0], most)
            )

    @property
    def is_over(self) -> bool:
        """Whether no race goes on."""
        return not self._list_open()

    def plan(self) -> Round:
        """The trials of the next round: of races that go on, each method's on the draws that it is to have."""
        jobs, left_out = [], []
        for job in self._jobs:
            place = _find_place(job)
            course, name = self._courses[place], self._names[place][job.trial_id]
            if not course.is_open:
                continue
            if job.trial.data_seed in self._seeds[: course.draws[name]]:
                jobs.append(job)
            elif name in course.stopped and job.trial.data_seed in self._seeds[: course.most_drawn]:
                left_out.append((job, course.stopped[name]))
        return Round(jobs, left_out)

    def look(self) -> list[RaceStanding]:
        """Look at each race that goes on, all trials of the round being recorded, and write down what was seen."""
        return self._look(self._list_open())

    def look_early(self) -> list[RaceStanding]:
        """Look at each race that goes on once more, at the draws that are whole by now; then it is over.

        Where no further draw is whole, the last look is taken again with all of the error that the plan has left.
        """
        places: list[Place] = []
        if list_written(self._out):  # else nothing ran in the time
            have = {record.trial_id for record in read_folder(self._out).records if record.status != "stopped"}
            places = [place for place in self._list_open() if self._cut(place, have)]
        standings = self._look(places, is_last=True)
        for course in self._courses.values():
            course.is_open = False
        return [replace(standing, running=()) for standing in standings]

    def _list_open(self) -> list[Place]:
        return [place for place, course in self._courses.items() if course.is_open]

    def _cut(self, place: Place, have: Collection[str]) -> bool:
        taken = max((look.draws for look in self._history.of(*place)), default=0)
        return self._courses[place].cut(self._count_whole(place, have), taken)

    def _count_whole(self, place: Place, have: Collection[str]) -> dict[str, int]:
        """The draws of each method, from the first on, of which all trials are there."""
        names = self._names[place]
        members = [job for job in self._jobs if job.trial_id in names]
        cells = {job.trial_id: describe_axes(job.trial).cell for job in members}
        return {
            name: count_whole([job for job in members if names[job.trial_id] == name], cells, self._seeds, have)
            for name in self._courses[place].draws
        }

    def _look(self, places: Sequence[Place], is_last: bool = False) -> list[RaceStanding]:
        self.number += 1
        if not places:
            return []
        contents = read_folder(self._out)
        reader = AnswerReader(StudyPredictions(self._out))
        standings = [self._look_at(place, contents, reader, is_last) for place in places]
        write_looks(self._out, self._history)
        return standings

    def _look_at(self, place: Place, contents: FolderContents, reader: AnswerReader, is_last: bool) -> RaceStanding:
        course, draws = self._courses[place], self._courses[place].most_drawn
        records = self._pick(place, contents.records)
        cells = {name_outcome(record.trial_id, record.status): record.trial.cell for record in records}
        look = make_look(draws, cells, course.stopped)
        look = look.model_copy(update={"level": course.choose_level(self._history, look, is_last)})
        taken = (*(other for other in self._history.of(*place) if other.draws < draws), look)
        looks = LookHistory(plan=self._history.plan, looks=taken)
        terms = DecisionTerms(contents.within, looks=looks, seeds=tuple(self._seeds), guarantee=self._guarantee)
        decision = decide_cell(rank_variants(records, reader), records, reader, terms)
        running = course.advance(decision, len(taken))
        if not is_last and not course.is_open:
            course.absorb(self._count_whole(place, self._reused))
        if self._guarantee == "bound" or is_last or not running or not self._history.of(*place):
            # Of rounds by expected loss the first and the last are kept: a race that goes on takes the others again.
            self._history = note_look(self._history, look.model_copy(update={"stopped": dict(course.stopped)}))
        return RaceStanding(decision, dict(course.stopped), tuple(running))

    def _pick(self, place: Place, records: Sequence[Record]) -> list[Record]:
        """The records of a round: of each method on its draws, and those that say that it was stopped."""
        course, names = self._courses[place], self._names[place]
        picked = []
        for record in records:
            name = names.get(record.trial_id)
            if name is not None:
                draws = course.most_drawn if record.status == "stopped" else course.draws[name]
                picked += [record] if record.trial.data_seed in self._seeds[:draws] else []
        return picked


def _find_place(job: Job) -> Place:
    return job.trial.task.label, job.trial.shots


def _list_contenders(jobs: Sequence[Job], place: Place) -> dict[str, str]:
    """The name under which each of a place's trials is compared, by trial id."""
    members = [job for job in jobs if _find_place(job) == place]
    models = {job.trial_id: job.trial.model.name if job.trial.model is not None else None for job in members}
    several = len({name for name in models.values() if name is not None}) > 1
    return {job.trial_id: name_contender(job.trial.method.variant, models[job.trial_id], several) for job in members}
