"""Studies drawn from committed records: what both rules decide, with how many trials, and what their choices lose.

Owns the worlds and what is counted of them. A world is a committed cell (a task and a number of shots) with its
methods' means, each moved by up to 1.5 points, and their variances, correlations and costs over draws; what the choice
of test rows does to each pair is that cell's too. Of the methods that are fitted one in ten collapses: one fit of seven
loses 20 points. Both rules race in each world, by the code that races studies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.coverage.pairs import COLLAPSE, LOSS
from benchmarks.coverage.studies import Kind, make_study, score_made_up
from fewtune.analysis.answers import read_answers
from fewtune.analysis.decision import IN_DOMAIN_ALONE, WITHIN, Contender, Decision, Question, decide_scored
from fewtune.analysis.leaderboard import IN_DOMAIN
from fewtune.analysis.looks import LOOKS, choose_level, plan_looks
from fewtune.analysis.recommend import name_contender
from fewtune.analysis.study import StudyAnalysis, analyse_folder
from fewtune.guarantee import Guarantee
from fewtune.inference.scores import DrawScore, MethodScores, score_methods
from fewtune.methods import get_method
from fewtune.metrics.counts import FloatArray
from fewtune.records import Look, LookHistory, Record
from fewtune.running.course import BoundCourse, Course, LossCourse

WORLDS, HARD_WORLDS = 400, 25
MOVED = 0.015
"""How far a method's mean is moved from the recorded one, at the most."""
PRONE = 0.1
"""Of the methods that are fitted, how many collapse at times."""
FEWEST_METHODS, FEWEST_DRAWS = 4, 3
BINS = (0.0, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.04, 1.0)
"""Of expected losses as they are stated."""


@dataclass(frozen=True)
class Cell:
    """A committed task and number of shots: means (methods,), residuals (draws, methods), and what rows do.

    `row_effects` (methods, places) are points as far apart as the choice of a draw's test rows makes each pair vary.
    """

    name: str
    methods: tuple[str, ...]
    means: FloatArray
    residuals: FloatArray
    row_effects: FloatArray
    seconds: tuple[float | None, ...]
    fitted: tuple[bool, ...]


@dataclass(frozen=True)
class Ended:
    """How a race ended: what the choice was expected to lose and what it loses, in the metric's own unit."""

    settled: bool
    trials: int
    stated: float
    lost: float


def read_cells(results: Path = ROOT / "results") -> list[Cell]:
    """Every committed cell of enough methods and draws; what it was raced for is no matter."""
    found = []
    for folder in sorted(path.parent for path in results.glob("*/records.jsonl")):
        study = analyse_folder(folder)
        for decision in study.decisions:
            cell = _read_cell(folder.name, study, decision)
            if cell is not None:
                found.append(cell)
    return found


def _read_cell(folder: str, study: StudyAnalysis, decision: Decision) -> Cell | None:
    place = decision.question.task, decision.question.shots
    members = {
        record.trial_id: record
        for group in study.groups
        for record in group.members
        if (record.trial.task, record.trial.shots) == place
    }
    several = len({record.trial.model for record in members.values()} - {None}) > 1
    name = partial(_name, several=several)
    scored = score_methods(
        read_answers(members.values(), study.reader, [IN_DOMAIN], name), decision.question.metric, IN_DOMAIN_ALONE
    )
    fullest = max((len(draws) for draws in scored.values()), default=0)
    whole = {each: draws for each, draws in scored.items() if len(draws) >= FEWEST_DRAWS}
    keys = set.intersection(*(set(draws) for draws in whole.values())) if whole else set()
    if len(whole) < FEWEST_METHODS or len(keys) < FEWEST_DRAWS or fullest < FEWEST_DRAWS:
        return None
    values = np.array([[whole[each][key].score for each in whole] for key in sorted(keys)])
    kinds = {name(record): record.trial.method for record in members.values()}
    costs = {each.name: each.seconds for each in decision.contenders}
    return Cell(
        name=f"{folder} · {place[0]} · {place[1]}",
        methods=tuple(whole),
        means=np.array([np.mean([draw.score for draw in draws.values()]) for draws in whole.values()]),
        residuals=values - values.mean(0),
        row_effects=_embed_effects(whole, sorted(keys)),
        seconds=tuple(costs.get(each) for each in whole),
        fitted=tuple(get_method(kinds[each]).trains for each in whole),
    )


def _name(record: Record, several: bool) -> str:
    return name_contender(record.trial.variant, record.trial.model, several)


def _embed_effects(scored: Mapping[str, MethodScores], keys: Sequence[tuple[int, str]]) -> FloatArray:
    """Points (methods, places) whose squared distances are what the choice of rows does to pairs, mean over draws."""
    names = list(scored)
    draws = [np.array([scored[name][key].effects for name in names]) for key in keys]
    gram = np.mean([effects @ effects.T for effects in draws], axis=0)
    values, vectors = np.linalg.eigh(gram)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), dtype=np.float64)


def make_world(cell: Cell, draws: int, rng: np.random.Generator) -> tuple[dict[str, MethodScores], dict[str, float]]:
    """Methods' scores by draw, and their true means."""
    count, methods = cell.residuals.shape
    means = cell.means + rng.uniform(-MOVED, MOVED, methods)
    weights = rng.normal(size=(draws, count)) / np.sqrt(count - 1)
    values = means + weights @ cell.residuals
    prone = np.array(cell.fitted) & (rng.random(methods) < PRONE)
    values -= prone * LOSS * (rng.random((draws, methods)) < COLLAPSE)
    means = means - prone * LOSS * COLLAPSE
    places = cell.row_effects.shape[1]
    scored: dict[str, MethodScores] = {
        name: {
            (draw, ""): DrawScore(
                float(values[draw, column]), draw * places + np.arange(places), cell.row_effects[column]
            )
            for draw in range(draws)
        }
        for column, name in enumerate(cell.methods)
    }
    return scored, dict(zip(cell.methods, means.tolist(), strict=True))


def race_world(
    scored: Mapping[str, MethodScores],
    truth: Mapping[str, float],
    seconds: Mapping[str, float | None],
    guarantee: Guarantee,
) -> tuple[Ended, list[tuple[float, float]]]:
    """A race to its end; with it what was stated of the best bet at each round, and what that loses."""
    most, best = LOOKS[-1], max(truth.values())
    looks = plan_looks(most)
    course: Course = (
        BoundCourse(list(scored), looks) if guarantee == "bound" else LossCourse(list(scored), looks[0], most)
    )
    history, number, rounds = LookHistory(plan=looks), 0, []
    while True:
        number += 1
        decision = _look(scored, course, seconds, guarantee, history)
        history = history.model_copy(update={"looks": (*history.looks, _note(course, history, decision))})
        assert decision.choice is not None
        loss = decision.choice.loss
        rounds.append((0.0 if loss is None else loss.expected, best - truth[decision.choice.name]))
        trials = sum(course.draws.values())
        course.advance(decision, number)
        if not course.is_open:
            return Ended(decision.settled, trials, *rounds[-1]), rounds


def _look(
    scored: Mapping[str, MethodScores],
    course: Course,
    seconds: Mapping[str, float | None],
    guarantee: Guarantee,
    history: LookHistory,
) -> Decision:
    seen = {name: {key: draws[key] for key in list(draws)[: course.draws[name]]} for name, draws in scored.items()}
    contenders = [
        Contender(
            name, float(np.mean([d.score for d in draws.values()])), seconds[name], 1.0, 1, course.stopped.get(name)
        )
        for name, draws in seen.items()
    ]
    now = Look(task="world", shots=16, draws=course.most_drawn, methods=len(seen), level=0.01)
    level = choose_level(history, now) if guarantee == "bound" else 0.01
    return decide_scored(Question("world", 16, "accuracy", WITHIN, level, guarantee=guarantee), contenders, seen)


def _note(course: Course, history: LookHistory, decision: Decision) -> Look:
    return Look(
        task="world",
        shots=16,
        draws=course.most_drawn,
        methods=len(course.draws),
        trials=str(len(history.looks)),
        level=decision.question.level if decision.question.guarantee == "bound" else 1e-12,
    )


def measure_choices(
    guarantee: Guarantee, worlds: int, seed: int = 0, cells: Sequence[Cell] | None = None
) -> dict[str, Any]:
    """What a rule does in so many worlds, the same ones for both rules."""
    cells = read_cells() if cells is None else cells
    ended, rounds = [], []
    for number in range(worlds):
        rng = np.random.default_rng([seed, number])
        cell = cells[number % len(cells)]
        scored, truth = make_world(cell, LOOKS[-1], rng)
        seconds = dict(zip(cell.methods, cell.seconds, strict=True))
        found, seen = race_world(scored, truth, seconds, guarantee)
        ended.append(found)
        rounds += seen
    return {"kind": "from records", "guarantee": guarantee, "worlds": worlds, **summarise(ended, rounds)}


def measure_hard_choices(kind: Kind, guarantee: Guarantee, worlds: int, seed: int = 0) -> dict[str, Any]:
    """What a rule does where eight methods lie a tolerance below the best and are the cheaper the worse they are."""
    rng, ended, rounds = np.random.default_rng(seed), [], []
    for _ in range(worlds):
        lower = [0.0, *[WITHIN] * 8]
        scored = score_made_up(make_study(kind, LOOKS[-1], lower, rng))
        truth = {name: -lower[int(name)] for name in scored}
        found, seen = race_world(scored, truth, {name: float(-int(name)) for name in scored}, guarantee)
        ended.append(found)
        rounds += seen
    return {"kind": kind.name, "guarantee": guarantee, "worlds": worlds, **summarise(ended, rounds)}


def summarise(ended: Sequence[Ended], rounds: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Shares and means of races, and what was stated against what was lost, by what was stated."""
    settled = [each for each in ended if each.settled]
    stated = np.array([each.stated for each in settled])
    lost = np.array([each.lost for each in settled])
    bins = []
    values = np.array(rounds)
    for low, high in pairwise(BINS):
        there = values[(values[:, 0] >= low) & (values[:, 0] < high)]
        if len(there):
            stated_there, lost_there = (float(column.mean()) for column in there.T)
            bins.append(
                {
                    "from": low,
                    "to": high,
                    "rounds": len(there),
                    "stated": stated_there,
                    "lost": lost_there,
                }
            )
    return {
        "decided": len(settled) / len(ended),
        "trials": float(np.mean([each.trials for each in ended])),
        "lost": float(np.mean([each.lost for each in ended])),
        "lost_decided": float(lost.mean()) if len(lost) else 0.0,
        "stated_decided": float(stated.mean()) if len(stated) else 0.0,
        "beyond": float(np.mean(lost > WITHIN + 1e-9)) if len(lost) else 0.0,
        "worse": float(np.mean(lost > 1e-9)) if len(lost) else 0.0,
        "bins": bins,
    }
