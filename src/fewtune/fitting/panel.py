"""Display while a model is chosen and fitted: a live panel on a terminal, a line a stage elsewhere.

Owns both. What is told at the end is the command's.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from fewtune.fitting.events import Begun, Dropped, FittingEvent, FoldBegun, FoldEnded, LastFitBegun
from fewtune.fitting.standing import Standings
from fewtune.plurals import choose_verb, pluralise
from fewtune.report.wording import format_about, format_lost, format_seconds
from fewtune.system.terminal import make_message, make_text

EVERY_SECONDS = 10.0
"""Where no terminal shows a panel, something is said this often at the least while a fit goes on."""


class FitPanel:
    """Hears what goes on and shows it; `verbose`: a line a fold too."""

    def __init__(self, console: Console, began: float, verbose: bool = False) -> None:
        self._console, self._began, self._verbose = console, began, verbose
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick_on, daemon=True)
        self._standings: Standings | None = None
        self._folds_done: dict[str, int] = {}
        self._begun: Begun | None = None
        self._stage = ""
        self._step = ""
        self._said = time.monotonic()
        self._live: Live | None = None
        if console.is_terminal:  # redrawn by itself too, for the seconds go on where nothing is told
            self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=2, transient=True)

    def __enter__(self) -> FitPanel:
        if self._live is not None:
            self._live.start()
        else:
            self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._live is not None:
            self._live.stop()
        else:
            self._ticker.join()

    def hear(self, event: FittingEvent) -> None:
        """Take an event."""
        self._step = ""
        match event:
            case Begun():
                self._begun = event
                self._folds_done = dict(event.kept)
                self._tell(_format_begun(event))
            case FoldBegun():
                self._stage = f"{event.name}, fold {event.fold} of {event.folds}"
            case FoldEnded():
                self._standings = event.standings
                self._folds_done[event.name] = done = event.fold
                own = event.standings.find(event.name)
                score = f"{self._metric} {own.score:.3f} after fold {done} of {event.folds}"
                line = f"{event.name}: {score}, {format_seconds(event.seconds)}"
                if self._verbose or (self._live is None and (done == 1 or done == event.folds)):
                    self._tell(line)
            case Dropped():
                self._tell(f"{event.left_out.name} is left out: {event.left_out.reason}")
            case LastFitBegun():
                about = "" if event.seconds is None or event.seconds < 1 else f", {format_about(event.seconds)}"
                times = "twice" if event.times == 2 else f"{event.times} times"
                longer = "" if event.times == 1 else f", {times} as long as for a fold"
                self._stage = f"Fitting {event.name} on all {pluralise(event.rows, 'row')}{longer}{about} …"
                self._tell(self._stage)

    def count_step(self, step: int, steps: int, loss: float) -> None:
        """Take a step of a fit."""
        self._step = f"step {step} of {steps}"

    def tick(self) -> None:
        """Say what goes on where no panel shows it and nothing was said for EVERY_SECONDS."""
        if self._live is None and self._stage and time.monotonic() - self._said >= EVERY_SECONDS:
            self._tell(self._format_now())

    @property
    def _metric(self) -> str:
        return "score" if self._begun is None else self._begun.metric

    def _tick_on(self) -> None:
        while not self._ended.wait(1.0):
            self.tick()

    def _tell(self, line: str) -> None:
        self._console.print(make_message(line), soft_wrap=not self._console.is_terminal)
        self._said = time.monotonic()

    def _draw(self) -> Group:
        return Group(self._make_table(), make_text(self._format_now()))

    def _format_now(self) -> str:
        earlier = 0.0 if self._begun is None else self._begun.earlier_seconds
        taken = earlier + time.perf_counter() - self._began
        limit = "" if self._begun is None or self._begun.seconds is None else f" of {self._begun.seconds:.0f} s"
        parts = [f"{taken:.0f} s{limit}", self._stage, self._step]
        return " · ".join(part for part in parts if part)

    def _make_table(self) -> Table:
        table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
        table.add_column("candidate", overflow="fold")
        for name in ("folds", self._metric, "expected loss"):
            table.add_column(name, justify="right", no_wrap=True)
        if self._standings is not None:
            for each in self._standings.standings:
                done = str(self._folds_done.get(each.name, ""))
                table.add_row(make_text(each.name), done, f"{each.score:.3f}", format_lost(each.expected_loss))
        return table


def _format_begun(event: Begun) -> str:
    names = [candidate.name for candidate in event.portfolio.candidates]
    limit = "" if event.seconds is None else f", in {format_seconds(event.seconds)} at most"
    if limit and event.earlier_seconds >= 1:
        limit += f" ({format_seconds(event.earlier_seconds)} already spent)"
    taken = sum(event.kept.values())
    kept = f" {pluralise(taken, 'fold')} {choose_verb(taken, 'is', 'are')} kept from an earlier command."
    kept = kept if taken else ""
    folds = f"{pluralise(event.rows, 'row')} in {pluralise(event.folds, 'fold')}"
    if len(names) == 1:
        return f"Judging {names[0]} by {folds}{limit}.{kept}"
    return f"Trying {pluralise(len(names), 'candidate')} on {folds}{limit}: {', '.join(names)}.{kept}"
