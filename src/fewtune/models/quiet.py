"""Keeps Transformers, and what it imports, from drawing progress bars, printing notices and importing a compiler."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back progress bars, load reports and notices; the settings found are given back at the end."""
    from transformers.utils import logging as transformers_logging

    # bitsandbytes, which Transformers imports where it is installed, warns that a faster kernel is not.
    others = logging.getLogger("bitsandbytes")
    level, bars, other_level = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
        others.level,
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    others.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        others.setLevel(other_level)
        if bars:
            transformers_logging.enable_progress_bar()


def import_bitsandbytes() -> None:
    """Import bitsandbytes, where it is installed, without PyTorch's compiler: PEFT would import both in every process.

    As it is imported, it asks `torch.compile` for two functions that stand in where a device has none of its own; they
    stay as they are written.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        return
    import torch

    def leave(function: Callable[..., Any], **_: object) -> Callable[..., Any]:
        return function

    compiled = torch.compile
    torch.compile = leave  # type: ignore[assignment]
    try:
        import bitsandbytes  # noqa: F401
    finally:
        torch.compile = compiled
