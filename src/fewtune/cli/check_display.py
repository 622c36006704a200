"""Display of `fewtune check`: the trials it would skip and why, the study's data, and the number of trials.

Owns the order, what was found before what was given, and the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rich.table import Table

from fewtune.cli.output import console, say
from fewtune.cli.run_display import list_skips
from fewtune.errors import list_names
from fewtune.plurals import pluralise
from fewtune.report.wording import UNKNOWN
from fewtune.running.job import Job
from fewtune.system.terminal import make_text
from fewtune.tasks.base import Task


def show_check(name: str, jobs: Sequence[Job], tasks: Mapping[str, Task], each: bool) -> None:
    """Print what a study would run; with `each`, every trial and its id too."""
    for line in list_skips(jobs):
        say(line)
    for label, task in tasks.items():
        _show_task(label, task)
    console.print(_tabulate_trials(jobs))
    if each:
        for job in jobs:
            say(_name_trial(job))
    skipped = sum(job.skip_reason is not None for job in jobs)
    but = f", {skipped} of them skipped" if skipped else ""
    say(f"{name}: {pluralise(len(jobs), 'trial')}{but}, nothing wrong.")


def _show_task(label: str, task: Task) -> None:
    sets = ", ".join(f"{test.name} {len(test.rows) or 'held out anew in each draw'}" for test in task.test_sets)
    rows = pluralise(len(task.train), "training row")
    say(f"{label}: {rows}; test rows: {sets}; labels: {list_names(task.labels)}")
    for pattern in task.patterns:
        words = list_names(map(repr, pattern.label_words))
        told = " (constrained to what tells them apart)" if pattern.constrained else ""
        shown = make_text(f"  pattern {pattern.name}: {pattern.template!r} + {words}{told}")  # as it stands
        console.print(shown, soft_wrap=not console.is_terminal)
    for note in task.notes:
        say(f"  {note}")


def _tabulate_trials(jobs: Sequence[Job]) -> Table:
    """How many trials there are: a row a method (on each task and model, where there are several), a column a shots."""
    tasks, models = {job.trial.task.label for job in jobs}, {_name_model(job) for job in jobs} - {""}
    counts: dict[str, Counter[int]] = {}
    skipped = Counter[str]()
    for job in jobs:
        parts = (job.trial.task.label if len(tasks) > 1 else "", _name_model(job) if len(models) > 1 else "")
        cell = " · ".join(filter(None, [*parts, job.trial.method.variant]))
        counts.setdefault(cell, Counter())[job.trial.shots] += 1
        skipped[cell] += job.skip_reason is not None
    shots = sorted({job.trial.shots for job in jobs})
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("trials", overflow="fold")
    for number in shots:
        table.add_column(pluralise(number, "shot"), justify="right")
    table.add_column("", overflow="fold")
    for cell, numbers in counts.items():
        lost = f"{skipped[cell]} skipped" if 0 < skipped[cell] < numbers.total() else "skipped" * (skipped[cell] > 0)
        table.add_row(make_text(cell), *(str(numbers[number] or UNKNOWN) for number in shots), lost)
    return table


def _name_model(job: Job) -> str:
    return "" if job.trial.model is None else job.trial.model.name


def _name_trial(job: Job) -> str:
    trial = job.trial
    return (
        f"{job.trial_id}  {trial.task.label}  {_name_model(job) or 'no model'}  {trial.method.variant}  "
        f"{pluralise(trial.shots, 'shot')}  draw {trial.data_seed}  fit {trial.fit_seed}"
    )
