"""How often a verdict says "better" or "worse" of two methods that do not differ, by draws and by how draws differ.

python benchmarks/false_verdicts.py      prints a table and writes benchmarks/results/false_verdicts.json

Two made-up methods answer 400 rows a draw; their true difference in a draw is normal about zero. Each cell counts, over
400 repetitions, intervals that leave zero out and whose point is beyond the region of practical equivalence: with the
hierarchical bootstrap alone, and with the interval that fewtune gives.
"""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np

from fewtune.analysis import statistics
from fewtune.analysis.comparison import REGION

ROWS, REPETITIONS, RESAMPLES = 400, 400, 400
DISAGREE = 0.3
"""Share of rows on which the two methods answer differently."""


def draw_differences(draws: int, spread: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Row differences (rows,) of each draw: 1 where the first method alone is right, -1 where the second is."""
    shifts = np.clip(rng.normal(0.0, spread, draws), -DISAGREE, DISAGREE)
    chances = [[DISAGREE / 2 + s / 2, DISAGREE / 2 - s / 2, 1 - DISAGREE] for s in shifts]
    return [rng.choice([1.0, -1.0, 0.0], size=ROWS, p=p) for p in chances]


def count_false(draws: int, spread: float, bootstrap_alone: bool) -> float:
    """Share of repetitions that find a difference where there is none."""
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(REPETITIONS):
        rows = [
            statistics.subtract_rows(rows, ROWS * draw + np.arange(ROWS), rng)
            for draw, rows in enumerate(draw_differences(draws, spread, rng))
        ]
        if bootstrap_alone:
            with patch.object(statistics, "bound_by_draws", lambda points: None):
                found = statistics.bound_difference(rows, RESAMPLES, rng)
        else:
            found = statistics.bound_difference(rows, RESAMPLES, rng)
        false += (found.low > 0 or found.high < 0) and abs(found.point) > REGION
    return false / REPETITIONS


def main() -> None:
    """Measure every cell."""
    cells = [
        {"spread": spread, "draws": draws, "interval": name, "false": count_false(draws, spread, name == "bootstrap")}
        for spread in (0.0, 0.03, 0.08)
        for draws in (2, 3, 5, 10)
        for name in ("bootstrap", "fewtune")
    ]
    for cell in cells:
        print(f"{cell['spread']:.2f}  {cell['draws']:2d} draws  {cell['interval']:9s}  {cell['false']:.1%}")
    out = Path(__file__).parent / "results" / "false_verdicts.json"
    out.write_text(json.dumps(cells, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
