"""Reads JSON and raises where an object has a key twice.

Owns the refusal of a key that stands twice in one object: JSON leaves open what it means, and Python takes the last.
Source: https://www.rfc-editor.org/rfc/rfc8259#section-4
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fewtune.errors import shorten


class RepeatedKeyError(ValueError):
    """An object has a key more than once; `key` is the first of them."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"the key {shorten(key)!r} stands twice in one object")


def parse_json(text: str) -> Any:
    """The value that a text says in JSON; raises as `json.loads` does, and RepeatedKeyError."""
    return json.loads(text, object_pairs_hook=_make_object)


def _make_object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RepeatedKeyError(key)
            seen.add(key)
    return made
