"""The table of tasks: name to module; adding a task is one file and one line here."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from fewtune.errors import FewtuneError, name_choices
from fewtune.system.plugins import add_plugins

OWN: dict[str, str] = {
    "sentiment": "fewtune.tasks.sentiment",
    "cola": "fewtune.tasks.cola",
    "mnli": "fewtune.tasks.mnli",
    "rte": "fewtune.tasks.rte",
    "qqp": "fewtune.tasks.qqp",
    "questions": "fewtune.tasks.questions",
    "own_files": "fewtune.tasks.own_files",
}

TASKS = add_plugins(OWN, "fewtune.tasks", "task")
"""Our own, and those that installed packages add by the entry points `fewtune.tasks`."""


def get_task_module(name: str) -> ModuleType:
    """The module of that task; raises FewtuneError naming the nearest where there is none."""
    if name not in TASKS:
        raise FewtuneError(name_choices(name, TASKS, "task"))
    return import_module(TASKS[name])
