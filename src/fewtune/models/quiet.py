"""Keeps Transformers, and what it imports, from drawing progress bars and printing notices."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


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
