"""Draws: deterministic, nested, disjoint, balanced or stratified; and refusals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewtune.errors import DataError
from fewtune.tasks.base import Draw, Task
from fewtune.tasks.draw import Sampling, check_sampling, make_draw

counts = st.lists(st.integers(8, 30), min_size=2, max_size=4).map(tuple)
seeds = st.integers(0, 1000)


def draw(task: Task, shots: int, data_seed: int = 0, **changes: Any) -> Draw:
    return make_draw(task, Sampling(shots, **changes), data_seed)


def ids(rows: object) -> list[str]:
    return [row.row_id for row in rows]  # type: ignore[attr-defined]


@given(counts=counts, seed=seeds, shots=st.integers(4, 8), pool=st.integers(0, 8), balanced=st.booleans())
@settings(max_examples=60, deadline=None)
def test_support_and_pool_share_no_row(
    make_small_task: Callable[..., Task], counts: tuple[int, ...], seed: int, shots: int, pool: int, balanced: bool
) -> None:
    task = make_small_task(counts)
    try:
        made = draw(task, shots, data_seed=seed, pool_rows=pool, balanced=balanced)
    except DataError as error:
        assert not balanced and "hold no row labelled" in str(error)
        return
    support, pooled = ids(made.support), ids(made.pool)
    assert len(support) == shots == len(set(support))
    assert len(pooled) == pool == len(set(pooled))
    assert not set(support) & set(pooled)
    assert all(row.label is None and not row.facets for row in made.pool)
    assert all(row.label is not None for row in made.support)


@given(counts=counts, seed=seeds, fewer=st.integers(4, 8), more=st.integers(8, 16))
@settings(max_examples=60, deadline=None)
def test_supports_of_one_seed_are_nested_over_shots(
    make_small_task: Callable[..., Task], counts: tuple[int, ...], seed: int, fewer: int, more: int
) -> None:
    task = make_small_task(counts)
    small = ids(draw(task, fewer, data_seed=seed).support)
    large = ids(draw(task, more, data_seed=seed).support)
    assert set(small) <= set(large)
    assert [row for row in large if row in set(small)] == small


def test_natural_supports_are_nested_too(make_small_task: Callable[..., Task]) -> None:
    task = make_small_task((30, 30))
    supports = [set(ids(draw(task, shots, balanced=False).support)) for shots in (8, 16, 32)]
    assert supports[0] < supports[1] < supports[2]


skewed = st.lists(st.integers(1, 40), min_size=2, max_size=6).map(tuple)


@given(counts=skewed, seed=seeds, share=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_stratified_supports_have_the_labels_shares_and_a_row_of_each(
    make_small_task: Callable[..., Task], counts: tuple[int, ...], seed: int, share: float
) -> None:
    shots = len(counts) + int(share * (sum(counts) - len(counts)))
    made = draw(make_small_task(counts), shots, data_seed=seed, balanced=False, stratified=True)
    held = Counter(row.label for row in made.support)
    assert held.total() == shots and len(held) == len(counts)
    # Webster's rule: no row of a label would go more rightly to another. A label's first row is not to be had.
    last = [(held[label] - 0.5) / count for label, count in enumerate(counts) if held[label] > 1]
    following = [(held[label] + 0.5) / count for label, count in enumerate(counts) if held[label] < count]
    assert max(last, default=0) <= min(following, default=1) + 1e-9


def test_stratified_supports_of_a_skewed_file_by_hand(make_small_task: Callable[..., Task]) -> None:
    task = make_small_task((50, 36, 19, 10, 5))
    shares = {
        shots: [
            Counter(row.label for row in draw(task, shots, seed, balanced=False, stratified=True).support)[label]
            for label in range(5)
        ]
        for shots, seed in ((5, 0), (24, 1), (48, 2), (120, 3))
    }
    assert shares == {5: [1, 1, 1, 1, 1], 24: [10, 7, 4, 2, 1], 48: [20, 14, 8, 4, 2], 120: [50, 36, 19, 10, 5]}


@given(counts=skewed, seed=seeds, more=st.integers(0, 20), yet=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_stratified_supports_are_nested_too(
    make_small_task: Callable[..., Task], counts: tuple[int, ...], seed: int, more: int, yet: int
) -> None:
    task, rows = make_small_task(counts), sum(counts)
    small, large = (
        ids(draw(task, min(rows, len(counts) + shots), seed, balanced=False, stratified=True).support)
        for shots in (more, more + yet)
    )
    assert [row for row in large if row in set(small)] == small


@given(counts=counts, seed=seeds, shots=st.integers(4, 16))
@settings(max_examples=60, deadline=None)
def test_balanced_shots_differ_by_one_row_at_most(
    make_small_task: Callable[..., Task], counts: tuple[int, ...], seed: int, shots: int
) -> None:
    task = make_small_task(counts)
    numbers = Counter(row.label for row in draw(task, shots, data_seed=seed).support)
    assert len(numbers) == len(counts)
    assert max(numbers.values()) - min(numbers.values()) <= 1


def test_shots_per_class_are_multiplied_by_the_number_of_labels(make_small_task: Callable[..., Task]) -> None:
    made = draw(make_small_task((10, 10, 10)), 4, per_class=True)
    assert Counter(row.label for row in made.support) == {0: 4, 1: 4, 2: 4}


def test_equal_arguments_give_equal_draws_and_another_seed_another(make_small_task: Callable[..., Task]) -> None:
    task = make_small_task((30, 30))
    first = draw(task, 8, data_seed=1, pool_rows=5, in_domain_rows=7)
    assert first == draw(task, 8, data_seed=1, pool_rows=5, in_domain_rows=7)
    other = draw(task, 8, data_seed=2, pool_rows=5, in_domain_rows=7)
    assert other.fingerprint != first.fingerprint
    assert set(ids(other.support)) != set(ids(first.support))


def test_support_is_not_ordered_by_label(make_small_task: Callable[..., Task]) -> None:
    task = make_small_task((1000, 10))
    places = [
        place
        for seed in range(50)
        for place, row in enumerate(draw(task, 10, data_seed=seed).support)
        if row.label == 1
    ]
    assert 4.0 < sum(places) / len(places) < 5.0  # 4.5 where the order knows no label


def test_test_rows_are_a_sample_in_stable_order_and_the_same_for_all_shots(
    make_small_task: Callable[..., Task],
) -> None:
    task = make_small_task((30, 30), test_rows=50)
    made = [draw(task, shots, in_domain_rows=10, out_of_domain_rows=5) for shots in (4, 16)]
    assert made[0].test_sets == made[1].test_sets
    assert [len(test_set.rows) for test_set in made[0].test_sets] == [10, 5]
    for limited, whole in zip(made[0].test_sets, task.test_sets, strict=True):
        positions = [whole.rows.index(row) for row in limited.rows]
        assert positions == sorted(positions)


def test_more_test_rows_than_there_are_gives_all(make_small_task: Callable[..., Task]) -> None:
    task = make_small_task((10, 10))
    assert draw(task, 4, in_domain_rows=10_000).test_sets == task.test_sets


@pytest.mark.parametrize(
    ("shots", "changes", "message"),
    [
        (18, {"pool_rows": 5}, "18 shots and 5 pool rows asked, but there are 20 training rows"),
        (12, {}, "take up to 6 rows of every label, but 'label1' has 4"),
        (1, {}, "1 shot cannot hold all 2 labels"),
        (0, {}, "Ask at least 1 shot and 0 pool rows"),
        (11, {"per_class": True}, "11 shots per class, 22 in total"),
    ],
)
def test_what_the_rows_cannot_give_is_refused_with_the_numbers(
    make_small_task: Callable[..., Task], shots: int, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        draw(make_small_task((16, 4)), shots, **changes)
    assert message in str(caught.value)


def test_checking_shots_agrees_with_drawing(make_small_task: Callable[..., Task]) -> None:
    task = make_small_task((16, 4))
    check_sampling(task, Sampling(8, pool_rows=12))
    found = draw(task, 8, pool_rows=12)
    assert (len(found.support), len(found.pool)) == (8, 12)
    with pytest.raises(DataError, match="Ask fewer shots, or set `sampling: stratified`"):
        check_sampling(task, Sampling(10))
    assert len(draw(task, 10, balanced=False, stratified=True).support) == 10, "what is advised can be drawn"


def test_a_natural_support_without_a_label_is_refused(make_small_task: Callable[..., Task]) -> None:
    with pytest.raises(DataError, match=r"hold no row labelled label1.* or set `sampling: stratified`"):
        draw(make_small_task((500, 1)), 2, balanced=False)
    found = draw(make_small_task((500, 1)), 2, balanced=False, stratified=True)
    assert {row.label for row in found.support} == {0, 1}
