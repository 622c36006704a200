"""Display of a forecast: a line for each kind of trial, and the total.

Owns the table. How trials are forecast is `running.forecast`'s.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from fewtune.plurals import pluralise
from fewtune.report.wording import UNKNOWN, format_memory, format_seconds
from fewtune.running.forecast import BAND, Forecast, StudyForecast
from fewtune.system.terminal import make_message, make_text


def show_forecast(console: Console, forecast: StudyForecast, is_race: bool) -> None:
    """Print what each kind of trial is thought to take, and all of them together; a race may end before."""
    if not forecast.cells:
        console.print(make_text("Forecast: no trial waits."))
        return
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("forecast", overflow="fold")
    for heading in ("trials", "a trial", "memory", "disk", "known from"):
        table.add_column(heading, justify="left" if heading == "known from" else "right")
    several = len({(cell.cell.task, cell.cell.shots, cell.cell.model) for cell in forecast.cells}) > 1
    for each in forecast.cells:
        known = "its records" if each.from_records else "an excerpt" if each.fault is None else f"failed: {each.fault}"
        table.add_row(
            make_text(_name_cell(each, several)),
            str(each.trials),
            format_seconds(each.seconds),
            format_memory(each.memory_bytes),
            format_memory(each.disk_bytes),
            make_message(known),
        )
    console.print(table)
    for line in _sum_up(forecast, is_race):
        console.print(make_message(line), soft_wrap=not console.is_terminal)


def _name_cell(each: Forecast, several: bool) -> str:
    cell = each.cell
    where = f"{cell.task} · {cell.model or 'no model'} · {pluralise(cell.shots, 'shot')} · " if several else ""
    return f"{where}{cell.variant}"


def _sum_up(forecast: StudyForecast, is_race: bool) -> Iterator[str]:
    trials = pluralise(sum(each.trials for each in forecast.cells), "trial")
    seconds = forecast.seconds
    if seconds is None:
        yield f"{trials}: what all of them take is not known, for some could not be measured."
        return
    low, high = format_seconds(seconds * (1 - BAND)), format_seconds(seconds * (1 + BAND))
    beside = f", {pluralise(forecast.workers, 'process')} beside each other" if forecast.workers > 1 else ""
    sooner = " The race may end sooner." if is_race else ""
    yield (
        f"{trials}: about {format_seconds(seconds)} ({low} to {high}){beside}; {format_memory(forecast.memory_bytes)} "
        f"of memory at most, {format_memory(forecast.disk_bytes) or UNKNOWN} of disk.{sooner}"
    )
