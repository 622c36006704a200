"""Parses YAML text into a draft: plain values within size limits, each with its line.

Owns those bounds, and the faults of a text that is no YAML. Does not know which keys a study has.
"""

from __future__ import annotations

from typing import Any

import yaml

from fewtune.errors import Fault, StudyError, shorten
from fewtune.study.draft import LARGEST_INTEGER, Draft, Steps, name_kind
from fewtune.study.yaml_rules import Loader

MOST_CHARACTERS = 1_000_000
"""Characters of a study file; four times as many once its aliases are written out."""
MOST_VALUES = 100_000
"""Values of a study, those that an alias repeats counted each time."""
MOST_LEVELS = 50
"""Levels that lists and mappings may stand inside one another."""


class NotYamlError(Exception):
    """A text that is no YAML, or too much of it: what is wrong, as a fault."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        self.fault = Fault(problem, line)
        super().__init__(problem)


def parse_file(text: str, source: str) -> Draft:
    draft = Draft()
    try:
        value, line = read_yaml(text, draft)
    except NotYamlError as error:
        raise StudyError(source, [error.fault]) from None
    if value is None:
        faults = draft.faults or [Fault("the file is empty: a study needs name, tasks, methods and shots.")]
        raise StudyError(source, faults)
    if not isinstance(value, dict):
        message = f"a study is a mapping of keys (name, tasks, methods, ...), this is {name_kind(value)}."
        raise StudyError(source, [Fault(message, line)])
    draft.data = value
    return draft


def read_yaml(text: str, draft: Draft) -> tuple[Any, int | None]:
    """The plain value of a text and the line that it begins on; raises NotYamlError.

    Lines and faults of single values go to the draft.
    """
    if len(text) > MOST_CHARACTERS:
        raise NotYamlError(f"more than {MOST_CHARACTERS} characters: that is no study, or one to be split up.")
    try:
        _check_levels(text)
        root = yaml.compose(text, Loader=Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        context = f" ({error.context})" if error.context else ""
        line = mark.line + 1 if mark is not None else None
        raise NotYamlError(f"not YAML: {error.problem}{context}.", line) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # PyYAML reads escapes and versions unchecked
        raise NotYamlError(f"not YAML: {error}") from None
    if root is None:
        return None, None
    return read_node(root, (), draft, ()), root.start_mark.line + 1


def _check_levels(text: str) -> None:
    """Raise NotYamlError where lists and mappings stand too deep inside one another: composing them recurses."""
    levels = 0
    for event in yaml.parse(text, Loader=Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            levels += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            levels -= 1
        if levels > MOST_LEVELS:
            raise _too_deep(event.start_mark.line + 1 if event.start_mark is not None else None)


def _too_deep(line: int | None) -> NotYamlError:
    return NotYamlError(f"lists and mappings stand more than {MOST_LEVELS} levels deep: no study needs that.", line)


def read_node(node: yaml.Node, steps: Steps, draft: Draft, parents: tuple[yaml.Node, ...]) -> Any:
    """Turn a YAML node into plain values; keys are texts, lines go to the draft. Raises NotYamlError beyond bounds."""
    line = node.start_mark.line + 1
    if len(parents) > MOST_LEVELS:  # by aliases: what is written out has been counted
        raise _too_deep(line)
    draft.values += 1
    texts = [node] if isinstance(node, yaml.ScalarNode) else []
    if isinstance(node, yaml.MappingNode):
        texts = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    draft.characters += sum(len(text.value) for text in texts)
    if draft.values > MOST_VALUES or draft.characters > 4 * MOST_CHARACTERS:
        raise NotYamlError(
            f"more than {MOST_VALUES} values or {4 * MOST_CHARACTERS} characters, each alias written out: write fewer.",
            line,
        )
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
            if not _is_text(key_node.value):
                draft.faults.append(Fault(_format_no_text(key_node.value), key_line))
                continue
            place = (*steps, key_node.value)
            if key_node.value in values:
                first = draft.describe_place(place)
                draft.faults.append(
                    Fault(f"key {shorten(key_node.value)!r} is given twice{first}: keep one.", key_line)
                )
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
            case "str" if _is_text(text):
                return text
            case "str":
                draft.faults.append(Fault(_format_no_text(text), node.start_mark.line + 1))
                return None
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                number = int(text)
                if abs(number) <= LARGEST_INTEGER:
                    return number
            case "float":
                real = float(text)
                if abs(real) < float("inf"):  # false for nan as well
                    return real
    except ValueError:
        pass
    draft.faults.append(Fault(f"{shorten(text)!r} cannot be read as {shorten(kind)}.", node.start_mark.line + 1))
    return None


def _is_text(text: str) -> bool:
    """Whether a file can hold it and a path may: YAML's escapes write what neither does."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _format_no_text(text: str) -> str:
    return f"{shorten(ascii(text))} holds a NUL character or half a character (a lone surrogate): take it out."
