"""Reads a task's or a method's settings into their dataclass, and writes them back as plain values.

Owns both directions. What a misfit is called is `validation`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter

from fewtune.methods import get_method
from fewtune.tasks import get_task_module

Shape = TypeVar("Shape")


def find_settings(what: str, name: str) -> type:
    """The dataclass of a task's or a method's settings; raises FewtuneError where there is no such name."""
    settings: type = get_method(name).settings if what == "method" else get_task_module(name).Settings
    return settings


def build_settings(settings_type: type[Shape], values: Mapping[str, Any]) -> Shape:
    """The settings dataclass of a method or task from a choice's resolved `settings`."""
    return adapter_of(settings_type).validate_json(json.dumps(dict(values)), strict=True)


def write_settings(settings: Any) -> dict[str, Any]:
    """Every setting of a method or task as a plain value, as studies and records hold them."""
    values: dict[str, Any] = adapter_of(type(settings)).dump_python(settings, mode="json")
    return values


def adapter_of(shape: type[Shape]) -> TypeAdapter[Shape]:
    """What validates values as a `shape`, made once: making it takes longer than using it."""
    adapter: TypeAdapter[Shape] = _make_adapter(shape)  # type: ignore[arg-type]  # classes are hashable
    return adapter


@functools.cache
def _make_adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)
