"""Saved models changed by hand: values of a manifest or of an adapter's settings, tensors; with new hashes or without.

What changes them is the same for tests, which draw the changes, and for the attack on the command line.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fewtune.predictors.manifest import digest_manifest
from fewtune.predictors.model_folder import MANIFEST

Place = tuple[str | int, ...]
"""Where a value stands in a JSON file: keys and positions from the outermost."""
JUNK: tuple[Any, ...] = (
    None, True, 0, 1, 2, 3, -1, 10**30, 0.5, -0.5, 1e308, "", "x", "{x}", "{", "{text}", "\x00", "x" * 300, [], ["x"],
    [0], [[0]], {}, {"x": 1}, {"kind": "head"}, {"kind": "constant"}, {"kind": "unchanged"},
)  # fmt: skip
"""What a value may be replaced by: of another type, of the same type and out of range, of another kind."""
WAYS = ("drop", "repeat", "extend", "replace")


def list_places(content: Any, place: Place = ()) -> Iterator[Place]:
    """The place of every value within a value of JSON, itself not."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*place, key)
        yield from list_places(value, (*place, key))


def change_value(content: Any, place: Place, way: str, junk: Any) -> Any:
    """The content with one value dropped, repeated, extended by junk or replaced by it."""
    changed = copy.deepcopy(content)
    *outer, key = place
    holder = changed
    for each in outer:
        holder = holder[each]
    value = holder[key]
    if way == "drop":
        del holder[key]
    elif way == "repeat" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(value))
    elif way == "extend" and isinstance(value, list):
        value.append(copy.deepcopy(value[-1]) if value and junk is None else junk)
    elif way == "extend" and isinstance(value, dict):
        value["more"] = junk
    elif way == "extend" and isinstance(value, str):
        holder[key] = value + str(junk)
    elif way == "extend" and isinstance(value, int | float):
        holder[key] = value + (junk if isinstance(junk, int | float) else 1)
    else:
        holder[key] = junk
    return changed


Tensors = dict[str, np.ndarray]


def _drop_half(tensors: Tensors) -> Tensors:
    """Every second one; a single one too."""
    return {name: tensors[name] for name in sorted(tensors)[::2]} if len(tensors) > 1 else {}


def _change_first(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], Tensors]:
    def apply(tensors: Tensors) -> Tensors:
        name = min(tensors)
        return {**tensors, name: np.ascontiguousarray(change(tensors[name]))}

    return apply


def _put(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def put(array: np.ndarray) -> np.ndarray:
        changed = array.copy()
        changed.flat[-1] = value
        return changed

    return put


TENSOR_CHANGES: dict[str, Callable[[Tensors], Tensors]] = {
    "the first dropped": lambda tensors: {name: tensors[name] for name in sorted(tensors)[1:]},
    "half of them dropped": _drop_half,
    "one added": lambda tensors: {**tensors, "more": np.zeros(3, np.float32)},
    "the first renamed": lambda tensors: {(f"{n}x" if n == min(tensors) else n): t for n, t in tensors.items()},
    "a row dropped": _change_first(lambda array: array[:-1]),
    "a row added": _change_first(lambda array: np.concatenate([array, array[-1:]])),
    "flattened": _change_first(lambda array: array.reshape(1, 1, -1)),
    "no row left": _change_first(lambda array: array[:0]),
    "halved precision": _change_first(lambda array: array.astype(np.float16)),
    "whole numbers": _change_first(lambda array: array.astype(np.int64)),
    "not a number": _change_first(_put(np.nan)),
    "infinity": _change_first(_put(np.inf)),
}
"""Changes to the tensors of a file; no model is left that answers as before."""


def change_tensors(file: Path, way: str) -> None:
    """Change the tensors of a file."""
    from safetensors.numpy import load_file, save_file

    save_file(TENSOR_CHANGES[way](load_file(file)), file, metadata={"format": "pt"})


def change_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a manifest in place, and its digest with it."""
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    change(content)
    write_manifest(folder, content)


def write_manifest(folder: Path, content: dict[str, Any]) -> None:
    """Write a manifest that fits its digest."""
    sealed = {**content, "digest": digest_manifest(content)} if "digest" in content else content
    (folder / MANIFEST).write_text(json.dumps(sealed), encoding="utf-8")


def seal(folder: Path) -> None:
    """Have the manifest vouch for its files as they are now."""

    def hash_files(content: dict[str, Any]) -> None:
        for name in content["files"]:
            content["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()

    change_manifest(folder, hash_files)
