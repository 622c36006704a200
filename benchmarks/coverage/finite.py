"""Small files split again and again: how often bounds that are to hold for rows like these are wrong.

Owns the made-up files and the methods on them. Rows are points of two classes, a file a sample of them; each draw holds
a quarter of each class out to be tested on and takes its support from the rest, as `own_files` does. A method is the
nearest class mean by so many of the features, of which the first tell most: so methods learn from their supports, share
what those share, and have true scores, which are worked out over supports and rows without end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from benchmarks.coverage.pairs import judge_group
from benchmarks.coverage.studies import decide_made_up
from fewtune.analysis.answers import DrawAnswers, VariantAnswers
from fewtune.analysis.leaderboard import IN_DOMAIN

SIGNAL = np.concatenate([np.full(6, 0.35), np.full(18, 0.12)])
"""Half the distance of the class means, feature by feature, in deviations."""
FEATURES = (6, 8, 10, 12, 14, 16, 18, 21, 24)
"""How many of them each method looks at."""
HELD_OUT = 0.25
SUPPORTS = 1500
"""Over which a true score is averaged."""
FILES = 300


@dataclass(frozen=True)
class File:
    """How many rows a file has, and how many of them a draw's support."""

    rows: int
    shots: int


SIZES = (File(40, 8), File(40, 16), File(100, 16), File(100, 32), File(400, 32), File(400, 128))


def measure_finite(size: File, draws: int, files: int, seed: int = 0) -> dict[str, float]:
    """Shares of files with any wrong bound, and with any false "better"; of those decided, and the choices' loss."""
    rng = np.random.default_rng(seed)
    lower = find_true_losses(size.shots, rng)
    wrong, better, lost = [], [], []
    for _ in range(files):
        answers = split_file(size, draws, rng)
        found = decide_made_up(answers)
        bounds = {c.name: 1.0 if c.regret is None or c.regret.bound is None else c.regret.bound for c in found.compared}
        wrong.append(any(bounds[str(m)] < below for m, below in enumerate(lower)))
        leader = int(found.best or 0)
        called = judge_group(answers, rng)[1]
        better.append(any(told and lower[m] <= lower[leader] for m, told in called.items()))
        if found.chosen is not None:
            lost.append(lower[int(found.chosen.name)])
    return {
        "wrong": float(np.mean(wrong)),
        "better": float(np.mean(better)),
        "decided": len(lost) / files,
        "lost": float(np.mean(lost)) if lost else 0.0,
    }


def find_true_losses(shots: int, rng: np.random.Generator) -> list[float]:
    """How far each method's true score is below the best one's, over supports of so many rows."""
    scores = np.zeros(len(FEATURES))
    for _ in range(SUPPORTS):
        rows, labels = _sample(shots, rng)
        for place, count in enumerate(FEATURES):
            weights, bias = _fit(rows, labels, count)
            size, towards = float(np.sqrt(weights @ weights)), float(SIGNAL[:count] @ weights)
            scores[place] += special.ndtr((towards + bias) / size) / 2 + special.ndtr((towards - bias) / size) / 2
    return [float(each) for each in (scores.max() - scores) / SUPPORTS]


def split_file(size: File, draws: int, rng: np.random.Generator) -> list[VariantAnswers]:
    """What every method answers on so many splits of one file."""
    rows, labels = _sample(size.rows, rng)
    found: list[dict[tuple[int, str], dict[str, DrawAnswers]]] = [{} for _ in FEATURES]
    for draw in range(draws):
        sides = [rng.permutation(np.flatnonzero(labels == label)) for label in (0, 1)]
        held_out = round(HELD_OUT * size.rows / 2)
        test = np.sort(np.concatenate([side[:held_out] for side in sides]))
        support = np.concatenate([side[held_out:][: size.shots // 2] for side in sides])
        for place, count in enumerate(FEATURES):
            weights, bias = _fit(rows[support], labels[support], count)
            said = (rows[test, :count] @ weights + bias > 0).astype(np.int64)
            answers = DrawAnswers(labels[test], said[None], 2, test.astype(np.int32), size.shots / size.rows)
            found[place][draw, ""] = {IN_DOMAIN: answers}
    return list(found)


def _sample(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 2
    return rng.normal(size=(count, len(SIGNAL))) + (2 * labels[:, None] - 1) * SIGNAL, labels


def _fit(rows: np.ndarray, labels: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    means = [rows[labels == label, :count].mean(0) for label in (0, 1)]
    weights = means[1] - means[0]
    return weights, -float((means[0] + means[1]) @ weights) / 2
