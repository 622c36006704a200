"""Which dataclass holds a task's or a method's settings.

Owns the look-up in the two tables. Does not validate.
"""

from __future__ import annotations

from fewtune.methods import get_method
from fewtune.tasks import get_task_module


def find_settings(what: str, name: str) -> type:
    settings: type = get_method(name).settings if what == "method" else get_task_module(name).Settings
    return settings
