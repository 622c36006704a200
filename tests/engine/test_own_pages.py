"""Tensors in pages of their own are zeros of the shapes asked for, apart from one another; the next take them over."""

from __future__ import annotations

import gc
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fewtune.engine.loading import load_model
from fewtune.engine.memory import find_counter
from fewtune.engine.pages import ALIGNMENT, LEAST_KEPT, SPARE, allocate, give_back_kept_pages, keep_freed_pages
from fewtune.errors import ModelError
from fewtune.models import find_model

CPU = torch.device("cpu")


def held() -> int:
    """Bytes of memory that this process holds for itself."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(re.search(r"RssAnon:\s+(\d+)", status)[1])  # type: ignore[index]


def test_tensors_are_zeros_and_apart() -> None:
    shapes = [torch.Size((3, 5)), torch.Size(()), torch.Size((7,)), torch.Size((0, 4))]
    dtypes = [torch.float32, torch.float32, torch.bfloat16, torch.float32]
    made = allocate(shapes, dtypes, CPU)
    assert [t.shape for t in made] == shapes and [t.dtype for t in made] == dtypes
    assert all(t.data_ptr() % ALIGNMENT == 0 for t in made if t.numel())
    for number, tensor in enumerate(made):
        assert not tensor.any()
        tensor.fill_(number + 1)
    assert [set(t.flatten().tolist()) for t in made] == [{1.0}, {2.0}, {3.0}, set()]
    assert allocate([], [], CPU) == []


def fill(size: int, shared: bool = False) -> torch.Tensor:
    """One tensor of so many bytes, every page of it touched."""
    [made] = allocate([torch.Size((size,))], [torch.uint8], CPU, shared=shared)
    return made.fill_(1)


@pytest.fixture
def kept() -> Iterator[None]:
    """A process that keeps freed pages, as workers do."""
    keep_freed_pages()
    yield
    give_back_kept_pages()


@pytest.mark.parametrize(("keeps", "shared", "mebibytes"), [(False, False, 128), (True, True, 128), (True, False, 48)])
def test_memory_goes_back_with_the_last_tensor_but_for_what_is_kept(keeps: bool, shared: bool, mebibytes: int) -> None:
    keep_freed_pages(keeps)
    before = held()
    made = allocate([torch.Size((mebibytes << 19,))] * 2, [torch.uint8] * 2, CPU, shared=shared)
    for tensor in made:
        tensor.fill_(1)
    assert held() - before > (mebibytes - 4) << 20
    del tensor
    made.pop()
    assert int(made[0][0]) == 1
    made.clear()
    gc.collect()
    assert held() - before < 16 << 20
    keep_freed_pages()


@pytest.mark.usefixtures("kept")
def test_pages_wait_for_the_next_tensors_of_their_size_which_are_zeros() -> None:
    give_back_kept_pages()
    before, size = held(), 2 * LEAST_KEPT
    place = fill(size).data_ptr()
    assert held() - before > 120 << 20, "kept"
    for asked in (size, size + size // SPARE, size - size // (2 * SPARE)):  # as many, some rows more, some fewer
        [again] = allocate([torch.Size((asked,))], [torch.uint8], CPU)
        assert again.data_ptr() == place and not again.any()
        again.fill_(1)
        del again
    give_back_kept_pages()
    assert held() - before < 16 << 20


@pytest.mark.usefixtures("kept")
def test_pages_that_fit_no_longer_go_back_before_others_are_taken() -> None:
    give_back_kept_pages()
    before = held()
    fill(2 * LEAST_KEPT)
    fill(1 << 20)
    assert held() - before > 120 << 20, "few bytes do not tell of another kind of fit"
    larger = allocate([torch.Size((4 * LEAST_KEPT,))], [torch.uint8], CPU)
    assert held() - before < 16 << 20 and not larger[0].any()


@pytest.mark.usefixtures("kept")
def test_pages_in_use_are_never_given_out_again() -> None:
    first, second = fill(LEAST_KEPT), fill(LEAST_KEPT)
    part = first[5:7]
    del first
    third = allocate([torch.Size((LEAST_KEPT,))], [torch.uint8], CPU)[0]
    assert part.tolist() == [1, 1] and not third.any() and second.all()


def test_a_shared_network_is_let_go_of_for_one_that_trains_but_by_who_uses_it(model_folders: dict[str, Path]) -> None:
    model = load_model(find_model(str(model_folders["llama"])), "bfloat16")
    used = model.frozen
    model.trainable_copy()
    assert model.networks.alive == [used] and model.frozen is used
    del used
    model.trainable_copy()
    gc.collect()
    assert model.networks.alive == []


def test_weights_that_change_under_a_model_are_refused(model_folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(model_folders["llama"], tmp_path / "model")
    model = load_model(find_model(str(tmp_path / "model")), "bfloat16")
    model.trainable_copy()
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    with pytest.raises(ModelError, match="were changed or removed while they were used"):
        model.trainable_copy()


@pytest.mark.skipif(find_counter() is None, reason="needs glibc 2.33 or newer as the allocator, on Linux")
def test_what_is_allocated_counts_but_for_what_is_shared() -> None:
    count = find_counter()
    assert count is not None
    before = count()
    made = [allocate([torch.Size((1 << 24,))], [torch.uint8], CPU, shared=shared) for shared in (False, True)]
    assert 1 << 24 <= count() - before < (1 << 24) + (1 << 20)
    made.clear()
    gc.collect()
    assert abs(count() - before) < 1 << 20
