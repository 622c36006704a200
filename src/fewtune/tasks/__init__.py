"""The table of tasks: name to module; adding a task is one file and one line here."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from fewtune.errors import FewtuneError, name_choices

TASKS: dict[str, str] = {
    "sentiment": "fewtune.tasks.sentiment",
    "cola": "fewtune.tasks.cola",
    "mnli": "fewtune.tasks.mnli",
    "rte": "fewtune.tasks.rte",
    "qqp": "fewtune.tasks.qqp",
    "own_files": "fewtune.tasks.own_files",
}


def get_task_module(name: str) -> ModuleType:
    """The module of that task; raises FewtuneError naming the nearest where there is none."""
    if name not in TASKS:
        raise FewtuneError(name_choices(name, TASKS, "task"))
    return import_module(TASKS[name])
