"""Out of memory is recorded as such whoever ran out, and nothing else is."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from fewtune.errors import DataError, ModelError, TrialFailure
from fewtune.system.failure_kinds import find_failure_kind, find_system_error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("could not create a primitive"),
        RuntimeError("could not create a primitive descriptor for a matmul primitive"),
        RuntimeError("could not create a memory object"),
        RuntimeError("could not allocate 4096 bytes"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        SystemError("error return without exception set"),
        ImportError("libc10.so: failed to map segment from shared object"),
        ImportError("libtorch.so: cannot allocate symbol data"),
        TrialFailure("out_of_memory", "told by a method"),
    ],
    ids=str,
)
def test_running_out_of_memory_is_recognised(error: Exception) -> None:
    assert find_failure_kind(error) == "out_of_memory"


def test_it_is_recognised_behind_what_was_raised_from_it_or_while_it_was_handled() -> None:
    for chain in ("cause", "context"):
        with pytest.raises(ModelError) as raised:
            try:
                try:
                    raise MemoryError
                except MemoryError as error:
                    if chain == "cause":
                        raise RuntimeError("the layer failed") from error
                    raise RuntimeError("the layer failed")  # noqa: B904 - the context alone is meant
            except RuntimeError as error:
                raise ModelError("the model cannot be loaded") from error
        assert find_failure_kind(raised.value) == "out_of_memory"
    circle = RuntimeError("one")
    circle.__cause__ = RuntimeError("two")
    circle.__cause__.__cause__ = circle
    assert find_failure_kind(circle) == "error"


def test_what_a_user_wrote_and_other_failures_are_not_mistaken_for_it() -> None:
    assert find_failure_kind(DataError("unknown label 'out of memory'")) == "error"
    assert find_failure_kind(ValueError("seven of nine")) == "error"
    assert find_failure_kind(TrialFailure("diverged", "the loss became nan")) == "diverged"
    assert find_failure_kind(OSError(errno.ENOSPC, "No space left on device")) == "error"


def test_the_systems_error_is_found_through_libraries_that_have_errors_of_their_own() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert find_system_error(full) is full
    of_rust = find_system_error(Exception("Error while serializing: I/O error: No space left on device (os error 28)"))
    assert of_rust is not None and (of_rust.errno, of_rust.strerror) == (full.errno, full.strerror)
    wrapped = RuntimeError("the exporter failed")
    wrapped.__cause__ = full
    assert find_system_error(wrapped) is full
    full.__cause__ = None
    circle = RuntimeError("one")
    circle.__cause__ = RuntimeError("two")
    circle.__cause__.__cause__ = circle
    for error in (circle, OSError("without a number"), DataError("row 3 says '(os error 28)'")):
        assert find_system_error(error) is None


def test_allocators_that_the_system_refuses_are_recognised() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (256 << 20), before[1]))
    try:
        for allocate in (lambda: torch.empty(1 << 30), lambda: np.empty(1 << 30), lambda: bytearray(1 << 30)):
            with pytest.raises((MemoryError, RuntimeError)) as raised:
                allocate()
            assert find_failure_kind(raised.value) == "out_of_memory"
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
