"""Reference scorers are asked of some rows of each test set, and the trial is judged on the same ones beside them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from fewtune.methods.plan import Plan
from fewtune.running.scoring import MOST_REFERENCE_ROWS, ask_references
from fewtune.tasks import base


def make_set(name: str, rows: int) -> base.TestSet:
    """Rows whose label is that of their number: the first half 0, the second 1."""
    examples = tuple(base.Example(str(i), {"text": str(i)}, int(2 * i >= rows)) for i in range(rows))
    return base.TestSet(name, examples, ("no", "yes"), (0, 1))


def answer(labels: Sequence[int]) -> np.ndarray:
    return np.log(np.where(np.array(labels)[:, None] == np.arange(2), 0.9, 0.1))


def test_long_sets_are_asked_at_even_steps_and_short_ones_whole() -> None:
    asked: dict[str, list[int]] = {}

    def teach(rows: Sequence[base.Example]) -> np.ndarray:
        assert all(row.label is None for row in rows)
        numbers = [int(row.fields["text"]) for row in rows]
        asked[f"{len(rows)}"] = numbers
        return answer([1] * len(rows))

    sets = [make_set("in_domain", 1000), make_set("elsewhere", 60)]
    gold = {test.name: [row.label or 0 for row in test.rows] for test in sets}
    # The trial is right on even rows and wrong on odd ones.
    scores = {name: answer([label ^ (i % 2) for i, label in enumerate(labels)]) for name, labels in gold.items()}
    plan = cast("Plan", SimpleNamespace(reference_scorers={"teacher": teach}))
    found: Any = ask_references(plan, sets, scores)["teacher"]
    assert found.rows == {"in_domain": MOST_REFERENCE_ROWS, "elsewhere": 60}
    places = asked[f"{MOST_REFERENCE_ROWS}"]
    assert places[0] == 0 and places[-1] == 999 and set(np.diff(places)) == {7, 8}
    assert found.metrics["elsewhere"]["accuracy"] == found.metrics["in_domain"]["accuracy"] == 0.5
    even = np.mean([place % 2 == 0 for place in places])
    assert found.itself["in_domain"]["accuracy"] == even and found.itself["elsewhere"]["accuracy"] == 0.5
    # It answers as the teacher where it says 1: rows of the second half that are even, of the first that are odd.
    says = [(2 * place >= 1000) ^ (place % 2) for place in places]
    assert found.agreement["in_domain"] == np.mean(says)
