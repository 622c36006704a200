"""Classifies an exception by its cause.

Owns how running out of memory is recognised, whoever ran out (Python, PyTorch, oneDNN, C++, the system, a GPU), and
which of the system's errors an exception comes of, whoever met it: Python, or a library in Rust.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from typing import Literal

from fewtune.errors import FewtuneError, TrialFailure

OUT_OF_MEMORY = (
    "out of memory",  # CUDA, HIP, Metal
    "can't allocate memory",  # PyTorch's DefaultCPUAllocator
    "cannot allocate",  # the system: mmap, fork; its loader: what it notes of a library
    "cannot map zero-fill pages",  # the loader: a library's own data
    "failed to map segment",  # the loader: a part of a library
    "cannot create shared object descriptor",
    "cannot change memory protections",
    "could not allocate",
    "unable to allocate",  # NumPy
    "failed to allocate",
    "bad_alloc",  # C++, bare or behind "std::"
    "bad allocation",
    "can't start new thread",  # Python; mostly its stack finds no room
    "error return without exception set",  # compiled code that had no room to say what it lacked
    "_alloc_failed",  # CUBLAS_STATUS_ALLOC_FAILED and its siblings
    # oneDNN names what it could not make, not that memory was missing. With shapes it has run before it is memory.
    "could not create a primitive",
    "could not create a memory object",
    "could not initialize a memory object",
    "could not execute a primitive",
)
"""What messages of libraries say, in lower case, where memory ran out."""
FULL = (errno.ENOSPC, errno.EDQUOT)
"""The system's errors where a disk, or a user's share of it, is full."""
_RUST = re.compile(r"\(os error (\d+)\)")
"""How Rust writes the number of a system's error: tokenizers and safetensors raise it as a text alone.

Source: https://doc.rust-lang.org/std/io/struct.Error.html
"""


def find_failure_kind(error: BaseException) -> Literal["diverged", "out_of_memory", "killed", "error"]:
    """The kind under which a failure is recorded: what a method told, else out of memory anywhere in the chain."""
    if isinstance(error, TrialFailure) and error.kind in ("diverged", "out_of_memory", "killed"):
        return error.kind  # type: ignore[return-value]
    return "out_of_memory" if any(map(_ran_out_of_memory, _follow(error))) else "error"


def find_system_error(error: BaseException) -> OSError | None:
    """The system's error that an exception is or was raised from, such as of a full disk; None where it is of none."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        if isinstance(each, OSError) and each.errno is not None:
            return each
        told = _RUST.search(str(each))
        if told is not None and not isinstance(each, FewtuneError):  # a message of ours may quote a user's words
            number = int(told.group(1))
            return OSError(number, os.strerror(number))
        each = each.__cause__
    return None


def format_full_cache(error: BaseException, what: str, cache: str) -> str | None:
    """What to say of `what` that the hub's cache has no room for; None where an exception is of something else."""
    found = find_system_error(error)
    if found is None or found.errno not in FULL:
        return None
    return (
        f"{what} could not be kept in the cache {cache} ({found.strerror}). Make room there, or set HF_HOME to a "
        "folder that has some."
    )


def _follow(error: BaseException) -> Iterator[BaseException]:
    """An exception, what it was raised from, and what was being handled when it was raised, however deep."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]


def _ran_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    # A message of ours may quote a user's words.
    ours = isinstance(error, FewtuneError | TrialFailure)
    return not ours and any(words in str(error).lower() for words in OUT_OF_MEMORY)
