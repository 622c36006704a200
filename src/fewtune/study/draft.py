"""A study as written: plain values, the line each stands on, and the faults found so far.

Owns reading YAML so that every fault can name its line. Does not know which keys a study has.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import yaml

from fewtune.errors import Fault, StudyError
from fewtune.study.yaml_rules import Loader

Steps = tuple[str | int, ...]
"""Where a value stands in a study: keys and list positions, outermost first."""


@dataclass
class Draft:
    """A study as written: plain values, where each stands, and the faults found so far."""

    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[Steps, int] = field(default_factory=dict)
    overrides: dict[Steps, str] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def refuse(self, steps: Steps, message: str) -> None:
        """Note a fault at the innermost place that is known: a line, or the override that gave the value."""
        for length in range(len(steps), 0, -1):
            place = steps[:length]
            if place in self.overrides:
                self.faults.append(Fault(f"--set {self.overrides[place]}: {message}"))
                return
            if place in self.lines:
                self.faults.append(Fault(message, self.lines[place]))
                return
        self.faults.append(Fault(message))

    def describe_place(self, steps: Steps) -> str:
        """The line of a value, in words; empty where an override gave it."""
        return f" (first on line {self.lines[steps]})" if steps in self.lines else ""


def parse_file(text: str, source: str) -> Draft:
    draft = Draft()
    try:
        root = yaml.compose(text, Loader=Loader)
        value = None if root is None else read_node(root, (), draft, ())
    except yaml.MarkedYAMLError as error:
        raise StudyError(source, [_word_syntax_error(error)]) from None
    except yaml.YAMLError as error:
        raise StudyError(source, [Fault(f"not YAML: {error}")]) from None
    if value is None:
        raise StudyError(source, [Fault("the file is empty: a study needs name, tasks, methods and shots.")])
    if not isinstance(value, dict):
        message = f"a study is a mapping of keys (name, tasks, methods, ...), this is {name_kind(value)}."
        line = root.start_mark.line + 1 if root is not None else None
        raise StudyError(source, [Fault(message, line)])
    draft.data = value
    return draft


def _word_syntax_error(error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    context = f" ({error.context})" if error.context else ""
    return Fault(f"not YAML: {error.problem}{context}.", mark.line + 1 if mark is not None else None)


def read_node(node: yaml.Node, steps: Steps, draft: Draft, parents: tuple[yaml.Node, ...]) -> Any:
    """Turn a YAML node into plain values; keys are texts, lines go to the draft."""
    line = node.start_mark.line + 1
    if steps:
        draft.lines.setdefault(steps, line)
    if any(node is parent for parent in parents):
        draft.faults.append(Fault("an alias contains itself: write the value out.", line))
        return None
    inside = (*parents, node)
    if isinstance(node, yaml.SequenceNode):
        return [read_node(item, (*steps, i), draft, inside) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                draft.faults.append(Fault("a key must be a name, this is a list or a mapping.", key_line))
                continue
            place = (*steps, key_node.value)
            if key_node.value in values:
                first = draft.describe_place(place)
                draft.faults.append(Fault(f"key {key_node.value!r} is given twice{first}: keep one.", key_line))
                continue
            draft.lines[place] = key_line
            values[key_node.value] = read_node(value_node, place, draft, inside)
        return values
    return _read_scalar(node, draft)


def _read_scalar(node: yaml.Node, draft: Draft) -> Any:
    text: str = node.value
    kind = node.tag.removeprefix("tag:yaml.org,2002:")
    try:
        match kind:
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text)
            case "float":
                number = float(text)
                if abs(number) < float("inf"):  # false for nan as well
                    return number
    except ValueError:
        pass
    draft.faults.append(Fault(f"{text!r} cannot be read as {kind}.", node.start_mark.line + 1))
    return None


def name_kind(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return show_value(value)


def show_value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def join_steps(steps: Steps) -> str:
    return ".".join(str(step) for step in steps)
