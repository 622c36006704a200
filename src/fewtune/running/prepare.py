"""A study made ready: its models found, its rows read, its trials identified, and all that does not fit told at once.

Owns the checks that come before any trial starts, and the jobs that any process can run. Trains and loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewtune.errors import DataError, Fault, ModelError, StudyError, name_choices
from fewtune.methods import get_method
from fewtune.models import (
    ModelSnapshot,
    find_model,
    inspect_model,
    max_positions,
    read_config,
    resolve_precision,
    share_vocabulary,
)
from fewtune.running.job import Job
from fewtune.running.tune import check_folds
from fewtune.study import MOST_TRIALS, MethodChoice, Study, TaskChoice, build_settings
from fewtune.study.grid import Trial, list_trials, resolve_shots, spread_patterns
from fewtune.study.identity import fingerprint_patterns, identify_trial
from fewtune.tasks import get_task_module
from fewtune.tasks.base import Task
from fewtune.tasks.draw import check_shots, make_draw

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def load_task(choice: TaskChoice, data_dir: Path | None) -> Task:
    """Read a task's rows as a study names it."""
    module = get_task_module(choice.name)
    task: Task = module.load(build_settings(module.Settings, choice.settings), data_dir)
    return task


def prepare_jobs(study: Study, data_dir: Path | None) -> tuple[list[Job], dict[str, Task]]:
    """Find every model and read every task of a study, check that they fit, and identify each trial.

    Returns the jobs in the order to run them, and the tasks by label. Raises StudyError with everything that
    does not fit, at once.
    """
    faults: list[Fault] = []
    tasks: dict[str, Task] = {}
    for choice in study.tasks:
        try:
            task = load_task(choice, data_dir)
            for shots in study.shots:
                check_shots(
                    task,
                    shots,
                    per_class=study.shots_per == "class",
                    balanced=study.sampling == "balanced",
                    pool_rows=study.pool_rows,
                )
                if shots != min(study.shots):
                    continue  # supports nest over shots: the smallest has the fewest rows of every label
                # Balanced draws hold equal rows a label whatever the seed: one tells of all.
                tuned = study.data_seeds[:1] if study.tuning is not None else ()
                for data_seed in study.data_seeds if study.sampling == "natural" else tuned:
                    draw = make_draw(
                        task,
                        shots=shots,
                        per_class=study.shots_per == "class",
                        balanced=study.sampling == "balanced",
                        data_seed=data_seed,
                        pool_rows=study.pool_rows,
                        in_domain_rows=1,
                        out_of_domain_rows=1,
                    )
                    if study.tuning is not None:
                        check_folds(task, draw.support, study.tuning.folds)
            tasks[choice.label] = task
        except DataError as error:
            faults.append(Fault(f"task {choice.label}: {error}"))
    places: dict[str, ModelSnapshot] = {}
    wanted = {model.name: model.revision for model in study.models}
    for method_choice in study.methods:
        wanted |= {name: None for name in _list_other_models(method_choice) if name not in wanted}
    for name, revision in wanted.items():
        try:
            places[name] = find_model(name, revision)
            positions = max_positions(inspect_model(places[name]))
            if (study.max_tokens or 0) > positions:
                faults.append(
                    Fault(f"model {name}: max_tokens is {study.max_tokens}, the model reads {positions}. Lower it.")
                )
        except (ModelError, DataError) as error:
            faults.append(Fault(f"model {name}: {error}"))
    faults += _check_twins(tasks)
    faults += _check_model_twins(study, places)
    faults += _check_patterns(study, tasks)
    faults += _check_vocabularies(study, places)
    if faults:
        raise StudyError(f"study {study.name!r} cannot run", faults)
    jobs: dict[str, Job] = {}
    skip = _SkipReasons()
    listed = list_trials(study, resolve_precision(study.precision))
    spread = [over for trial in listed for over in spread_patterns(trial, study, tasks[trial.task.label])]
    if len(spread) > MOST_TRIALS:
        message = (
            f"its patterns make {len(spread)} trials of {len(listed)}; a study may have {MOST_TRIALS}. Name fewer."
        )
        raise StudyError(f"study {study.name!r} cannot run", [Fault(message)])
    for trial in spread:
        task = tasks[trial.task.label]
        trial = resolve_shots(trial, len(task.labels))
        place = places[trial.model.name] if trial.model is not None else None
        method = get_method(trial.method.name)
        others = tuple(places[name] for name in _list_other_models(trial.method))
        trial_id = identify_trial(
            trial,
            data_fingerprint=task.fingerprint,
            weights_fingerprint=_join_fingerprints(place, others),
            method_revision=method.revision,
            task_revision=task.revision,
            patterns_fingerprint=fingerprint_patterns(task.patterns),
        )
        # Two names for one thing (the same weights in two folders) are one trial: it runs once.
        reason = skip.find(trial, place, task)
        used = () if place is None else (place, *others)
        weights = {each.name: each.weights_fingerprint for each in used}
        jobs.setdefault(trial_id, Job(trial, trial_id, task.fingerprint, weights, reason))
    return list(jobs.values()), tasks


class _SkipReasons:
    """Why methods cannot be used, asked once for each method, model and task; nothing but configurations is read."""

    def __init__(self) -> None:
        self._configs: dict[Path, PreTrainedConfig] = {}
        self._known: dict[str, str | None] = {}

    def find(self, trial: Trial, place: ModelSnapshot | None, task: Task) -> str | None:
        """The first candidate's reason where every candidate has one."""
        key = f"{trial.method!r} {place} {trial.task.label}"
        if key not in self._known:
            if place is not None and place.path not in self._configs:
                self._configs[place.path] = read_config(place.path)
            config = self._configs[place.path] if place is not None else None
            method = get_method(trial.method.name)
            reasons = [
                method.skip_reason(build_settings(method.settings, settings), config, task)
                for settings in trial.method.candidates
            ]
            self._known[key] = None if None in reasons else reasons[0]
        return self._known[key]


def _check_twins(tasks: Mapping[str, Task]) -> Iterator[Fault]:
    first: dict[tuple[str, str, str | None], str] = {}
    for label, task in tasks.items():
        twin = first.setdefault((task.name, task.fingerprint, fingerprint_patterns(task.patterns)), label)
        if twin != label:
            yield Fault(
                f"tasks {twin} and {label} have the same rows and patterns, and all trials in common. Take one out; "
                "`metrics` says what results are judged by."
            )


def _check_model_twins(study: Study, places: Mapping[str, ModelSnapshot]) -> Iterator[Fault]:
    first: dict[str, str] = {}
    for model in study.models:
        place = places.get(model.name)
        twin = first.setdefault(place.weights_fingerprint, model.name) if place is not None else model.name
        if twin != model.name:
            yield Fault(
                f"models {twin} and {model.name} hold the same weights, tokenizer and configuration, and all trials "
                "in common. Take one out."
            )


def _check_vocabularies(study: Study, places: Mapping[str, ModelSnapshot]) -> Iterator[Fault]:
    """Teachers whose tokens are not those of a model they would teach."""
    for method in study.methods:
        for teacher in _list_other_models(method):
            for student in [model.name for model in study.models]:
                known = teacher in places and student in places
                if known and not share_vocabulary(places[teacher], places[student]):
                    yield Fault(
                        f"{method.variant}: teacher {teacher!r} and student {student!r} have different vocabularies. "
                        "Use a teacher of the student's family."
                    )


def _list_other_models(choice: MethodChoice) -> list[str]:
    """Models that any of a method's candidate settings name besides the trial's own, each once."""
    method = get_method(choice.name)
    candidates: list[Any] = [build_settings(method.settings, settings) for settings in choice.candidates]
    return list(dict.fromkeys(name for settings in candidates for name in method.other_models(settings)))


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


def _join_fingerprints(place: ModelSnapshot | None, others: Sequence[ModelSnapshot]) -> str | None:
    if place is None:
        return None
    return "+".join([place.weights_fingerprint, *(other.weights_fingerprint for other in others)])
