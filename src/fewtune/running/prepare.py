"""Prepares a study: finds its models, reads its rows, identifies its trials, and reports every fault at once.

Owns the checks that come before any trial starts, but those of rows (`row_checks`), and the jobs that any process can
run. Trains and loads nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewtune.errors import DataError, Fault, ModelError, StudyError, name_choices
from fewtune.methods import get_method
from fewtune.methods.base import find_skip_reason
from fewtune.methods.optimisation import list_read
from fewtune.models import (
    ModelSnapshot,
    find_model,
    inspect_model,
    max_positions,
    read_config,
    resolve_precision,
    tell_unlike_vocabulary,
)
from fewtune.models.architectures import find_architecture
from fewtune.models.architectures.base import Ability
from fewtune.running.job import Job
from fewtune.running.row_checks import check_rows
from fewtune.study import MOST_TRIALS, MethodChoice, Study, TaskChoice, build_settings
from fewtune.study.defaults import resolve_candidates, resolve_max_tokens
from fewtune.study.grid import Trial, list_trials, resolve_shots, spread_patterns
from fewtune.study.identity import fingerprint_patterns, identify_trial
from fewtune.system.failure_kinds import find_failure_kind
from fewtune.tasks import get_task_module
from fewtune.tasks.base import Task
from fewtune.tasks.build import check_sets

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def load_task(choice: TaskChoice, data_dir: Path | None) -> Task:
    """Read a task's rows as a study names it."""
    module = get_task_module(choice.name)
    task: Task = module.load(build_settings(module.Settings, choice.settings), data_dir)
    check_sets(task)
    return task


def prepare_jobs(study: Study, data_dir: Path | None) -> tuple[list[Job], dict[str, Task]]:
    """Find every model and read every task of a study, check that they fit, and identify each trial.

    Returns the jobs in the order to run them, and the tasks by label. Raises StudyError with everything that
    does not fit, at once.
    """
    faults: list[Fault] = []
    tasks = _read_tasks(study, data_dir, faults)
    models = _find_models(study, faults)
    faults += _check_twins(tasks)
    faults += _check_model_twins(study, models)
    faults += _check_patterns(study, tasks)
    faults += _check_teachers(study, models)
    if faults:
        raise StudyError(f"study {study.name!r} cannot run", faults)
    maker = _JobMaker(study, models, tasks)
    jobs: dict[str, Job] = {}
    in_place: dict[str, str] = {}
    trials = _list_trials(study, tasks)
    patterns: dict[tuple[str, str], set[str | None]] = defaultdict(set)
    for trial in trials:
        patterns[trial.method.variant, trial.task.label].add(trial.pattern)
    for trial in trials:
        job = maker.make(trial)
        # Two settings of one method may come to one thing with some numbers of shots: it runs once.
        kept = jobs.setdefault(job.trial_id, job).trial
        in_place[trial.method.variant] = kept.method.variant
        faults += _check_spread(trial, kept, patterns)
    faults += _check_candidates(jobs.values())
    if faults:
        raise StudyError(f"study {study.name!r} cannot run", list(dict.fromkeys(faults)))
    ran = {job.trial.method.variant for job in jobs.values()}
    lost = [
        Fault(
            f"{name}: its settings come to those of {other} for every task and number of shots here. Keep one of them."
        )
        for name, other in in_place.items()
        if name not in ran
    ]
    if lost:
        raise StudyError(f"study {study.name!r} cannot run", lost)
    return list(jobs.values()), tasks


def _read_tasks(study: Study, data_dir: Path | None, faults: list[Fault]) -> dict[str, Task]:
    """The tasks that can be read and have rows enough, by label; of the others, a fault each."""
    tasks: dict[str, Task] = {}
    for choice in study.tasks:
        try:
            task = load_task(choice, data_dir)
            check_rows(study, task)
            tasks[choice.label] = task
        except DataError as error:
            faults.append(Fault(f"task {choice.label}: {error}"))
    return tasks


@dataclass(frozen=True)
class _FoundModel:
    """A model that a study names, itself or as a teacher."""

    snapshot: ModelSnapshot
    positions: int
    """Tokens that it reads."""
    revision: int
    """Its family's."""
    abilities: frozenset[Ability]
    """What it can do."""


def _find_models(study: Study, faults: list[Fault]) -> dict[str, _FoundModel]:
    """The models that are there and sound, by name, teachers among them; of the others, a fault each."""
    wanted = {model.name: model.revision for model in study.models}
    for method_choice in study.methods:
        wanted |= {name: None for name in _list_other_models(method_choice) if name not in wanted}
    models: dict[str, _FoundModel] = {}
    for name, revision in wanted.items():
        try:
            snapshot = find_model(name, revision)
            config = inspect_model(snapshot)
            positions = max_positions(config)
            family = find_architecture(config)
            models[name] = _FoundModel(snapshot, positions, family.revision, family.find_abilities(config))
            if (study.max_tokens or 0) > positions:
                faults.append(
                    Fault(f"model {name}: max_tokens is {study.max_tokens}, the model reads {positions}. Lower it.")
                )
        except (ModelError, DataError) as error:
            faults.append(Fault(f"model {name}: {error}"))
    return models


def _list_trials(study: Study, tasks: Mapping[str, Task]) -> list[Trial]:
    """Every trial of a study, under each pattern that it asks for; raises StudyError where these are too many."""
    listed = list_trials(study, resolve_precision(study.precision))
    spread = [over for trial in listed for over in spread_patterns(trial, study, tasks[trial.task.label])]
    if len(spread) > MOST_TRIALS:
        message = (
            f"its patterns make {len(spread)} trials of {len(listed)}; a study may have {MOST_TRIALS}. Name fewer."
        )
        raise StudyError(f"study {study.name!r} cannot run", [Fault(message)])
    return spread


class _JobMaker:
    """Makes jobs of a study's trials, of models that were found and tasks that were read."""

    def __init__(self, study: Study, models: Mapping[str, _FoundModel], tasks: Mapping[str, Task]) -> None:
        self._revisions = {model.name: model.revision for model in study.models if model.revision is not None}
        self._models = models
        self._tasks = tasks
        self._skips = _SkipReasons()
        self._candidates: dict[tuple[Any, ...], tuple[Mapping[str, Any], ...]] = {}
        self._others: dict[str, tuple[ModelSnapshot, ...]] = {}

    def make(self, trial: Trial) -> Job:
        """The job of a trial: its shots in total, its nulls resolved, with its id and why it is skipped, if it is."""
        task, method = self._tasks[trial.task.label], get_method(trial.method.name)
        model = self._models[trial.model.name] if trial.model is not None else None
        trial = self._resolve(resolve_shots(trial, len(task.labels)), task, model)
        used = () if model is None else (model.snapshot, *self._find_others(trial.method))
        trial_id = identify_trial(
            trial,
            data_fingerprint=task.fingerprint,
            weights_fingerprint="+".join(each.weights_fingerprint for each in used) or None,
            # Of both: neither ever falls, so that what either changes makes another trial.
            method_revision=method.revision + (0 if model is None else model.revision - 1),
            task_revision=task.revision,
            patterns_fingerprint=fingerprint_patterns(task.patterns),
            held_out=task.held_out,
            # Of other tasks it is fixed, and goes with the task's revision.
            chosen_metric=task.primary_metric if "metric" in trial.task.settings else None,
        )
        reason = self._skips.find(trial, None if model is None else model.snapshot, task)
        weights = {each.name: each.weights_fingerprint for each in used}
        revisions = {name: revision for name, revision in self._revisions.items() if name in weights}
        return Job(trial, trial_id, task.fingerprint, weights, revisions, reason)

    def _resolve(self, trial: Trial, task: Task, model: _FoundModel | None) -> Trial:
        """The trial with its nulls resolved, once for all draws and seeds."""
        key = trial.method.variant, trial.pattern, trial.task.label, trial.shots
        if key not in self._candidates:
            self._candidates[key] = resolve_candidates(trial, get_method(trial.method.name), task)
        positions = None if model is None else model.positions
        return replace(trial, candidates=self._candidates[key], max_tokens=resolve_max_tokens(trial, positions))

    def _find_others(self, choice: MethodChoice) -> tuple[ModelSnapshot, ...]:
        """The models that a method's settings name besides the trial's own."""
        if choice.variant not in self._others:
            names = _list_other_models(choice)
            self._others[choice.variant] = tuple(self._models[name].snapshot for name in names)
        return self._others[choice.variant]


class _SkipReasons:
    """Why methods cannot be used, asked once for each method, model and task; nothing but configurations is read."""

    def __init__(self) -> None:
        self._configs: dict[Path, PreTrainedConfig] = {}
        self._known: dict[str, str | None] = {}

    def find(self, trial: Trial, place: ModelSnapshot | None, task: Task) -> str | None:
        """The first candidate's reason where every candidate has one."""
        key = f"{trial.method.name} {trial.candidates!r} {place} {trial.task.label}"
        if key not in self._known:
            if place is not None and place.path not in self._configs:
                self._configs[place.path] = read_config(place.path)
            config = self._configs[place.path] if place is not None else None
            method = get_method(trial.method.name)
            try:
                reasons = [
                    find_skip_reason(method, build_settings(method.settings, settings), config, task)
                    for settings in trial.candidates
                ]
            except Exception as error:
                if find_failure_kind(error) != "out_of_memory":
                    raise
                reasons = [None]  # whether it can be used, the trial itself finds out
            self._known[key] = None if None in reasons else reasons[0]
        return self._known[key]


def _check_twins(tasks: Mapping[str, Task]) -> Iterator[Fault]:
    first: dict[tuple[object, ...], str] = {}
    for label, task in tasks.items():
        what = task.name, task.fingerprint, fingerprint_patterns(task.patterns), task.held_out
        twin = first.setdefault(what, label)
        if twin != label:
            yield Fault(
                f"tasks {twin} and {label} have the same rows and patterns, and all trials in common. Take one out; "
                "`metrics` says what results are judged by."
            )


def _check_model_twins(study: Study, models: Mapping[str, _FoundModel]) -> Iterator[Fault]:
    first: dict[str, str] = {}
    for model in study.models:
        found = models.get(model.name)
        twin = first.setdefault(found.snapshot.weights_fingerprint, model.name) if found is not None else model.name
        if twin != model.name:
            yield Fault(
                f"models {twin} and {model.name} hold the same weights, tokenizer and configuration, and all trials "
                "in common. Take one out."
            )


def _check_spread(trial: Trial, kept: Trial, patterns: Mapping[tuple[str, str], set[str | None]]) -> Iterator[Fault]:
    """A trial under one of several patterns that is another method's own: the mean over patterns would lack it.

    `patterns`: those of each method and task.
    """
    if (trial.pattern is None) == (kept.pattern is None):
        return
    fixed, spread = (trial, kept) if trial.pattern is None else (kept, trial)
    name, other = fixed.method.variant, spread.method.variant
    if len(patterns[other, trial.task.label]) > 1:
        yield Fault(
            f"{name}: its trials are those of {other} under the pattern {spread.pattern!r}, which the study's "
            f"`patterns` run already. Take {name} out, or the pattern out of its settings."
        )


def _check_candidates(jobs: Iterable[Job]) -> Iterator[Fault]:
    """Methods that would be tuned over settings of which two are one: others are tuned over more."""
    for trial in (job.trial for job in jobs if len(job.trial.candidates) > 1):
        seen: dict[str, int] = {}
        for place, candidate in enumerate(trial.candidates):
            first = seen.setdefault(repr(list_read(candidate)), place)
            if first != place:
                yield Fault(
                    f"{trial.method.variant}: settings {first + 1} and {place + 1} of its grid come to one on "
                    f"{trial.task.label} with {trial.shots} shots. Give the grid values that differ in effect, as many "
                    "as before."
                )


def _check_teachers(study: Study, models: Mapping[str, _FoundModel]) -> Iterator[Fault]:
    """Teachers that read no context, or whose tokens are not those of a model they would teach."""
    for method in study.methods:
        named = _list_named_models(method)
        encoders = {name for names in named for name in names if name in models} - {
            name for name, model in models.items() if "reads_on" in model.abilities
        }
        if all(encoders & set(names) for names in named):  # tuning leaves out a candidate that fails
            yield Fault(
                f"{method.variant}: teacher {min(encoders)} is an encoder, whose rows cannot go on from a context. Use "
                "a decoder."
            )
        for teacher in _list_other_models(method, sharing_vocabulary=True):
            for student in method.models or [model.name for model in study.models]:
                known = teacher in models and student in models
                unlike = known and tell_unlike_vocabulary(models[teacher].snapshot, models[student].snapshot)
                if unlike:
                    yield Fault(f"{method.variant}: {unlike}.")


def _list_other_models(choice: MethodChoice, sharing_vocabulary: bool = False) -> list[str]:
    """Models that any of a method's candidate settings name besides the trial's own, each once.

    `sharing_vocabulary`: those alone that must have the vocabulary of the trial's own.
    """
    named = _list_named_models(choice, sharing_vocabulary)
    return list(dict.fromkeys(name for names in named for name in names))


def _list_named_models(choice: MethodChoice, sharing_vocabulary: bool = False) -> list[tuple[str, ...]]:
    """The models that each of a method's candidate settings names besides the trial's own; see `_list_other_models`."""
    method = get_method(choice.name)
    candidates: list[Any] = [build_settings(method.settings, settings) for settings in choice.candidates]
    asked = [each for each in candidates if not sharing_vocabulary or method.shares_vocabulary(each)]
    return [tuple(method.other_models(settings)) for settings in asked]


def _check_patterns(study: Study, tasks: Mapping[str, Task]) -> Iterator[Fault]:
    """Patterns that a study or its methods name and its tasks do not have."""
    for method in study.methods:
        wanted = dict.fromkeys(settings.get("pattern") for settings in method.candidates)
        for label, task in tasks.items():
            have = [pattern.name for pattern in task.patterns]
            for name in wanted:
                if name is not None and name not in have:
                    yield Fault(f"{method.variant}: {name_choices(name, have, f'pattern of {label}')}")
    if not isinstance(study.patterns, dict):
        return
    for label, names in study.patterns.items():
        if label not in {choice.label for choice in study.tasks}:
            allowed = [choice.label for choice in study.tasks]
            yield Fault(f"patterns: {name_choices(label, allowed, 'task of this study')}")
        elif label in tasks:
            have = [pattern.name for pattern in tasks[label].patterns]
            for name in names:
                if name not in have:
                    yield Fault(f"patterns: {label}: {name_choices(name, have, 'pattern')}")
