"""The time a command has spent, with what interrupted earlier runs of it spent.

Owns the counting, and that it is kept beside their folds, so that a budget holds for all of them together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fewtune.fitting.fold_answers import WorkFolder

EVERY_SECONDS = 1.0
"""At most so often it is kept."""


class Clock:
    """The time that a whole command may take, `seconds`, or None: any; `began` is by `time.perf_counter`."""

    def __init__(self, seconds: float | None, began: float) -> None:
        self.seconds = seconds
        self._began = began
        self.earlier = 0.0
        """Seconds that killed commands spent for it."""
        self._kept_at = 0.0
        self._work, self._command = WorkFolder(), dict[str, Any]()

    def go_on(self, work: WorkFolder, command: Mapping[str, Any], taken: float) -> None:
        """Count what earlier commands spent that asked the same, and keep what this one spends.

        Of commands that asked something else it is what they spent on what is taken over, in seconds.
        """
        earlier = work.load_seconds(command)
        self.earlier = taken if earlier is None else max(taken, earlier)
        self._work, self._command = work, dict(command)

    def keep(self) -> None:
        """Keep what was spent so far, now and then: a command that is killed leaves it to the next."""
        spent = self.spent()
        if spent - self._kept_at < EVERY_SECONDS:
            return
        self._kept_at = spent
        with suppress(OSError):  # of a disk that is full; the fold that is kept next tells of it
            self._work.keep_seconds(self._command, spent)

    def spent(self) -> float:
        """Seconds since the command began, and those that earlier ones spent for it."""
        return self.earlier + time.perf_counter() - self._began

    def left(self) -> float:
        """Seconds that are left, infinite where there is no limit."""
        return float("inf") if self.seconds is None else self.seconds - self.spent()
