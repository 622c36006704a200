"""Reads rows of data sets from the Hugging Face hub or its cache."""

from __future__ import annotations

import os
from typing import Any

from fewtune.errors import DataError, format_install
from fewtune.system.failure_kinds import format_full_cache


def load_hub_rows(hub_id: str, config: str, split: str, revision: str) -> list[dict[str, Any]]:
    """The rows of one split of a hub data set; raises DataError saying what to do where it cannot be had."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{hub_id} is read with the `datasets` package: {format_install('run')}, or give the files with --data-dir."
        ) from error
    try:
        loaded = datasets.load_dataset(hub_id, config, split=split, revision=revision)
    except Exception as error:
        cache = os.environ.get("HF_HOME") or "~/.cache/huggingface"
        if full := format_full_cache(error, f"{hub_id} ({config}, {split})", cache):
            raise DataError(full) from error
        raise DataError(
            f"{hub_id} ({config}, {split}) is not in the cache {cache} and could not be fetched from the hub "
            f"({type(error).__name__}). Set HF_HOME to a cache that holds it (HF_HUB_OFFLINE=1 then keeps from "
            "waiting for the network), run once with a network, or give the files with --data-dir."
        ) from error
    return [dict(row) for row in loaded]
