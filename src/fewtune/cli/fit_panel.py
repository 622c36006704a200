"""What `fewtune fit` shows while it works: one live panel on a terminal, a line a stage elsewhere.

Owns both. What is told at the end is `fit_display`'s.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fewtune.cli.output import console, say
from fewtune.fitting.events import Begun, Dropped, FittingEvent, FoldBegun, FoldEnded, LastFitBegun
from fewtune.fitting.standing import Standings
from fewtune.plurals import word_number
from fewtune.report.wording import word_about, word_lost, word_seconds

EVERY_SECONDS = 10.0
"""Where no terminal shows a panel, something is said this often at the least while a fit goes on."""


class FitPanel:
    """Hears what goes on and shows it; `verbose`: a line a fold too."""

    def __init__(self, began: float, verbose: bool = False) -> None:
        self._began, self._verbose = began, verbose
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._standings: Standings | None = None
        self._folds_done: dict[str, int] = {}
        self._begun: Begun | None = None
        self._stage = ""
        self._step = ""
        self._said = time.monotonic()

    def __enter__(self) -> FitPanel:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def hear(self, event: FittingEvent) -> None:
        """Take an event."""
        self._step = ""
        match event:
            case Begun():
                self._begun = event
                self._tell(_word_begun(event))
            case FoldBegun():
                self._stage = f"{event.name}, fold {event.fold} of {event.folds}"
            case FoldEnded():
                self._standings = event.standings
                self._folds_done[event.name] = done = self._folds_done.get(event.name, 0) + 1
                own = event.standings.find(event.name)
                line = f"{event.name}: {own.score:.3f}, fold {done} of {event.folds}, {word_seconds(event.seconds)}"
                if self._verbose or (self._live is None and (done == 1 or done == event.folds)):
                    self._tell(line)
            case Dropped():
                self._tell(f"{event.left_out.name} is left out: {event.left_out.reason}")
            case LastFitBegun():
                about = "" if event.seconds is None or event.seconds < 1 else f", {word_about(event.seconds)}"
                self._stage = f"Fitting {event.name} on all {word_number(event.rows, 'row')}{about} …"
                self._tell(self._stage)
        self._show()

    def count_step(self, step: int, steps: int, loss: float) -> None:
        """Take a step of a fit."""
        self._step = f"step {step} of {steps}"
        if self._live is not None:
            self._show()
        elif time.monotonic() - self._said >= EVERY_SECONDS:
            self._tell(f"{self._stage}: {self._step}")

    def _tell(self, line: str) -> None:
        say(line)
        self._said = time.monotonic()

    def _show(self) -> None:
        if self._live is None:
            return
        self._live.update(Group(self._make_table(), Text(self._word_now())), refresh=True)

    def _word_now(self) -> str:
        taken = time.perf_counter() - self._began
        limit = "" if self._begun is None or self._begun.seconds is None else f" of {self._begun.seconds:.0f}"
        parts = [f"{taken:.0f}{limit} s", self._stage, self._step]
        return " · ".join(part for part in parts if part)

    def _make_table(self) -> Table:
        table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
        for name in ("candidate", "folds", "score", "expected loss"):
            table.add_column(name, justify="left" if name == "candidate" else "right")
        if self._standings is not None:
            for each in self._standings.standings:
                done = str(self._folds_done.get(each.name, ""))
                table.add_row(Text(each.name), done, f"{each.score:.3f}", word_lost(each.expected_loss))
        return table


def _word_begun(event: Begun) -> str:
    names = [candidate.name for candidate in event.portfolio.candidates]
    limit = "" if event.seconds is None else f", in {word_seconds(event.seconds)} at most"
    kept = f" {word_number(event.kept, 'fold')} of an earlier command stand." if event.kept else ""
    folds = f"{word_number(event.folds, 'fold')} of {word_number(event.rows, 'row')}"
    if len(names) == 1:
        return f"Judging {names[0]} by {folds}{limit}.{kept}"
    return f"Trying {word_number(len(names), 'candidate')} on {folds}{limit}: {', '.join(names)}.{kept}"
