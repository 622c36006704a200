"""A study file: YAML -> frozen, validated `Study`, with every fault told at once and the line it stands on.

Owns the file's keys, their defaults, `--set` overrides, the resolved form and the JSON Schema for editors.
Does not know what a method or a task does, and loads neither models nor rows; file paths and local model
folders stay as written, relative to the working folder. YAML is read by its 1.2 core rules: `no` is a text,
`1e-4` is a number.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from fewtune.errors import Fault, FewtuneError, StudyError, name_choices
from fewtune.methods import METHODS, get_method
from fewtune.tasks import TASKS, get_task_module

Steps = tuple[str | int, ...]
"""Where a value stands in a study: keys and list positions, outermost first."""

Shape = TypeVar("Shape")

Precision = Literal["auto", "bfloat16", "float32"]
Metric = Literal["accuracy", "mcc", "macro_f1", "ece"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelChoice(_Frozen):
    """A model of a study."""

    name: str = Field(min_length=1, description="Catalogue name, hub id or local folder.")
    revision: str | None = Field(default=None, description="Commit of a hub model; null: the pinned one.")


class TaskChoice(_Frozen):
    """A task of a study, its settings resolved."""

    name: str
    label: str = Field(description="The task's name in this study: tells two uses of one task apart.")
    settings: dict[str, Any]


class MethodChoice(_Frozen):
    """A method of a study, its settings resolved: every field, defaults included."""

    name: str
    variant: str = Field(description="The method's name in this study: tells two settings of one method apart.")
    settings: dict[str, Any]


class Evaluation(_Frozen):
    """How many test rows are scored."""

    in_domain_rows: int | None = Field(default=500, ge=1, description="In-domain test rows; null: all.")
    out_of_domain_rows: int | None = Field(
        default=500, ge=1, description="Rows of each out-of-domain test set; null: all."
    )


class Study(_Frozen):
    """A resolved study: what to run, and nothing about where or how fast."""

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^\w[\w .+=()-]*$",
        description="What the report calls this study; letters, digits, spaces and . _ + = - ( ).",
    )
    models: tuple[ModelChoice, ...] = Field(default=(), description="Language models to adapt.")
    tasks: tuple[TaskChoice, ...] = Field(description="Tasks to adapt them to.")
    methods: tuple[MethodChoice, ...] = Field(description="Ways of adapting, side by side.")
    floors: bool = Field(
        default=True, description="Run majority, tfidf and probe too, with their defaults, where methods omit them."
    )
    shots: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        min_length=1, description="Numbers of labelled rows in the support set."
    )
    shots_per: Literal["total", "class"] = Field(
        default="total", description="Whether `shots` counts the whole support set or each label's rows."
    )
    sampling: Literal["balanced", "natural"] = Field(
        default="balanced", description="Equal rows a label, or labels as frequent as in the training rows."
    )
    data_seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), min_length=1, description="One draw of support, pool and test rows for each."
    )
    fit_seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), min_length=1, description="One fit on every draw for each."
    )
    evaluation: Evaluation = Field(default=Evaluation(), description="How many test rows are scored.")
    patterns: Literal["default", "all"] | dict[str, tuple[str, ...]] = Field(
        default="default",
        description="Patterns that every method using one runs under: each task's first, all, or names by task.",
    )
    pool_rows: int = Field(default=0, ge=0, description="Unlabelled rows beside the support.")
    precision: Precision = Field(
        default="auto", description="Computation; auto: bfloat16 where the hardware does it natively."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens one rendered example may have; null: 512, or what the model reads where that is less.",
    )
    metrics: tuple[Metric, ...] = Field(
        default=(), description="Metrics to report, first one first; empty: the task's own."
    )

    def to_yaml(self) -> str:
        """The resolved study as a file that `load_study` reads back to an equal study."""
        body = self.model_dump(mode="json")
        body["models"] = [
            {"name": m.name, "revision": m.revision} if m.revision is not None else m.name for m in self.models
        ]
        body["tasks"] = [{t["name"]: {"as": t["label"], **t["settings"]}} for t in body["tasks"]]
        body["methods"] = [{m["name"]: {"as": m["variant"], **m["settings"]}} for m in body["methods"]]
        text: str = yaml.dump(
            body, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
        )
        return text


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, apply `path.to.key=value` overrides; raises StudyError with every fault at once."""
    source = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise StudyError(source, [Fault("no such file. Give the path of a study's YAML file.")]) from None
    except UnicodeDecodeError as error:
        raise StudyError(source, [Fault(f"not a text file in UTF-8 ({error.reason}).")]) from None
    except OSError as error:
        raise StudyError(source, [Fault(f"cannot be read ({error.strerror}).")]) from None
    draft = _parse_file(text, source)
    for override in overrides:
        _apply_override(draft, override)
    study = _resolve_study(draft)
    if draft.faults or study is None:
        unique = dict.fromkeys(draft.faults)
        raise StudyError(source, sorted(unique, key=lambda f: (f.line is None, f.line or 0)))
    return study


def build_settings(settings_type: type[Shape], values: Mapping[str, Any]) -> Shape:
    """The settings dataclass of a method or task from a choice's resolved `settings`."""
    return TypeAdapter(settings_type).validate_json(json.dumps(dict(values)), strict=True)


# Reading YAML, with lines ---------------------------------------------------------------------------------


def _table_of_resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    rules = [
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
        ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
        (
            "float",
            r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)",
            list("-+.0123456789"),
        ),
    ]
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for tag, pattern, first_letters in rules:
        for letter in first_letters:
            table.setdefault(letter, []).append((f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z")))
    return table


class _Loader(yaml.SafeLoader):
    # PyYAML follows YAML 1.1, where `no` is false and `1e-4` is a text.
    yaml_implicit_resolvers = _table_of_resolvers()


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _table_of_resolvers()


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if "\n" in text else None  # a separator reads as "\n\n", not as blank lines
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)


@dataclass
class _Draft:
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


def _parse_file(text: str, source: str) -> _Draft:
    draft = _Draft()
    try:
        root = yaml.compose(text, Loader=_Loader)
        value = None if root is None else _read_node(root, (), draft, ())
    except yaml.MarkedYAMLError as error:
        raise StudyError(source, [_word_syntax_error(error)]) from None
    except yaml.YAMLError as error:
        raise StudyError(source, [Fault(f"not YAML: {error}")]) from None
    if value is None:
        raise StudyError(source, [Fault("the file is empty: a study needs name, tasks, methods and shots.")])
    if not isinstance(value, dict):
        message = f"a study is a mapping of keys (name, tasks, methods, ...), this is {_name_kind(value)}."
        line = root.start_mark.line + 1 if root is not None else None
        raise StudyError(source, [Fault(message, line)])
    draft.data = value
    return draft


def _word_syntax_error(error: yaml.MarkedYAMLError) -> Fault:
    mark = error.problem_mark or error.context_mark
    context = f" ({error.context})" if error.context else ""
    return Fault(f"not YAML: {error.problem}{context}.", mark.line + 1 if mark is not None else None)


def _read_node(node: yaml.Node, steps: Steps, draft: _Draft, parents: tuple[yaml.Node, ...]) -> Any:
    """Turn a YAML node into plain values; keys are texts, lines go to the draft."""
    line = node.start_mark.line + 1
    if steps:
        draft.lines.setdefault(steps, line)
    if any(node is parent for parent in parents):
        draft.faults.append(Fault("an alias contains itself: write the value out.", line))
        return None
    inside = (*parents, node)
    if isinstance(node, yaml.SequenceNode):
        return [_read_node(item, (*steps, i), draft, inside) for i, item in enumerate(node.value)]
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
            values[key_node.value] = _read_node(value_node, place, draft, inside)
        return values
    return _read_scalar(node, draft)


def _read_scalar(node: yaml.Node, draft: _Draft) -> Any:
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


def _name_kind(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return _show_value(value)


def _show_value(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


# Overrides ------------------------------------------------------------------------------------------------


def _apply_override(draft: _Draft, override: str) -> None:
    """Put the value of `path.to.key=value` into the draft."""
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        draft.faults.append(Fault(f"--set {override}: write path.to.key=value, for example shots=[16]."))
        return
    aside = _Draft()
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = None if node is None else _read_node(node, (), aside, ())
    except yaml.YAMLError as error:
        problem = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
        draft.faults.append(Fault(f"--set {override}: the value is not YAML: {problem}."))
        return
    if aside.faults:
        draft.faults.extend(Fault(f"--set {override}: {fault.message}") for fault in aside.faults)
        return
    steps: Steps = ()
    holder: Any = draft.data
    for position, key in enumerate(keys):
        step = _find_step(draft, override, holder, key, steps)
        if step is None:
            return
        steps = (*steps, step)
        if position == len(keys) - 1:
            holder[step] = value
        elif isinstance(holder, dict):
            if holder.get(step) is None:
                holder[step] = {}
                draft.overrides.setdefault(steps, override)
            holder = _open_entry(holder, step, steps, keys[position + 1])
        else:
            holder = _open_entry(holder, step, steps, keys[position + 1])
    for places in (draft.lines, draft.overrides):
        for stale in [place for place in places if place[: len(steps)] == steps]:
            del places[stale]
    draft.overrides[steps] = override


def _find_step(draft: _Draft, override: str, holder: Any, key: str, steps: Steps) -> str | int | None:
    """The key or list position that `key` means inside `holder`; None after noting a fault."""
    where = f"`{_join_steps(steps)}`"
    if isinstance(holder, dict):
        return key
    if isinstance(holder, list):
        if key.isdecimal() and int(key) < len(holder):
            return int(key)
        if holder:
            allowed = "0" if len(holder) == 1 else f"0 to {len(holder) - 1}"
            message = f"{key!r} is no position in {where}. Allowed: {allowed}."
        else:
            message = f"{where} is an empty list: set the whole list."
    else:
        message = f"{where} is {_name_kind(holder)}: there is no {key!r} in it."
    draft.faults.append(Fault(f"--set {override}: {message}"))
    return None


def _open_entry(holder: Any, step: Any, steps: Steps, key: str) -> Any:
    """What stands at `step`; an entry written as a bare name is first written out as a mapping."""
    entry = holder[step]
    if isinstance(entry, str) and len(steps) == 2 and steps[0] == "models" and key in ModelChoice.model_fields:
        holder[step] = {"name": entry}
    elif isinstance(entry, str) and len(steps) == 2 and steps[0] in ("tasks", "methods") and key == entry:
        holder[step] = {entry: {}}
    return holder[step]


def _join_steps(steps: Steps) -> str:
    return ".".join(str(step) for step in steps)


# From the draft to the study ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Entry:
    """One resolved entry of `tasks` or `methods`."""

    steps: Steps
    name: str
    alias: str | None
    instance: Any
    """The settings as the task's or method's dataclass."""
    settings: dict[str, Any]
    changed: str
    """The settings that differ from their defaults, in words."""


def _resolve_study(draft: _Draft) -> Study | None:
    body = dict(draft.data)
    tasks = _read_entries(draft, "tasks", "task")
    methods = _read_entries(draft, "methods", "method")
    if body.get("floors", True) is True:
        methods = [*_missing_floors(draft, methods), *methods]
    for kind, entries in (("tasks", tasks), ("methods", methods)):
        if kind in body:
            body[kind] = []
        _refuse_twins(draft, entries, _name_entries(entries, derive=kind == "methods"))
    body["models"] = _read_models(draft, [entry.name for entry in methods])
    for key in ("data_seeds", "fit_seeds"):
        if isinstance(body.get(key), dict):
            body[key] = _count_seeds(draft, key, body[key])
    if isinstance(body.get("evaluation"), dict):
        limits = _validate(draft, ("evaluation",), Evaluation, body.pop("evaluation"), "key of evaluation")
        if limits is not None:
            body["evaluation"] = limits.model_dump()
    if body.get("pool_rows", 0) == 0:
        _refuse_missing_pool(draft, methods)
    for key in ("shots", "data_seeds", "fit_seeds", "metrics"):
        _refuse_repeats(draft, key)
    if body.get("shots_per") == "class" and body.get("sampling") == "natural":
        draft.refuse(
            ("shots_per",),
            "`shots_per: class` asks for equal rows a label and `sampling: natural` does not: "
            "use `shots_per: total` or `sampling: balanced`.",
        )
    study = _validate(draft, (), Study, body, "key")
    if study is None:
        return None
    return study.model_copy(
        update={
            "tasks": tuple(
                TaskChoice(name=entry.name, label=label, settings=entry.settings)
                for entry, label in zip(tasks, _name_entries(tasks, derive=False), strict=True)
            ),
            "methods": tuple(
                MethodChoice(name=entry.name, variant=variant, settings=entry.settings)
                for entry, variant in zip(methods, _name_entries(methods, derive=True), strict=True)
            ),
        }
    )


def _missing_floors(draft: _Draft, methods: Sequence[_Entry]) -> list[_Entry]:
    """The floors that a study does not list itself; those that need a model only where it names one."""
    listed = {entry.name for entry in methods}
    wanted = [name for name in METHODS if name not in listed and get_method(name).floor]
    if not draft.data.get("models"):
        wanted = [name for name in wanted if not get_method(name).uses_model]
    entries = [_read_entry(draft, ("methods",), name, "method") for name in wanted]
    return [entry for entry in entries if entry is not None]


def _read_list(draft: _Draft, key: str, example: str) -> list[Any]:
    """The list at a top-level key; empty after noting a fault, or where the key is missing."""
    if key not in draft.data:
        return []
    value = draft.data[key]
    if not isinstance(value, list):
        draft.refuse((key,), f"`{key}` is {_name_kind(value)}: it should be a list, for example {example}.")
        return []
    return value


def _read_models(draft: _Draft, methods: Iterable[str]) -> list[dict[str, Any]]:
    """The resolved models; notes a fault where there is none and a method needs one."""
    given = _read_list(draft, "models", "[smollm2-135m]")
    first_place: dict[str, Steps] = {}
    choices = []
    for i, entry in enumerate(given):
        steps = ("models", i)
        if isinstance(entry, str):
            entry = {"name": entry}
        if not isinstance(entry, dict):
            draft.refuse(steps, f"`models.{i}` is {_name_kind(entry)}: give a name, or {{name: ..., revision: ...}}.")
            continue
        choice = _validate(draft, steps, ModelChoice, entry, "key of a model")
        if choice is None:
            continue
        if choice.name in first_place:
            first = draft.describe_place(first_place[choice.name])
            # Records tell models apart by name, so two revisions of one model need two studies.
            draft.refuse(steps, f"model {choice.name!r} is listed twice{first}: keep one.")
        first_place.setdefault(choice.name, steps)
        choices.append(choice.model_dump())
    users = [name for name in methods if get_method(name).uses_model]
    if users and draft.data.get("models", []) == []:
        draft.refuse(
            ("models",),
            f"`models` is {'empty' if 'models' in draft.data else 'missing'}: "
            f"{', '.join(dict.fromkeys(users))} cannot do without. For example models: [smollm2-135m].",
        )
    return choices


def _read_entries(draft: _Draft, key: str, what: str) -> list[_Entry]:
    """The entries of `tasks` or `methods` that are sound, settings resolved; faults go to the draft."""
    given = _read_list(draft, key, "[sentiment]" if key == "tasks" else "[majority, in_context]")
    if draft.data.get(key) == []:
        draft.refuse((key,), f"`{key}` is empty: name at least one {what}.")
    entries = [_read_entry(draft, (key, i), entry, what) for i, entry in enumerate(given)]
    return [entry for entry in entries if entry is not None]


def _read_entry(draft: _Draft, steps: Steps, entry: Any, what: str) -> _Entry | None:
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or not entry:
        draft.refuse(
            steps,
            f"`{_join_steps(steps)}` is {_name_kind(entry)}: give a {what}'s name, or {{name: {{settings}}}}.",
        )
        return None
    if len(entry) > 1:
        draft.refuse(
            steps,
            f"`{_join_steps(steps)}` has the keys {', '.join(entry)}: an entry is one {what} with its settings."
            f" Indent the settings below the {what}'s name, and start every {what} with `- `.",
        )
        return None
    name, values = next(iter(entry.items()))
    place = (*steps, name)
    try:
        shape = _find_settings(what, name)
    except FewtuneError as error:
        draft.refuse(place, str(error))
        return None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        draft.refuse(
            place,
            f"`{_join_steps(place)}` is {_name_kind(values)}: settings should be a mapping, {{key: value}}.",
        )
        return None
    values = dict(values)
    alias = values.pop("as", None)
    sound = True
    if alias is not None and (not isinstance(alias, str) or not alias.strip()):
        draft.refuse((*place, "as"), f"`{_join_steps(place)}.as` is {_show_value(alias)}: it should be a name.")
        sound = False
    settings = _validate(draft, place, shape, values, f"setting of {name}")
    if settings is None or not sound:
        return None
    resolved: dict[str, Any] = TypeAdapter(shape).dump_python(settings, mode="json")
    if _refuse_dropped(draft, place, values, resolved):
        return None
    return _Entry(steps, name, alias, settings, resolved, _describe_changes(shape, resolved))


def _refuse_dropped(draft: _Draft, steps: Steps, given: Any, resolved: Any) -> bool:
    """Note keys that validation dropped: a dataclass inside the settings passes over those it does not know."""
    pairs: list[tuple[str | int, Any, Any]] = []
    dropped = []
    if isinstance(given, dict) and isinstance(resolved, dict):
        dropped = [key for key in given if key not in resolved]
        pairs = [(key, value, resolved[key]) for key, value in given.items() if key in resolved]
    elif isinstance(given, list) and isinstance(resolved, list):
        pairs = [(i, *pair) for i, pair in enumerate(zip(given, resolved, strict=False))]
    for key in dropped:
        draft.refuse((*steps, key), name_choices(key, resolved, f"key of `{_join_steps(steps)}`"))
    deeper = [_refuse_dropped(draft, (*steps, step), inner, kept) for step, inner, kept in pairs]
    return bool(dropped) or any(deeper)


def _find_settings(what: str, name: str) -> type:
    settings: type = get_method(name).settings if what == "method" else get_task_module(name).Settings
    return settings


def _describe_changes(shape: type, resolved: Mapping[str, Any]) -> str:
    changes = []
    for item in dataclasses.fields(shape):
        value = resolved[item.name]
        if item.default_factory is not dataclasses.MISSING:
            default = to_jsonable_python(item.default_factory())
        elif item.default is not dataclasses.MISSING:
            default = to_jsonable_python(item.default)
        else:
            default = dataclasses.MISSING
        if value != default:
            changes.append(f"{item.name}={value if isinstance(value, str) else json.dumps(value)}")
    return ", ".join(changes)


def _name_entries(entries: Sequence[_Entry], *, derive: bool) -> list[str]:
    """Each entry's name in the study: `as`, or its own, with the changed settings where that is not enough."""
    unnamed = Counter(entry.name for entry in entries if entry.alias is None)
    names = []
    for entry in entries:
        if entry.alias is not None:
            names.append(entry.alias)
        elif derive and unnamed[entry.name] > 1 and entry.changed:
            names.append(f"{entry.name}[{entry.changed}]")
        else:
            names.append(entry.name)
    return names


def _refuse_twins(draft: _Draft, entries: Sequence[_Entry], names: Sequence[str]) -> None:
    """Note entries that are the same thing twice, or two things under one name."""
    for i, entry in enumerate(entries):
        for other, other_name in zip(entries[:i], names[:i], strict=True):
            first = draft.describe_place(other.steps)
            if entry.name == other.name and entry.settings == other.settings:
                message = f"{names[i]!r} has the same settings as {other_name!r}{first}: keep one."
            elif names[i] == other_name:
                message = f"the name {names[i]!r} is given twice{first}: name one of them with `as: ...`."
            else:
                continue
            draft.refuse(entry.steps, message)
            break


def _refuse_missing_pool(draft: _Draft, methods: Iterable[_Entry]) -> None:
    for entry in methods:
        if get_method(entry.name).needs_pool(entry.instance):
            draft.refuse(
                entry.steps,
                f"{entry.name} needs unlabelled rows here and `pool_rows` is 0: set it, for example pool_rows: 256.",
            )


def _count_seeds(draft: _Draft, key: str, value: dict[str, Any]) -> list[int]:
    """The seeds of `{count: 5}`: 0 to 4."""
    count = value.get("count")
    if set(value) != {"count"} or type(count) is not int or count < 1:
        message = f"`{key}` is {_show_value(value)}: give a list of seeds, or {{count: 5}} for 0 to 4."
        draft.refuse((key,), message)
        return [0]
    return list(range(count))


def _refuse_repeats(draft: _Draft, key: str) -> None:
    values = draft.data.get(key)
    if not isinstance(values, list):
        return
    for i, value in enumerate(values):
        if isinstance(value, int | str) and value in values[:i]:
            draft.refuse((key, i), f"{_show_value(value)} stands twice in `{key}`: keep one.")


# Validation -----------------------------------------------------------------------------------------------


def _list_fields(shape: type[Any]) -> list[str]:
    if issubclass(shape, BaseModel):
        return list(shape.model_fields)
    return [item.name for item in dataclasses.fields(shape) if item.init]


def _validate(draft: _Draft, steps: Steps, shape: type[Shape], values: dict[str, Any], what: str) -> Shape | None:
    """The values as a `shape`; None after noting every unknown key, wrong type and value out of range."""
    allowed = _list_fields(shape)
    unknown = [key for key in values if key not in allowed]
    for key in unknown:
        refusal = name_choices(key, allowed, what) if allowed else f"{what} {key!r}: there are no settings."
        draft.refuse((*steps, key), refusal)
    known = {key: value for key, value in values.items() if key in allowed}
    try:
        # As JSON, strictness lets a list be a tuple and still refuses "4" for 4.
        result = TypeAdapter(shape).validate_json(json.dumps(known), strict=True)
    except ValidationError as error:
        _refuse_errors(draft, steps, known, error)
        return None
    except FewtuneError as error:
        draft.refuse(steps, str(error))
        return None
    return None if unknown else result


def _refuse_errors(draft: _Draft, steps: Steps, values: Any, error: ValidationError) -> None:
    """Note pydantic's errors, one fault a place: the branches of a union fail together."""
    by_place: dict[Steps, list[ErrorDetails]] = {}
    for details in error.errors():
        place: Steps = ()
        holder = values
        for step in details["loc"]:
            here = isinstance(step, str) and isinstance(holder, dict) and step in holder
            if here or (isinstance(step, int) and isinstance(holder, list) and step < len(holder)):
                holder = holder[step]
                place = (*place, step)
            elif details["type"] in ("missing", "extra_forbidden") and step == details["loc"][-1]:
                place = (*place, step)
        by_place.setdefault(place, []).append(details)
    for place, several in by_place.items():
        deeper = any(len(other) > len(place) and other[: len(place)] == place for other in by_place)
        if deeper and several[0]["type"] == "too_short":
            continue  # pydantic counts the sound items alone: [0] is refused for its item, not for its length
        draft.refuse((*steps, *place), _word_errors((*steps, *place), several))


def _word_errors(steps: Steps, several: Sequence[ErrorDetails]) -> str:
    where = f"`{_join_steps(steps)}`" if steps else "the study"
    first = several[0]
    if first["type"] == "missing":
        return f"{where} is missing."
    if first["type"] == "literal_error" and len(several) == 1 and isinstance(first["input"], str):
        return name_choices(first["input"], re.findall(r"'([^']*)'", first["ctx"]["expected"]), f"{where} value")
    if first["type"] == "value_error":
        return f"{where}: {first['msg'].removeprefix('Value error, ')}"
    subject = re.compile(r"^(Input|Value|List|Tuple|String|Object)\b")
    messages = [details["msg"].replace(" after validation, not 0", "") for details in several]
    wants = [subject.sub("it", message) for message in messages]
    shown = _show_value(to_jsonable_python(first["input"], fallback=str))
    return f"{where} is {shown}: {', or '.join(dict.fromkeys(wants))}."


# JSON Schema ----------------------------------------------------------------------------------------------


def study_schema() -> dict[str, Any]:
    """The JSON Schema of a study file, with every task's and method's settings, for editors."""
    schema = Study.model_json_schema()
    definitions = schema.pop("$defs")
    shared = {"Evaluation": definitions["Evaluation"]}
    properties = schema["properties"]
    properties["models"] |= {"items": {"anyOf": [{"type": "string"}, definitions["ModelChoice"]]}}
    for key, what, names in (("tasks", "task", TASKS), ("methods", "method", METHODS)):
        properties[key] |= {"items": _describe_entries(what, sorted(names), shared), "minItems": 1}
    for key in ("data_seeds", "fit_seeds"):
        about = {name: properties[key].pop(name) for name in ("description", "default")}
        count = {
            "type": "object",
            "properties": {"count": {"type": "integer", "minimum": 1, "description": "Seeds 0 to count - 1."}},
            "required": ["count"],
            "additionalProperties": False,
        }
        properties[key] = {**about, "anyOf": [properties[key] | {"uniqueItems": True}, count]}
    for key in ("shots", "metrics"):
        properties[key]["uniqueItems"] = True
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
        settings = TypeAdapter(_find_settings(what, name)).json_schema(ref_template=template)
        for nested, definition in settings.pop("$defs", {}).items():
            shared[f"{what}.{name}.{nested}"] = definition
        summary = get_method(name).summary if what == "method" else get_task_module(name).SUMMARY
        alias = {"type": "string", "minLength": 1, "description": f"What this study calls the {what}."}
        settings["properties"] = {**settings.get("properties", {}), "as": alias}
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
