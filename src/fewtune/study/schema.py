"""The JSON Schema of a study file, with every task's and method's settings, for editors.

Owns the schema. Does not read studies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from fewtune.methods import METHODS, get_method
from fewtune.study.settings import find_settings
from fewtune.study.values import MOST_ENTRIES, Study
from fewtune.tasks import TASKS, get_task_module


def study_schema() -> dict[str, Any]:
    """The JSON Schema of a study file, with every task's and method's settings, for editors."""
    schema = Study.model_json_schema()
    definitions = schema.pop("$defs")
    shared = {name: definitions[name] for name in ("Budget", "Evaluation", "Resources", "Tuning", "Until")}
    properties = schema["properties"]
    properties["models"] |= {"items": {"anyOf": [{"type": "string"}, definitions["ModelChoice"]]}}
    for key, what, names in (("tasks", "task", TASKS), ("methods", "method", METHODS)):
        properties[key] |= {
            "items": _describe_entries(what, sorted(names), shared),
            "minItems": 1,
            "maxItems": MOST_ENTRIES,
        }
    for key in ("data_seeds", "fit_seeds"):
        about = {name: properties[key].pop(name) for name in ("description", "default")}
        count = {
            "type": "object",
            "properties": {
                "count": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MOST_ENTRIES,
                    "description": "Seeds 0 to count - 1.",
                }
            },
            "required": ["count"],
            "additionalProperties": False,
        }
        properties[key] = {**about, "anyOf": [properties[key] | {"uniqueItems": True}, count]}
    for key in ("shots", "metrics"):
        properties[key]["uniqueItems"] = True
    # Written in a study, a race may bring the tolerance along.
    shared["Until"]["properties"]["within"] = properties["within"]
    properties["until"]["anyOf"].append({"const": "decided"})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "fewtune study",
        "$defs": shared,
    }


def _describe_entries(what: str, names: Iterable[str], shared: dict[str, Any]) -> dict[str, Any]:
    """The schema of one entry of `tasks` or `methods`; nested types go to `shared`, under the owner's name."""
    bare: list[dict[str, Any]] = []
    full: dict[str, Any] = {}
    for name in names:
        template = f"#/$defs/{what}.{name}.{{model}}"
        settings = TypeAdapter(find_settings(what, name)).json_schema(ref_template=template)
        for nested, definition in settings.pop("$defs", {}).items():
            shared[f"{what}.{name}.{nested}"] = definition
        summary = get_method(name).summary if what == "method" else get_task_module(name).SUMMARY
        alias: dict[str, Any] = {"type": "string", "minLength": 1, "description": f"What this study calls the {what}."}
        own = settings.get("properties", {})
        settings["properties"] = {**own, "as": alias}
        if what == "method" and own:
            settings["properties"]["grid"] = _describe_grid(own)
        if what == "method" and get_method(name).uses_model:
            settings["properties"]["models"] = {
                "type": "array",
                "items": {"type": "string"},
                "description": "Those of the study's models that it runs on; left out: all. Of a baseline only where "
                "`baselines` is false.",
            }
        settings |= {"title": name, "description": summary, "additionalProperties": False}
        if settings.get("required"):
            full[name] = settings
        else:
            bare.append({"const": name, "description": summary})
            full[name] = {**settings, "type": ["object", "null"]}
    entry = {
        "type": "object",
        "properties": full,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {"anyOf": [*bare, entry]}


def _describe_grid(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a method's grid: a list of values for any of its settings."""
    return {
        "type": "object",
        "description": "Values to choose from by cross-validation on the support, by setting; needs `tuning`.",
        "properties": {
            name: {"type": "array", "minItems": 1, "uniqueItems": True, "items": _leave_default(values)}
            for name, values in settings.items()
        },
        "additionalProperties": False,
        "minProperties": 1,
    }


def _leave_default(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in ("default", "description", "title")}
