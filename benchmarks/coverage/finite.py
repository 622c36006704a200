"""Small files split again and again: how often bounds that are to hold for rows like these are wrong.

Owns the made-up files and the methods on them. Rows are points of two classes, a file a sample of them; each draw holds
a quarter of each class out to be tested on and takes its support from the rest, as `own_files` does; or takes it from
the whole file, and all draws are tested on the rows of another. A method is the
nearest class mean by some of the features, moved by a sum over its support's rows of what each does to this method
alone: so methods learn from their supports and share what those share. The first sees more of what tells the classes
apart than the eight others, which are all below it by the same, worked out over supports and rows without end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from benchmarks.coverage.pairs import judge_group
from benchmarks.coverage.studies import METHODS, decide_made_up, is_wrong, race
from fewtune.analysis.leaderboard import IN_DOMAIN
from fewtune.analysis.looks import LOOKS
from fewtune.inference.answers import DrawAnswers, MethodAnswers

TELLING, MORE, NOISE = 6, 2, 6
"""Features that tell the classes apart for all methods, and for the first alone; that tell nothing, for each other."""
SIGNAL = np.concatenate([np.full(TELLING, 0.35), np.full(MORE, 0.3), np.zeros(NOISE * (METHODS - 1))])
"""Half the distance of the class means, feature by feature, in deviations."""
FEATURES = [
    np.arange(TELLING + MORE),
    *(
        np.concatenate([np.arange(TELLING), TELLING + MORE + NOISE * place + np.arange(NOISE)])
        for place in range(METHODS - 1)
    ),
]
HELD_OUT = 0.25
SUPPORTS = 1500
"""Over which a true score is averaged."""
FILES = 150


@dataclass(frozen=True)
class File:
    """How many rows a file has, how many of them a draw's support; how far a support moves a method, in deviations.

    `tests` rows of another file are what all draws are tested on; 0: each holds rows of the file out.
    """

    rows: int
    shots: int
    moved: float
    tests: int = 0


SIZES = tuple(
    File(rows, shots, moved)
    for moved in (0.0, 0.5)
    for rows, shots in ((40, 8), (40, 16), (100, 32), (100, 64), (400, 32), (400, 128))
) + tuple(File(rows, shots, moved, 200) for moved in (0.0, 0.5) for rows, shots in ((64, 32), (400, 32), (400, 200)))


def measure_finite(size: File, draws: int | None, files: int, seed: int = 0) -> dict[str, float]:
    """Shares of files with any wrong bound, and with any false "better"; of those decided, and the choices' loss.

    A false "better" is looked for among the eight methods that are alike. `draws` None: a race, at any of its looks.
    """
    rng = np.random.default_rng(seed)
    below = find_true_loss(size, rng)
    lower = [0.0, *[below] * (METHODS - 1)]
    wrong, better, lost, trials = [], [], [], []
    for _ in range(files):
        answers = split_file(size, LOOKS[-1] if draws is None else draws, rng)
        if draws is None:
            course = race(answers, lower)
            wrong.append(course.wrong)
            better.append(race(answers[1:], lower[1:]).better)
            lost += [course.lost] if course.decided else []
            trials.append(course.trials)
            continue
        found = decide_made_up(answers)
        wrong.append(is_wrong(found, lower))
        better.append(any(judge_group(answers[1:])[1].values()))
        lost += [] if not found.settled or found.choice is None else [lower[int(found.choice.name)]]
        trials.append(METHODS * draws)
    return {
        "below": below,
        "wrong": float(np.mean(wrong)),
        "better": float(np.mean(better)),
        "decided": len(lost) / files,
        "lost": float(np.mean(lost)) if lost else 0.0,
        "trials": float(np.mean(trials)),
    }


def find_true_loss(size: File, rng: np.random.Generator) -> float:
    """How far every other method's true score is below the first one's, over supports of so many rows."""
    scores = np.zeros(2)
    for _ in range(SUPPORTS):
        rows, labels = _sample(size.shots, rng)
        for place, features in enumerate(FEATURES[:2]):
            weights, bias = _fit(rows[:, features], labels)
            length, towards = math.sqrt(weights @ weights), float(SIGNAL[features] @ weights)
            bias += size.moved * rng.normal() * length
            scores[place] += special.ndtr((towards + bias) / length) / 2 + special.ndtr((towards - bias) / length) / 2
    return float(scores[0] - scores[1]) / SUPPORTS


def split_file(size: File, draws: int, rng: np.random.Generator) -> list[MethodAnswers]:
    """What every method answers on so many splits of one file."""
    rows, labels = _sample(size.rows + size.tests, rng)
    moves = size.moved * rng.normal(size=(size.rows, METHODS)) / math.sqrt(size.shots)
    found: list[dict[tuple[int, str], dict[str, DrawAnswers]]] = [{} for _ in FEATURES]
    for draw in range(draws):
        sides = [rng.permutation(np.flatnonzero(labels[: size.rows] == label)) for label in (0, 1)]
        held_out = 0 if size.tests else round(HELD_OUT * size.rows / 2)
        test = np.sort(np.concatenate([side[:held_out] for side in sides]))
        test = np.arange(size.rows, size.rows + size.tests) if size.tests else test
        support = np.concatenate([side[held_out:][: size.shots // 2] for side in sides])
        for place, features in enumerate(FEATURES):
            weights, bias = _fit(rows[np.ix_(support, features)], labels[support])
            bias += float(moves[support, place].sum()) * math.sqrt(weights @ weights)
            said = (rows[np.ix_(test, features)] @ weights + bias > 0).astype(np.int64)
            answers = DrawAnswers(labels[test], said[None], 2, test.astype(np.int32), size.shots / size.rows)
            found[place][draw, ""] = {IN_DOMAIN: answers}
    return list(found)


def _sample(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 2
    return rng.normal(size=(count, len(SIGNAL))) + (2 * labels[:, None] - 1) * SIGNAL, labels


def _fit(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    means = [rows[labels == label].mean(0) for label in (0, 1)]
    weights = means[1] - means[0]
    return weights, -float((means[0] + means[1]) @ weights) / 2
