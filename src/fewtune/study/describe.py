"""Describes a task's or a method's settings: each one's default, allowed values and meaning.

Owns the words for values; the settings themselves are their dataclasses'. Does not read studies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fewtune.study.settings import adapter_of, find_settings

KINDS = {
    "array": "a list",
    "boolean": "true, false",
    "integer": "a whole number",
    "null": "null",
    "number": "a number",
    "object": "a mapping",
    "string": "a text",
}
"""JSON's types of values, in words."""
BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
"""JSON Schema's bounds of a number, in words."""


@dataclass(frozen=True)
class SettingWords:
    """One setting, as a reader sees it; `default` is as JSON writes it, None where a study must give one."""

    name: str
    default: str | None
    values: str
    meaning: str


def describe_settings(what: str, name: str) -> list[SettingWords]:
    """The settings of a "task" or a "method"; raises FewtuneError where there is no such name."""
    schema = adapter_of(find_settings(what, name)).json_schema()
    nested, required = schema.get("$defs", {}), schema.get("required", ())
    return [
        SettingWords(
            setting,
            None if setting in required else json.dumps(about.get("default", {})),
            _format_values(about, nested),
            about.get("description", ""),
        )
        for setting, about in schema.get("properties", {}).items()
    ]


def _format_values(about: Mapping[str, Any], nested: Mapping[str, Mapping[str, Any]]) -> str:
    if "$ref" in about:
        about = nested[about["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in about:
        return " or ".join(dict.fromkeys(_format_values(kind, nested) for kind in about["anyOf"]))
    if "enum" in about or "const" in about:
        return ", ".join(map(str, about.get("enum", [about.get("const")])))
    words = KINDS.get(about.get("type", ""), "any value")
    if "enum" in about.get("items", {}):
        words = f"{words} of {_format_values(about['items'], nested)}"
    bounds = [f"{told} {_pluralise(about[bound])}" for bound, told in BOUNDS.items() if bound in about]
    return " ".join([words, *bounds])


def _pluralise(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) and number < 1e9 else f"{number:g}"
