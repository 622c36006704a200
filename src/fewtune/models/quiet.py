"""Keeps Transformers, and what it imports, from drawing progress bars and printing notices."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back progress bars, load reports and notices; the settings found are given back at the end."""
    from transformers.utils import logging as transformers_logging

    # Transformers imports bitsandbytes where it is installed. That warns where a faster kernel is missing, and asks
    # `kernels` for one, which warns where the hub is not to be asked.
    others = [logging.getLogger(name) for name in ("bitsandbytes", "kernels")]
    levels = [other.level for other in others]
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    for other in others:
        other.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        for other, found in zip(others, levels, strict=True):
            other.setLevel(found)
        if bars:
            transformers_logging.enable_progress_bar()
