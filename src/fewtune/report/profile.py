"""Shows where a study's time went: seconds and shares by phase, then a mean trial of each method.

Owns the adding up: what trials recorded, phase by phase, and what the command that ran them took besides. Does not
know how the seconds were measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fewtune.analysis.leaderboard import group_by_variant
from fewtune.plurals import choose_verb, pluralise
from fewtune.records import NEVER_RUN, PHASES, Record
from fewtune.report.wording import UNKNOWN, format_share
from fewtune.system.terminal import make_message, make_text

OUTSIDE = {
    "check": "study checked, models and rows found, every trial identified",
    "workers": "processes started, libraries imported, records written, waiting",
    "analyse": "statistics, leaderboard, report.html",
    "rest": "reading the study, imports of the command itself",
}
"""What a command does outside its trials, in order."""


@dataclass(frozen=True)
class CommandSeconds:
    """What the command that ran the trials took, trials included, on its own clock."""

    check: float
    run: float
    """From the first worker's start to the last one's end."""
    analyse: float
    rest: float
    workers: int
    """Worker processes that ran side by side."""

    @property
    def wall(self) -> float:
        return self.check + self.run + self.analyse + self.rest

    def outside(self, trial_seconds: float) -> dict[str, float]:
        """Seconds outside trials: of the workers (each one's, while trials ran), and of the command."""
        waiting = self.workers * self.run - trial_seconds
        return {"check": self.check, "workers": waiting, "analyse": self.analyse, "rest": self.rest}


def show_profile(
    console: Console, records: Sequence[Record], command: CommandSeconds | None = None, reused: int = 0
) -> None:
    """Print where the time of trials went; with `command`, of the command that ran them too.

    `reused` trials of the study were done before and are not among the records.
    """
    tried = [record for record in records if record.status not in NEVER_RUN]
    timed = [record for record in tried if record.phase_seconds]
    console.print()
    console.print(make_text("Where the time went", style="bold"))
    if timed:
        _print(console, _tabulate_study(timed, command))
        _print(console, make_text("\nA mean trial of each method, in seconds", style="bold"))
        _print(console, _tabulate_methods(timed))
    for note in _list_notes(timed, len(tried) - len(timed), command, reused):
        _print(console, make_message(note, style="dim"))


def sum_phases(records: Sequence[Record]) -> dict[str, float]:
    """Seconds by phase over records, in the order of PHASES; phases that none entered are left out."""
    entered = {name for record in records for name in record.phase_seconds}
    return {name: sum(r.phase_seconds.get(name, 0.0) for r in records) for name in PHASES if name in entered}


def _list_notes(timed: Sequence[Record], untimed: int, command: CommandSeconds | None, reused: int) -> list[str]:
    """Format what the figures do not say of themselves."""
    notes = []
    if timed:
        notes.append("A model is read by the first trial in each worker that needs it: load is that trial's.")
    if timed and command is None:
        notes.append("Shares are of the seconds inside trials; what the command took besides is told when it runs.")
    if timed and command is not None and command.workers > 1:
        notes.append(
            f"{command.workers} workers ran side by side: their seconds add up to more than the {command.wall:.1f} s "
            "of wall time that passed. Shares are of the sum."
        )
    failed = sum(record.status == "failed" for record in timed)
    if failed:
        notes.append(
            f"{pluralise(failed, 'trial')} failed; {choose_verb(failed, 'its', 'their')} seconds until then count."
        )
    if untimed:
        where = "counted under workers" if command is not None else "left out"
        notes.append(
            f"{pluralise(untimed, 'trial')} left no seconds (killed, or recorded by an older fewtune): {where}."
        )
    if reused:
        were = choose_verb(reused, "was done before this run and is", "were done before this run and are")
        notes.append(f"{pluralise(reused, 'trial')} {were} left out; `fewtune report` with --profile shows all.")
    return notes


def _tabulate_study(records: Sequence[Record], command: CommandSeconds | None) -> Table:
    phases = sum_phases(records)
    inside = sum(phases.values())
    outside = command.outside(inside) if command is not None else {}
    whole = inside + sum(outside.values())
    table = _open_table("phase", "seconds", "share")
    table.add_column("", overflow="fold")

    def add(name: str, seconds: float, meaning: str, style: str = "") -> None:
        share = format_share(seconds / whole if whole else None)
        table.add_row(
            make_text(name), make_text(f"{seconds:.2f}"), make_text(share), make_text(meaning, style="dim"), style=style
        )

    for name, seconds in phases.items():
        add(name, seconds, PHASES[name])
    add(pluralise(len(records), "trial"), inside, "", "bold")
    for name, seconds in outside.items():
        add(name, seconds, OUTSIDE[name])
    if outside:
        add("in all", whole, "wall time" if command is not None and command.workers == 1 else "", "bold")
    return table


def _tabulate_methods(records: Sequence[Record]) -> Table:
    shown = sum_phases(records)
    members = group_by_variant(records)
    means = {name: _average(its, sum_phases(its)) for name, its in members.items()}
    table = _open_table("method", "trials", *shown, "in all")
    for name, mean in sorted(means.items(), key=lambda item: -sum(item[1].values())):
        cells = [f"{mean[phase]:.2f}" if phase in mean else UNKNOWN for phase in shown]
        table.add_row(make_text(name), str(len(members[name])), *cells, f"{sum(mean.values()):.2f}")
    return table


def _average(records: Sequence[Record], sums: Mapping[str, float]) -> dict[str, float]:
    return {name: seconds / len(records) for name, seconds in sums.items()}


def _open_table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print(console: Console, part: Table | Text) -> None:
    console.print(Padding(part, (0, 0, 0, 1)))
