"""Reads what a finished study chose (method, settings, task), to fit it on all labelled rows.

Owns which decision is meant and which settings are taken where trials had several. How it is fitted is `fitting`'s.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from fewtune.analysis.decision import Decision
from fewtune.analysis.recommend import name_contender
from fewtune.errors import FewtuneError, RecordError, list_names, name_choices
from fewtune.methods import get_method
from fewtune.models import find_model, resolve_precision
from fewtune.plurals import pluralise
from fewtune.records import IN_DOMAIN, Record
from fewtune.report.results import StudyResult, read_result
from fewtune.running.prepare import load_task
from fewtune.study import Study, load_study
from fewtune.tasks.base import Task


@dataclass(frozen=True)
class StudyChoice:
    """What is fitted of a study, and what it was chosen by."""

    task: Task
    method: str
    model: str | None
    settings: Mapping[str, Any]
    max_tokens: int | None
    decision: Decision
    result: StudyResult
    trials: Sequence[Record]
    """The chosen method's, of the task and number of shots that were decided."""


def read_choice(folder: Path, task: str | None, data_dir: Path | None, tell: Callable[[str], None]) -> StudyChoice:
    """The choice of the study in a folder, for the most shots that it has of a task; None: its only one.

    `tell` hears what was taken where trials had several settings, and what is not as it was when they ran.
    Raises FewtuneError where the study chose nothing that can be fitted.
    """
    if not (folder / "study.yaml").is_file():
        raise RecordError(f"{folder} holds no study. Give the folder that `fewtune run` wrote (its --out).")
    study, result = load_study(folder / "study.yaml"), read_result(folder)
    decision = _find_decision(result.decisions, task)
    place, shots = decision.question.task, decision.question.shots
    name = choose_method(decision)
    trials = [
        record
        for record in result.records
        if record.status == "done"
        and (record.trial.task, record.trial.shots) == (place, shots)
        and name in (record.trial.variant, name_contender(record.trial.variant, record.trial.model, True))
    ]
    method, model = get_method(trials[0].trial.method), trials[0].trial.model
    if method.constant:
        raise FewtuneError(format_nothing_learnt(decision))
    if trials[0].notes.unlabelled == "pool":
        raise FewtuneError(
            f"{name} read unlabelled rows of the study's pool, and a fit on all labelled rows has none beside them: "
            "FewtuneClassifier.fit (X_unlabelled) takes some. For a model from here run the study with `pool_rows: 0` "
            "or without that method."
        )
    settings = _choose_settings(trials, tell)
    ran_in = trials[0].environment.get("precision")
    if model is not None and ran_in not in (None, resolve_precision("auto")):
        tell(f"The trials ran in {ran_in}; here it is fitted in {resolve_precision('auto')}.")
    read = _read_task(study, place, data_dir)
    if read.fingerprint != trials[0].fingerprints.get("data"):
        tell(f"{place}: its rows are others than those that the study ran on, whose decision this is.")
    if model is not None:
        _check_model(study, model, trials[0])
    return StudyChoice(read, trials[0].trial.method, model, settings, study.max_tokens, decision, result, trials)


def choose_method(decision: Decision) -> str:
    """The method that a study chose, or its best bet; raises FewtuneError where none was scored."""
    if decision.choice is None:
        raise FewtuneError("no method was scored, so that none can be fitted. Run the study with a larger budget.")
    return decision.choice.name


def format_nothing_learnt(decision: Decision) -> str:
    """What it means that a method which answers every row alike was chosen."""
    return (
        f"Always answering one label is the choice by {decision.question.metric}: no method was shown to have learnt "
        "from these rows. Compare by another metric, such as macro_f1 where one label is much more frequent, ask for a "
        "smaller tolerance, or give more rows."
    )


def _find_decision(decisions: Sequence[Decision], task: str | None) -> Decision:
    """The decision of most shots, of the task that is meant."""
    tasks = list(dict.fromkeys(decision.question.task for decision in decisions))
    if task is None and len(tasks) > 1:
        raise FewtuneError(f"the study has the tasks {list_names(tasks)}: name one with --task.")
    if task is not None and task not in tasks:
        raise FewtuneError(name_choices(task, tasks, "task"))
    meant = [decision for decision in decisions if task is None or decision.question.task == task]
    if not meant:
        raise FewtuneError("the study has no trial that was scored: `fewtune run` goes on where it stopped.")
    return max(meant, key=lambda decision: decision.question.shots)


def _choose_settings(trials: Sequence[Record], tell: Callable[[str], None]) -> Mapping[str, Any]:
    """The settings of most trials; of as many, those of the best mean score: tuning and patterns make several."""
    by_settings: dict[str, list[Record]] = defaultdict(list)
    for record in trials:
        by_settings[json.dumps(record.trial.settings, sort_keys=True)].append(record)

    def rank(members: Sequence[Record]) -> tuple[int, float]:
        return len(members), fmean(record.metrics[IN_DOMAIN][record.primary_metric] for record in members)

    chosen = max(by_settings.values(), key=rank)
    settings = chosen[0].trial.settings
    if len(by_settings) > 1:
        every = [members[0].trial.settings for members in by_settings.values()]
        varied = [key for key in settings if any(other.get(key) != settings[key] for other in every)]
        told = ", ".join(f"{key} {settings[key]}" for key in varied)
        tell(
            f"Its trials had {len(by_settings)} settings, by tuning or by pattern: taken is {told}, of {len(chosen)} "
            f"of {pluralise(len(trials), 'trial')}, and of those as frequent the best."
        )
    return settings


def _read_task(study: Study, label: str, data_dir: Path | None) -> Task:
    return load_task(next(choice for choice in study.tasks if choice.label == label), data_dir)


def _check_model(study: Study, model: str, record: Record) -> None:
    """Raise FewtuneError where a model's name leads to other weights than the study's trials had."""
    revisions = {choice.name: choice.revision for choice in study.models}
    if find_model(model).weights_fingerprint != record.fingerprints.get("weights"):
        named = "" if revisions.get(model) is None else f", and the study names its revision {revisions[model]}"
        raise FewtuneError(
            f"{model} is another model here than when the study ran{named}. Fit what it was from a folder of its own "
            "(`--method`, `--model`), or run the study again."
        )
