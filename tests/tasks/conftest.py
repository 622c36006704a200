"""Rows that the tests of tasks share: the evaluation data beside the repository, and a small made-up task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fewtune.tasks.base import IN_DOMAIN, Example, Pattern, Task, TestSet
from fewtune.tasks.build import build_task

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real evaluation rows."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real rows are not at {SHARED_DATA}: lay the evaluation data there to run this test")
    return SHARED_DATA


def make_task(counts: tuple[int, ...], test_rows: int = 20, name: str = "made_up") -> Task:
    """A task with so many training rows of each label, in label order."""
    labels = tuple(f"label{index}" for index in range(len(counts)))
    gold = [label for label, count in enumerate(counts) for _ in range(count)]
    train = tuple(Example(f"train/{index}", {"text": f"train text {index}"}, label) for index, label in enumerate(gold))
    identity = tuple(range(len(counts)))
    test_sets = tuple(
        TestSet(
            set_name,
            tuple(
                Example(f"{set_name}/{index}", {"text": f"{set_name} text {index}"}, index % len(counts))
                for index in range(test_rows)
            ),
            labels,
            identity,
        )
        for set_name in (IN_DOMAIN, "elsewhere")
    )
    task = Task(
        name=name,
        source_url="",
        revision=1,
        fields=("text",),
        labels=labels,
        patterns=(Pattern("only", "{text}\nLabel:", tuple(f" {letter}" for letter in "abcdefgh"[: len(counts)])),),
        primary_metric="accuracy",
        train=train,
        test_sets=test_sets,
    )
    return build_task(task)


@pytest.fixture(scope="session")
def make_small_task() -> Callable[..., Task]:
    """`make_task`, for tests."""
    return make_task
