"""Reads and checks the entries of a study's `tasks` and `methods`: a name with its settings.

Owns what one entry may hold, its grid too, and what two entries ask of each other. Does not know the rest of a study.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from fewtune.errors import FewtuneError, list_names, name_choices, shorten
from fewtune.methods import get_method
from fewtune.plurals import pluralise
from fewtune.study.draft import Draft, Steps, join_steps, name_kind, show_value
from fewtune.study.settings import find_settings, write_settings
from fewtune.study.validation import validate
from fewtune.study.values import MOST_ENTRIES, MOST_NAME, MOST_TUNING_TRIALS


@dataclass(frozen=True)
class Entry:
    """One resolved entry of `tasks` or `methods`."""

    steps: Steps
    name: str
    alias: str | None
    instances: tuple[Any, ...]
    """The settings as the task's or method's dataclass, one for each combination of the grid."""
    settings: dict[str, Any]
    grid: dict[str, tuple[Any, ...]]
    """A method's values to choose from, by setting."""
    changed: str
    """The settings that differ from their defaults, in words."""
    models: tuple[str, ...] = ()
    """Those of the study's that a method runs on; none: all."""


def read_list(draft: Draft, key: str, example: str) -> list[Any]:
    """The list at a top-level key; empty after noting a fault, or where the key is missing."""
    if key not in draft.data:
        return []
    value = draft.data[key]
    if not isinstance(value, list):
        draft.refuse((key,), f"`{key}` is {name_kind(value)}: it should be a list, for example {example}.")
        return []
    if len(value) > MOST_ENTRIES:
        draft.refuse((key,), f"`{key}` lists {len(value)}: list at most {MOST_ENTRIES} in a study.")
        return []
    return value


def read_entries(draft: Draft, key: str, what: str) -> list[Entry]:
    """The entries of `tasks` or `methods` that are sound, settings resolved; faults go to the draft."""
    given = read_list(draft, key, "[sentiment]" if key == "tasks" else "[majority, in_context]")
    if draft.data.get(key) == []:
        draft.refuse((key,), f"`{key}` is empty: name at least one {what}.")
    entries = [read_entry(draft, (key, i), entry, what) for i, entry in enumerate(given)]
    return [entry for entry in entries if entry is not None]


def read_entry(draft: Draft, steps: Steps, entry: Any, what: str) -> Entry | None:
    if isinstance(entry, str):
        entry = {entry: None}
    if not isinstance(entry, dict) or not entry:
        draft.refuse(
            steps,
            f"`{join_steps(steps)}` is {name_kind(entry)}: give a {what}'s name, or {{name: {{settings}}}}.",
        )
        return None
    if len(entry) > 1:
        draft.refuse(
            steps,
            f"`{join_steps(steps)}` has the keys {list_names(entry)}: an entry is one {what} with its settings."
            f" Indent the settings below the {what}'s name, and start every {what} with `- `.",
        )
        return None
    name, values = next(iter(entry.items()))
    place = (*steps, name)
    try:
        shape = find_settings(what, name)
    except FewtuneError as error:
        draft.refuse(place, str(error))
        return None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        draft.refuse(
            place,
            f"`{join_steps(place)}` is {name_kind(values)}: settings should be a mapping, {{key: value}}.",
        )
        return None
    values = dict(values)
    alias = values.pop("as", None)
    grid = values.pop("grid", None) if what == "method" else None
    models = values.pop("models", []) if what == "method" else []
    sound = True
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        message = f"`{join_steps((*place, 'models'))}` is {name_kind(models)}: give names, for example [smollm2-135m]."
        draft.refuse((*place, "models"), message)
        sound = False
    if alias is not None and (not isinstance(alias, str) or not alias.strip()):
        draft.refuse(
            (*place, "as"), f"`{join_steps(place)}.as` is {show_value(alias)}: it should be a name, in quotes."
        )
        sound = False
    elif alias is not None and len(alias) > MOST_NAME:
        draft.refuse(
            (*place, "as"), f"`{join_steps(place)}.as` has {pluralise(len(alias), 'character')}: at most {MOST_NAME}."
        )
        sound = False
    settings = validate(draft, place, shape, values, f"setting of {name}")
    if settings is None or not sound:
        return None
    resolved = write_settings(settings)
    if _refuse_dropped(draft, place, values, resolved):
        return None
    changed = _describe_changes(shape, resolved)
    combinations = [settings] if grid is None else _read_grid(draft, place, shape, values, grid)
    if what == "method" and _refuse_unread_pattern(draft, place, combinations):
        return None
    if grid is None:
        return Entry(steps, name, alias, (settings,), resolved, {}, changed, tuple(models))
    if not combinations:
        return None
    plain = [write_settings(instance) for instance in combinations]
    options = {key: tuple(_list_distinct(settings[key] for settings in plain)) for key in grid}
    return Entry(steps, name, alias, tuple(combinations), plain[0], options, changed, tuple(models))


def _refuse_unread_pattern(draft: Draft, place: Steps, combinations: Sequence[Any]) -> bool:
    """Note a fault where a method is given a pattern that no combination of its settings reads."""
    name = str(place[-1])
    given = [settings for settings in combinations if getattr(settings, "pattern", None)]
    if not given or any(map(get_method(name).uses_pattern, given)):
        return False
    where = join_steps((*place, "pattern"))
    draft.refuse((*place, "pattern"), f"`{where}` is set, and {name} reads plain texts so: leave `pattern` out.")
    return True


def _read_grid(draft: Draft, place: Steps, shape: type, values: Mapping[str, Any], grid: Any) -> list[Any]:
    """The settings of every combination of a grid; empty after noting a fault."""
    where = f"`{join_steps((*place, 'grid'))}`"
    example = "give values to choose from by setting, for example {learning_rate: [1e-5, 3e-5]}."
    if not isinstance(grid, dict) or not grid:
        draft.refuse((*place, "grid"), f"{where} is {name_kind(grid)}: {example}")
        return []
    sound = True
    for key, options in grid.items():
        message = None
        if not isinstance(options, list) or not options:
            message = f"{where} has {name_kind(options)} for {shorten(key)}: {example}"
        elif key in values:
            message = f"{shorten(key)} stands in the settings and in the grid: keep one."
        elif len(options) <= MOST_TUNING_TRIALS and len(_list_distinct(options)) < len(options):
            message = f"{where} lists a value of {shorten(key)} twice: keep one."
        if message is not None:
            draft.refuse((*place, "grid", key), message)
            sound = False
    if not sound:
        return []
    if (count := math.prod(map(len, grid.values()))) > MOST_TUNING_TRIALS:
        draft.refuse((*place, "grid"), f"{where} has {count} combinations: give at most {MOST_TUNING_TRIALS}.")
        return []
    combinations = [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values())]
    what = f"setting of {place[-1]}"
    read = [validate(draft, (*place, "grid"), shape, {**values, **chosen}, what) for chosen in combinations]
    return [] if any(instance is None for instance in read) else read


def _list_distinct(values: Iterable[Any]) -> list[Any]:
    """The values in order, each once; unlike a set, this takes lists."""
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct


def _refuse_dropped(draft: Draft, steps: Steps, given: Any, resolved: Any) -> bool:
    """Note keys that validation dropped: a dataclass inside the settings passes over those it does not know."""
    pairs: list[tuple[str | int, Any, Any]] = []
    dropped = []
    if isinstance(given, dict) and isinstance(resolved, dict):
        dropped = [key for key in given if key not in resolved]
        pairs = [(key, value, resolved[key]) for key, value in given.items() if key in resolved]
    elif isinstance(given, list) and isinstance(resolved, list):
        pairs = [(i, *pair) for i, pair in enumerate(zip(given, resolved, strict=False))]
    for key in dropped:
        draft.refuse((*steps, key), name_choices(key, resolved, f"key of `{join_steps(steps)}`"))
    deeper = [_refuse_dropped(draft, (*steps, step), inner, kept) for step, inner, kept in pairs]
    return bool(dropped) or any(deeper)


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


def name_entries(entries: Sequence[Entry], *, derive: bool) -> list[str]:
    """Each entry's name in the study: `as`, or its own, with the changed settings where that is not enough."""
    unnamed = Counter(entry.name for entry in entries if entry.alias is None)
    names = []
    for entry in entries:
        if entry.alias is not None:
            names.append(entry.alias)
        elif derive and unnamed[entry.name] > 1 and entry.changed:
            names.append(_shorten_name(f"{entry.name}[{entry.changed}]"))
        else:
            names.append(entry.name)
    return names


def _shorten_name(name: str) -> str:
    """A derived name that a study file may hold: a longer one ends in eight digits of its SHA-256."""
    if len(name) <= MOST_NAME:
        return name
    ending = f"… {hashlib.sha256(name.encode()).hexdigest()[:8]}]"
    return name[: MOST_NAME - len(ending)] + ending


def _share_models(one: Entry, other: Entry) -> bool:
    """Whether two entries run on any model both."""
    return not one.models or not other.models or not set(one.models).isdisjoint(other.models)


def refuse_twins(draft: Draft, entries: Sequence[Entry], names: Sequence[str]) -> None:
    """Note entries that are the same thing twice, or two things under one name."""
    alike: dict[str, list[int]] = {}
    named: dict[str, int] = {}
    for i, (entry, name) in enumerate(zip(entries, names, strict=True)):
        things = alike.setdefault(json.dumps([entry.name, entry.settings, entry.grid], sort_keys=True), [])
        same = next((place for place in things if _share_models(entries[place], entry)), None)
        things.append(i)
        other = named.setdefault(name, i)
        if same is not None:
            first = draft.describe_place(entries[same].steps)
            draft.refuse(entry.steps, f"{name!r} has the same settings as {names[same]!r}{first}: keep one.")
        elif other < i:
            first = draft.describe_place(entries[other].steps)
            draft.refuse(entry.steps, f"the name {name!r} is given twice{first}: name one of them with `as: ...`.")
