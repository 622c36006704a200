"""Resolves a draft into a `Study`: baselines, models, seeds, and what one part asks of another.

Owns the faults that take more than one key to tell. Loads neither models nor rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fewtune.errors import name_choices
from fewtune.methods import METHODS, get_method
from fewtune.metrics.counts import SCORES
from fewtune.plurals import pluralise
from fewtune.study.draft import Draft, Steps, name_kind, show_value
from fewtune.study.entries import Entry, name_entries, read_entries, read_entry, read_list, refuse_twins
from fewtune.study.validation import validate
from fewtune.study.values import (
    MOST_ENTRIES,
    MOST_TRIALS,
    Budget,
    Evaluation,
    MethodChoice,
    ModelChoice,
    Resources,
    Study,
    TaskChoice,
    Tuning,
    Until,
)


def resolve_study(draft: Draft) -> Study | None:
    body = dict(draft.data)
    tasks = read_entries(draft, "tasks", "task")
    methods = read_entries(draft, "methods", "method")
    if body.get("baselines", True) is True:
        methods = [*_missing_baselines(draft, methods), *methods]
    for kind, entries in (("tasks", tasks), ("methods", methods)):
        if kind in body:
            body[kind] = []
        refuse_twins(draft, entries, name_entries(entries, derive=kind == "methods"))
    body["models"] = _read_models(draft, [entry.name for entry in methods])
    _refuse_other_models(draft, methods, [choice["name"] for choice in body["models"]])
    for key in ("data_seeds", "fit_seeds"):
        if isinstance(body.get(key), dict | int):
            body[key] = _count_seeds(draft, key, body[key])
    _read_until(draft, body)
    asked = body["until"].get("most_draws") if isinstance(body.get("until"), dict) else None
    parts: dict[str, type[Budget | Evaluation | Resources | Tuning | Until]] = {
        "budget": Budget,
        "evaluation": Evaluation,
        "resources": Resources,
        "tuning": Tuning,
        "until": Until,
    }
    for key, part in parts.items():
        if isinstance(body.get(key), dict):
            read = validate(draft, (key,), part, body.pop(key), f"key of {key}")
            if read is not None:
                body[key] = read.model_dump()
    _add_draws(draft, body, asked)
    _refuse_unequal_tuning(draft, methods)
    _refuse_many_trials(draft, body, methods)
    if body.get("pool_rows", 0) == 0:
        _refuse_missing_pool(draft, methods)
    for key in ("shots", "data_seeds", "fit_seeds", "metrics"):
        _refuse_repeats(draft, key)
    metrics = body.get("metrics")
    if isinstance(metrics, list) and metrics == ["ece"]:
        draft.refuse(("metrics",), f"results cannot be judged by ece: name one of {', '.join(SCORES)} before it.")
    sampling = body.get("sampling")
    if body.get("shots_per") == "class" and sampling in ("stratified", "natural"):
        draft.refuse(
            ("shots_per",),
            f"`shots_per: class` asks for equal rows a label and `sampling: {sampling}` does not: "
            "use `shots_per: total` or `sampling: balanced`.",
        )
    study = validate(draft, (), Study, body, "key")
    if study is None:
        return None
    return study.model_copy(
        update={
            "tasks": tuple(
                TaskChoice(name=entry.name, label=label, settings=entry.settings)
                for entry, label in zip(tasks, name_entries(tasks, derive=False), strict=True)
            ),
            "methods": tuple(
                MethodChoice(
                    name=entry.name, variant=variant, settings=entry.settings, grid=entry.grid, models=entry.models
                )
                for entry, variant in zip(methods, name_entries(methods, derive=True), strict=True)
            ),
        }
    )


def _read_until(draft: Draft, body: dict[str, Any]) -> None:
    """Write `until: decided` out, and let its tolerance be the study's; one given over the file is in its place."""
    if isinstance(body.get("until"), str):
        if body["until"] != "decided":
            draft.refuse(("until",), f"`until` is {show_value(body['until'])}: give decided, or {{most_draws: 12}}.")
        body["until"] = {}
    if not isinstance(body.get("until"), dict) or "within" not in body["until"]:
        return
    within = body["until"]["within"]
    body["until"] = {key: value for key, value in body["until"].items() if key != "within"}
    over_file = [place[0] for place in draft.overrides if place in {("within",), ("until",), ("until", "within")}]
    if over_file == ["within"]:
        return
    if set(over_file) == {"until"}:
        body["within"] = within
    if body.setdefault("within", within) != within:
        draft.refuse(
            ("until", "within"),
            f"`within` is {show_value(body['within'])} and in `until` {show_value(within)}: give it once.",
        )


def _add_draws(draft: Draft, body: dict[str, Any], asked: object) -> None:
    """Let a race have all its draws: the study's own first, then the next seeds that it does not name.

    Where no number was asked, or the default, it is that of the seeds if these are more: folders may say so.
    """
    seeds, until = body.get("data_seeds", [0]), body.get("until")
    if isinstance(until, dict) and isinstance(seeds, list) and isinstance(until.get("most_draws"), int):
        if asked in (None, Until().most_draws):
            until["most_draws"] = max(until["most_draws"], len(seeds))
        elif until["most_draws"] < len(seeds):
            draft.refuse(
                ("until", "most_draws"),
                f"`data_seeds` lists {len(seeds)} draws and `until.most_draws` is {until['most_draws']}: name at most "
                f"so many seeds, or raise it to {len(seeds)}.",
            )
        further = (seed for seed in itertools.count() if seed not in seeds)
        body["data_seeds"] = [*seeds, *itertools.islice(further, max(0, until["most_draws"] - len(seeds)))]


def _missing_baselines(draft: Draft, methods: Sequence[Entry]) -> list[Entry]:
    """The baselines that a study does not list itself; those that need a model only where it names one."""
    listed = {entry.name for entry in methods}
    wanted = [name for name in METHODS if name not in listed and get_method(name).baseline]
    if not draft.data.get("models"):
        wanted = [name for name in wanted if not get_method(name).uses_model]
    entries = [read_entry(draft, ("methods",), name, "method") for name in wanted]
    return [entry for entry in entries if entry is not None]


def _read_models(draft: Draft, methods: Iterable[str]) -> list[dict[str, Any]]:
    """The resolved models; notes a fault where there is none and a method needs one."""
    given = read_list(draft, "models", "[smollm2-135m]")
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


def _refuse_other_models(draft: Draft, methods: Iterable[Entry], models: Sequence[str]) -> None:
    """Note methods that are to run on a model that the study does not list, or on any although they use none."""
    for entry in methods:
        steps = (*entry.steps, entry.name, "models")
        if entry.models and not get_method(entry.name).uses_model:
            draft.refuse(steps, f"{entry.name} uses no model: leave `models` out.")
            continue
        if entry.models and get_method(entry.name).baseline and draft.data.get("baselines", True) is True:
            draft.refuse(
                steps, f"{entry.name} is a baseline of every model: leave `models` out, or set baselines: false."
            )
            continue
        for name in entry.models:
            if name not in models:
                draft.refuse(steps, name_choices(name, models, "model of this study"))


def _refuse_unequal_tuning(draft: Draft, methods: Sequence[Entry]) -> None:
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
        elif not entry.grid and entry.settings and not get_method(entry.name).baseline:
            draft.refuse(
                entry.steps,
                f"{entry.name} has no grid: under `tuning` every method but the baselines chooses from {trials} "
                "settings, or it is compared untuned with tuned ones. Give it a grid, or run it in a study without "
                "tuning.",
            )
        elif entry.grid and len(entry.instances) != trials:
            sizes = " x ".join(f"{key} {len(options)}" for key, options in entry.grid.items())
            count = pluralise(len(entry.instances), "setting")
            draft.refuse(
                entry.steps,
                f"the grid of {entry.name} has {count} ({sizes}) and `tuning.trials` is "
                f"{trials}: every method is tuned with equal effort. Give each a grid of {trials}.",
            )


def _refuse_missing_pool(draft: Draft, methods: Iterable[Entry]) -> None:
    for entry in methods:
        if any(get_method(entry.name).needs_pool(instance) for instance in entry.instances):
            draft.refuse(
                entry.steps,
                f"{entry.name} needs unlabelled rows here and `pool_rows` is 0: set it, for example pool_rows: 256.",
            )


def _count_seeds(draft: Draft, key: str, value: dict[str, Any] | int) -> list[int]:
    """The seeds of `{count: 5}`: 0 to 4."""
    count = value.get("count") if isinstance(value, dict) else None
    if not isinstance(value, dict) or set(value) != {"count"} or type(count) is not int or count < 1:
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


def _refuse_many_trials(draft: Draft, body: Mapping[str, Any], methods: Sequence[Entry]) -> None:
    """Note a grid of more trials than a study may have, before they are listed."""

    def count(key: str) -> int:
        values = body.get(key)
        return max(1, len(values)) if isinstance(values, list) else 1

    fits = 0
    for entry in methods:
        method = get_method(entry.name)
        seeded = any(method.uses_fit_seed(instance) for instance in entry.instances)
        models = (len(entry.models) or count("models")) if method.uses_model else 1
        fits += models * (count("fit_seeds") if seeded else 1)
    tasks = draft.data.get("tasks")
    draws = (len(tasks) if isinstance(tasks, list) else 1) * count("shots") * count("data_seeds")
    if fits * draws > MOST_TRIALS:
        draft.refuse(
            (),
            f"models x tasks x methods x shots x seeds make {fits * draws} trials; a study may have {MOST_TRIALS}. "
            "Name fewer, or split the study up.",
        )
