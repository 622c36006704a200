"""From a study as written to a `Study`: entries, variants, floors and seeds resolved, contradictions told.

Owns what one part of a study asks of another. Loads neither models nor rows.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from fewtune.errors import Fault, FewtuneError, StudyError, list_names, name_choices, shorten
from fewtune.methods import METHODS, get_method
from fewtune.study.draft import MOST_CHARACTERS, Draft, Steps, join_steps, name_kind, parse_file, show_value
from fewtune.study.overrides import apply_override
from fewtune.study.settings import find_settings
from fewtune.study.validation import validate
from fewtune.study.values import (
    MOST_ENTRIES,
    MOST_NAME,
    MOST_TRIALS,
    MOST_TUNING_TRIALS,
    Evaluation,
    MethodChoice,
    ModelChoice,
    Study,
    TaskChoice,
    Tuning,
    adapter_of,
)


def load_study(path: Path | str, overrides: Sequence[str] = ()) -> Study:
    """Read a study file, apply `path.to.key=value` overrides; raises StudyError with every fault at once."""
    source = str(path)
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            text = file.read(MOST_CHARACTERS + 1)  # what is longer is refused unread
    except FileNotFoundError:
        raise StudyError(source, [Fault("no such file. Give the path of a study's YAML file.")]) from None
    except UnicodeDecodeError as error:
        raise StudyError(source, [Fault(f"not a text file in UTF-8 ({error.reason}).")]) from None
    except OSError as error:
        raise StudyError(source, [Fault(f"cannot be read ({error.strerror}).")]) from None
    except ValueError as error:  # a path that holds a NUL character
        raise StudyError(source, [Fault(f"cannot be read ({error}).")]) from None
    draft = parse_file(text, source)
    for override in overrides:
        apply_override(draft, override)
    return _finish(draft, source)


def _finish(draft: Draft, source: str, lines: bool = True) -> Study:
    """The study of a draft; raises StudyError with its faults, without their lines where no file has any."""
    study = resolve_study(draft)
    if draft.faults or study is None:
        unique = dict.fromkeys(draft.faults if lines else (Fault(fault.message) for fault in draft.faults))
        raise StudyError(source, sorted(unique, key=lambda f: (f.line is None, f.line or 0)))
    return study


def read_study(values: Mapping[str, Any], overrides: Sequence[str] = ()) -> Study:
    """A study from the values that a study file holds, given in Python; raises StudyError with every fault at once."""
    source = "the study"
    try:
        text = json.dumps(values, default=_write_value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise StudyError(source, [Fault(f"it holds what no study file can: {error}.")]) from None
    # JSON is YAML: what holds for a file, its bounds too, holds for values.
    draft = parse_file(text, source)
    for override in overrides:
        apply_override(draft, override)
    return _finish(draft, source, lines=False)


def _write_value(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, range):
        return list(value)
    raise TypeError(f"a {type(value).__name__}")


@dataclass(frozen=True)
class _Entry:
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


def resolve_study(draft: Draft) -> Study | None:
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
    parts: dict[str, type[Evaluation] | type[Tuning]] = {"evaluation": Evaluation, "tuning": Tuning}
    for key, part in parts.items():
        if isinstance(body.get(key), dict):
            read = validate(draft, (key,), part, body.pop(key), f"key of {key}")
            if read is not None:
                body[key] = read.model_dump()
    _refuse_unequal_tuning(draft, methods)
    _refuse_many_trials(draft, body, methods)
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
    study = validate(draft, (), Study, body, "key")
    if study is None:
        return None
    return study.model_copy(
        update={
            "tasks": tuple(
                TaskChoice(name=entry.name, label=label, settings=entry.settings)
                for entry, label in zip(tasks, _name_entries(tasks, derive=False), strict=True)
            ),
            "methods": tuple(
                MethodChoice(name=entry.name, variant=variant, settings=entry.settings, grid=entry.grid)
                for entry, variant in zip(methods, _name_entries(methods, derive=True), strict=True)
            ),
        }
    )


def _missing_floors(draft: Draft, methods: Sequence[_Entry]) -> list[_Entry]:
    """The floors that a study does not list itself; those that need a model only where it names one."""
    listed = {entry.name for entry in methods}
    wanted = [name for name in METHODS if name not in listed and get_method(name).floor]
    if not draft.data.get("models"):
        wanted = [name for name in wanted if not get_method(name).uses_model]
    entries = [_read_entry(draft, ("methods",), name, "method") for name in wanted]
    return [entry for entry in entries if entry is not None]


def _read_list(draft: Draft, key: str, example: str) -> list[Any]:
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


def _read_models(draft: Draft, methods: Iterable[str]) -> list[dict[str, Any]]:
    """The resolved models; notes a fault where there is none and a method needs one."""
    given = _read_list(draft, "models", "[smollm2-135m]")
    first_place: dict[str, Steps] = {}
    choices = []
    for i, entry in enumerate(given):
        steps = ("models", i)
        if isinstance(entry, str):
            entry = {"name": entry}
        if not isinstance(entry, dict):
            draft.refuse(steps, f"`models.{i}` is {name_kind(entry)}: give a name, or {{name: ..., revision: ...}}.")
            continue
        choice = validate(draft, steps, ModelChoice, entry, "key of a model")
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


def _read_entries(draft: Draft, key: str, what: str) -> list[_Entry]:
    """The entries of `tasks` or `methods` that are sound, settings resolved; faults go to the draft."""
    given = _read_list(draft, key, "[sentiment]" if key == "tasks" else "[majority, in_context]")
    if draft.data.get(key) == []:
        draft.refuse((key,), f"`{key}` is empty: name at least one {what}.")
    entries = [_read_entry(draft, (key, i), entry, what) for i, entry in enumerate(given)]
    return [entry for entry in entries if entry is not None]


def _read_entry(draft: Draft, steps: Steps, entry: Any, what: str) -> _Entry | None:
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
    sound = True
    if alias is not None and (not isinstance(alias, str) or not alias.strip()):
        draft.refuse((*place, "as"), f"`{join_steps(place)}.as` is {show_value(alias)}: it should be a name.")
        sound = False
    elif alias is not None and len(alias) > MOST_NAME:
        draft.refuse((*place, "as"), f"`{join_steps(place)}.as` has {len(alias)} characters: at most {MOST_NAME}.")
        sound = False
    settings = validate(draft, place, shape, values, f"setting of {name}")
    if settings is None or not sound:
        return None
    resolved: dict[str, Any] = adapter_of(shape).dump_python(settings, mode="json")
    if _refuse_dropped(draft, place, values, resolved):
        return None
    changed = _describe_changes(shape, resolved)
    if grid is None:
        return _Entry(steps, name, alias, (settings,), resolved, {}, changed)
    combinations = _read_grid(draft, place, shape, values, grid)
    if not combinations:
        return None
    plain = [adapter_of(shape).dump_python(instance, mode="json") for instance in combinations]
    options = {key: tuple(_list_distinct(settings[key] for settings in plain)) for key in grid}
    return _Entry(steps, name, alias, tuple(combinations), plain[0], options, changed)


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


def _refuse_unequal_tuning(draft: Draft, methods: Sequence[_Entry]) -> None:
    """Note every method that would be tuned more or less than another."""
    tuning = draft.data.get("tuning")
    trials = tuning.get("trials") if isinstance(tuning, dict) else None
    for entry in methods:
        if tuning is None and entry.grid:
            draft.refuse(
                entry.steps,
                f"{entry.name} has a grid and the study no `tuning`: "
                f"add tuning: {{trials: {len(entry.instances)}, folds: 4}}, or remove the grid.",
            )
        elif trials is None:
            continue
        elif not entry.grid and entry.settings and not get_method(entry.name).floor:
            draft.refuse(
                entry.steps,
                f"{entry.name} has no grid: under `tuning` every method but the floors chooses from {trials} settings, "
                "or it is compared untuned with tuned ones. Give it a grid, or run it in a study without tuning.",
            )
        elif entry.grid and len(entry.instances) != trials:
            sizes = " x ".join(f"{key} {len(options)}" for key, options in entry.grid.items())
            count = f"{len(entry.instances)} setting{'s' if len(entry.instances) != 1 else ''}"
            draft.refuse(
                entry.steps,
                f"the grid of {entry.name} has {count} ({sizes}) and `tuning.trials` is "
                f"{trials}: every method is tuned with equal effort. Give each a grid of {trials}.",
            )


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


def _refuse_twins(draft: Draft, entries: Sequence[_Entry], names: Sequence[str]) -> None:
    """Note entries that are the same thing twice, or two things under one name."""
    alike: dict[str, int] = {}
    named: dict[str, int] = {}
    for i, (entry, name) in enumerate(zip(entries, names, strict=True)):
        thing = json.dumps([entry.name, entry.settings, entry.grid], sort_keys=True)
        same, other = alike.setdefault(thing, i), named.setdefault(name, i)
        if same < i:
            first = draft.describe_place(entries[same].steps)
            draft.refuse(entry.steps, f"{name!r} has the same settings as {names[same]!r}{first}: keep one.")
        elif other < i:
            first = draft.describe_place(entries[other].steps)
            draft.refuse(entry.steps, f"the name {name!r} is given twice{first}: name one of them with `as: ...`.")


def _refuse_missing_pool(draft: Draft, methods: Iterable[_Entry]) -> None:
    for entry in methods:
        if any(get_method(entry.name).needs_pool(instance) for instance in entry.instances):
            draft.refuse(
                entry.steps,
                f"{entry.name} needs unlabelled rows here and `pool_rows` is 0: set it, for example pool_rows: 256.",
            )


def _count_seeds(draft: Draft, key: str, value: dict[str, Any]) -> list[int]:
    """The seeds of `{count: 5}`: 0 to 4."""
    count = value.get("count")
    if set(value) != {"count"} or type(count) is not int or count < 1:
        message = f"`{key}` is {show_value(value)}: give a list of seeds, or {{count: 5}} for 0 to 4."
        draft.refuse((key,), message)
        return [0]
    if count > MOST_ENTRIES:
        draft.refuse((key,), f"`{key}` counts {count} seeds: at most {MOST_ENTRIES} in a study.")
        return [0]
    return list(range(count))


def _refuse_repeats(draft: Draft, key: str) -> None:
    values = draft.data.get(key)
    if not isinstance(values, list):
        return
    seen: set[Any] = set()
    for i, value in enumerate(values):
        if not isinstance(value, int | float | str):
            continue
        if value in seen and not isinstance(value, float):
            draft.refuse((key, i), f"{show_value(value)} stands twice in `{key}`: keep one.")
        seen.add(value)


def _refuse_many_trials(draft: Draft, body: Mapping[str, Any], methods: Sequence[_Entry]) -> None:
    """Note a grid of more trials than a study may have, before they are listed."""

    def count(key: str) -> int:
        values = body.get(key)
        return max(1, len(values)) if isinstance(values, list) else 1

    fits = 0
    for entry in methods:
        method = get_method(entry.name)
        seeded = any(method.uses_fit_seed(instance) for instance in entry.instances)
        fits += (count("models") if method.uses_model else 1) * (count("fit_seeds") if seeded else 1)
    tasks = draft.data.get("tasks")
    draws = (len(tasks) if isinstance(tasks, list) else 1) * count("shots") * count("data_seeds")
    if fits * draws > MOST_TRIALS:
        draft.refuse(
            (),
            f"models x tasks x methods x shots x seeds make {fits * draws} trials; a study may have {MOST_TRIALS}. "
            "Name fewer, or split the study up.",
        )
