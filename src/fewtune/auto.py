"""From one labelled file to a method: a race on splits of its rows, and the learning curve of the method chosen.

Owns which methods race, with how many rows, and where the curve is measured. Both are studies like any other, and stay
in their folders. What is fitted in the end is `fitted`.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from fewtune.analysis.answers import read_answers
from fewtune.analysis.growth import Growth, RowEffects, expect_growth
from fewtune.api import run_study
from fewtune.conduct import Closed
from fewtune.errors import DataError, FewtuneError, RecordError
from fewtune.inference.scores import score_with_effects
from fewtune.inference.unseen import look_at_rows, look_at_score
from fewtune.models import find_model, inspect_model
from fewtune.models.architectures import find_architecture
from fewtune.records import list_written, write_atomically
from fewtune.results import StudyResult
from fewtune.tasks import own_files
from fewtune.tasks.base import IN_DOMAIN, Task
from fewtune.tasks.draw import Sampling, check_sampling, make_draw

if TYPE_CHECKING:
    from fewtune.analysis.decision import Decision
    from fewtune.conduct import StudyEvent
    from fewtune.records import Record

RACED: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("in_context", {}),
    ("lora", {"epochs": 10}),
    ("pattern", {"epochs": 10}),
)
"""Methods that race beside the floors, with their settings: of each kind that costs differently, a steady one.

None has more epochs than its default, or other rates, so that a race ends in minutes on two cores.
"""
RACED_ON_STATES: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("embeddings", {}),
    ("contrastive", {"most_pairs": 640}),
    ("lora", {"readout": "head", "epochs": 10}),
)
"""The same of a model that says no words, such as a sentence encoder."""
ROWS_SEEN, FEWEST_EPOCHS = 1000, 3
"""A last fit goes through so many rows in all its epochs, or through all rows so often: three times what a trial of the
race does. Ten epochs of some hundred rows would take longer than the race."""
MOST_SHOTS = 32
"""Labelled rows that a trial is fitted on at most: with more it takes minutes, and methods keep their order."""
MOST_DRAWS = 8
"""Splits of one file share rows: further ones add little."""
LONGEST_NAME = 80
"""Characters of a file's name that stand in its study's."""
CURVE_DRAWS = 3
"""Draws at each number of rows of a learning curve."""
APART = 0.25
"""Share of the rows that draws of a learning curve leave out, where test rows have a file of their own."""


@dataclass(frozen=True)
class LabelledFile:
    """A file of labelled rows and which of its columns to read; None where only one choice is sensible."""

    train: Path
    text: tuple[str, ...] | None = None
    label: str | None = None
    tests: Mapping[str, Path] = field(default_factory=dict)
    """Files of test rows by name: `in_domain`, and any number out of domain."""
    conflicts: str = "drop"
    """What is done with rows of one text and different labels: drop or refuse."""
    missing: str = "refuse"
    """What is done with rows without a text or a label: drop or refuse."""
    metric: str | None = None
    """What methods are compared by; None: accuracy, beyond two labels macro-F1."""

    def read(self) -> Task:
        """Its rows, each text once; raises DataError where it cannot be used."""
        return own_files.load(TypeAdapter(own_files.Settings).validate_python(self.settings()), None)

    def settings(self) -> dict[str, Any]:
        """The same as a study names it."""
        text = None if self.text is None else self.text[0] if len(self.text) == 1 else list(self.text)
        tests = {name: str(path) for name, path in self.tests.items()}
        named = {"text": text, "label": self.label, "conflicts": self.conflicts, "missing": self.missing}
        return {"train": str(self.train), **named, "metric": self.metric, "tests": tests}


def write_rows(rows: Sequence[Mapping[str, str]], labels: Sequence[str], path: Path) -> LabelledFile:
    """Rows at hand as a file that a race reads, JSON Lines; all rows have the texts of the first."""
    fields = tuple(rows[0])
    column = next(
        name for name in ("label", "label_", "label__") if name not in fields
    )  # of texts there are two at most
    lines = [json.dumps({**row, column: label}) for row, label in zip(rows, labels, strict=True)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())
    return LabelledFile(path, fields, column)


def list_raced(model: str | None) -> Mapping[str, Mapping[str, Any]]:
    """The methods that race on a model, with their settings; raises ModelError where the model cannot be used."""
    if model is None:
        return dict(RACED)
    config = inspect_model(find_model(model))
    says_words = "label_words" in find_architecture(config).find_abilities(config)
    return dict(RACED if says_words else RACED_ON_STATES)


def choose_settings(method: str, rows: int, model: str | None = None) -> dict[str, Any]:
    """The settings that a method races with, its epochs fewer where so many rows make each a long one."""
    settings = dict(list_raced(model).get(method, {}))
    if "epochs" in settings:
        settings["epochs"] = min(settings["epochs"], max(FEWEST_EPOCHS, math.ceil(ROWS_SEEN / rows)))
    return settings


def race_methods(
    file: LabelledFile,
    model: str,
    out: Path,
    within: float | None = None,
    minutes: float | None = None,
    on_event: Callable[[StudyEvent], None] = lambda event: None,
    max_tokens: int | None = None,
) -> StudyResult:
    """Race the methods on splits of a file's rows, into a folder; raises FewtuneError where it cannot be used.

    `max_tokens` bounds one row's prompt, as in a study.
    The race's name goes with the rows: a folder that holds a race of others, of before the file changed, is refused.
    """
    task = file.read()
    study: dict[str, Any] = {
        "name": f"{name_study(file.train)}-{task.fingerprint[:8]}",
        "models": [model],
        "tasks": [{"own_files": {"as": name_study(file.train), **file.settings()}}],
        "methods": [{name: dict(settings)} if settings else name for name, settings in list_raced(model).items()],
        "shots": [choose_shots(task)],
        "evaluation": {"in_domain_rows": 500, "out_of_domain_rows": 200},
        "until": {"most_draws": MOST_DRAWS},
    }
    study |= {} if within is None else {"within": within}
    study |= {} if minutes is None else {"budget": {"minutes": minutes}}
    study |= {} if max_tokens is None else {"max_tokens": max_tokens}
    closed = False

    def hear(event: StudyEvent) -> None:
        nonlocal closed
        closed = closed or isinstance(event, Closed)
        on_event(event)

    try:
        return run_study(study, out, on_event=hear)
    except RecordError as error:
        if not closed or list_written(out):
            raise
        raise FewtuneError(
            "no method was scored within the budget, so that none can be fitted. Give a larger one, or name a method."
        ) from error


def trace_growth(
    file: LabelledFile,
    method: str,
    model: str | None,
    out: Path,
    on_event: Callable[[StudyEvent], None] = lambda event: None,
    max_tokens: int | None = None,
) -> Growth:
    """Fit a method on more and more of a file's rows, draw after draw; what twice as many are expected to bring.

    `model` is None for a method that uses none; `max_tokens` bounds one row's prompt, as in a study.

    Raises DataError where the rows allow no two sizes, FewtuneError where a trial failed.
    """
    task = file.read()
    study: dict[str, Any] = {
        "name": f"{name_study(file.train)}-curve",
        "tasks": [{"own_files": {"as": name_study(file.train), **file.settings()}}],
        "methods": [{method: dict(list_raced(model).get(method, {}))}],
        "floors": False,
        "shots": list(choose_sizes(task)),
        "sampling": "natural",
        "data_seeds": {"count": CURVE_DRAWS},
        "evaluation": {"in_domain_rows": 500, "out_of_domain_rows": 1},
    }
    study |= {} if model is None else {"models": [model]}
    study |= {} if max_tokens is None else {"max_tokens": max_tokens}
    result = run_study(study, out, on_event=on_event)
    done = [record for record in result.records if record.status == "done"]
    if len(done) < len(result.records):
        raise FewtuneError(f"a trial of the learning curve failed: `fewtune report {out}` says which and why.")
    scores: dict[int, list[float]] = {}
    for record in sorted(done, key=lambda record: record.trial.data_seed):
        scores.setdefault(record.trial.shots, []).append(record.metrics[IN_DOMAIN][record.primary_metric])
    rows = min(int(record.baselines[IN_DOMAIN]["rows"]) for record in done)
    by_rows = _find_row_effects([record for record in done if record.trial.shots == max(scores)], result)
    return expect_growth(scores, rows, _share_apart(task), task.held_out is None, by_rows)


def _find_row_effects(trials: Sequence[Record], result: StudyResult) -> RowEffects | None:
    """What the choice of test rows does to the trials' scores; None for accuracies, whose mean says it."""
    metric = trials[0].primary_metric
    if metric == "accuracy":
        return None
    [draws] = read_answers(trials, result.analysis.reader, [IN_DOMAIN]).values()
    answers = [sets[IN_DOMAIN] for sets in draws.values()]
    scored = [
        score_with_effects(each.gold.astype(np.int64), each.predicted.astype(np.int64), each.labels, metric)
        for each in answers
    ]
    return RowEffects(
        variance=fmean(float((effects**2).sum()) for _, effects in scored),
        weight=max(look_at_score(look_at_rows(each, metric)).weight for each in answers),
    )


def choose_sizes(task: Task) -> tuple[int, ...]:
    """Numbers of rows for a learning curve, each draw's with the file's shares of the labels.

    The most leaves a quarter of the rows to other draws; a half and a quarter of that follow, where two rows of each
    label can be among them. Raises DataError where there are too few rows for two sizes.
    """
    counts = Counter(row.label for row in task.train)
    most = sum(count - math.ceil(count * _share_apart(task)) for count in counts.values())
    least = max(2 * len(task.labels), math.ceil(2 * len(task.train) / min(counts.values())))
    sizes = tuple(size for size in (most // 4, most // 2, most) if size >= least and _can_be_drawn(task, size))
    if len(sizes) < 2:
        raise DataError(
            f"{len(task.train)} rows, {min(counts.values())} of the rarest of {len(task.labels)} labels, are too few "
            "for a learning curve: half of what a draw may take has to hold two rows of each label. Give more rows, or "
            "leave --curve out."
        )
    return sizes


def _can_be_drawn(task: Task, size: int) -> bool:
    """Whether every draw of so many rows holds every label."""
    sampling = Sampling(size, balanced=False, in_domain_rows=1, out_of_domain_rows=1)
    try:
        check_sampling(task, sampling)
        for seed in range(CURVE_DRAWS):
            make_draw(task, sampling, seed)
    except DataError:
        return False
    return True


def _share_apart(task: Task) -> float:
    """The share of rows that a draw does not fit on, so that draws differ."""
    return APART if task.held_out is None else task.held_out


def choose_shots(task: Task) -> int:
    """How many rows a trial is fitted on: half of what a draw may take, as many of each label, MOST_SHOTS at most.

    Draws that take nearly all rows are nearly one draw, and say little of rows like these.
    """
    counts = Counter(row.label for row in task.train)
    held_out = task.held_out or 0.0
    rarest = min(max(1, int(count * (1 - held_out) / 2)) for count in counts.values())
    return max(len(task.labels), min(MOST_SHOTS, rarest * len(task.labels)))


def name_study(path: Path) -> str:
    """A study's name from a file's, short enough to be one with something behind it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)[:LONGEST_NAME].strip("-") or "rows"


def word_raced_rows(task: Task) -> str:
    """On how many rows each trial of a race was fitted, and what that leaves open of a fit on all of them."""
    shots, labels = choose_shots(task), len(task.labels)
    place, rows = min(Counter(row.label for row in task.train).items(), key=lambda item: item[1])
    few = f" ({task.labels[place or 0]!r} has {rows} in all)" if shots < MOST_SHOTS else ""
    return (
        f"Each trial of the race was fitted on {shots} rows, about {shots // labels} of each label{few}, and these "
        f"figures are for so many: on all {len(task.train)}, in the labels' own shares, methods may stand otherwise."
    )


def word_nothing_learnt(decision: Decision) -> str:
    """What it means that a method which answers every row alike was chosen."""
    return (
        f"Always answering one label is the choice by {decision.question.metric}: no method was shown to have learnt "
        "from these rows. Compare by another metric, such as macro_f1 where one label is much more frequent, ask for a "
        "smaller tolerance, give more rows, or name a method."
    )


def choose_method(decision: Decision) -> str:
    """The method that a study chose, or its best bet; raises FewtuneError where none was scored."""
    if decision.choice is None:
        raise FewtuneError("no method was scored, so that none can be fitted. Give a larger budget, or name a method.")
    return decision.choice.name
