"""Shows a study's accuracies beside published ones in a terminal.

Owns how trials are matched with published cells and how the two are laid side by side. Does not know the figures or
what is wrong with them (`published`). Ours are means of draws, fit seeds averaged inside a draw; accuracy always,
whatever the study's metric, for that is what was published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from fewtune.analysis.leaderboard import IN_DOMAIN, draw_of, saw_unlabelled
from fewtune.errors import FewtuneError, name_choices
from fewtune.plurals import pluralise
from fewtune.records import Record, load_records, load_study_entry
from fewtune.report.published import (
    FILES,
    Counterpart,
    PublishedMethod,
    PublishedResult,
    PublishedStudy,
    PublishedTask,
    PublishedTime,
    find_counterpart,
    load_published,
)
from fewtune.report.wording import UNKNOWN, UNLABELLED_NOTE, mark_unlabelled
from fewtune.system.terminal import make_message, make_text

_COLUMNS = (
    "shots",
    "in domain\npublished",
    "ours",
    "points",
    "out of domain\npublished",
    "ours",
    "points",
    "draws",
)


@dataclass(frozen=True)
class PublishedComparison:
    """One published cell and our trials that answer to it; accuracies in per cent, differences in points."""

    task: str
    """As our study calls it."""
    model: str
    shots: int
    """Labelled rows in our support, in total."""
    published: PublishedResult
    variant: str
    unlabelled: bool
    """Ours learnt from rows without labels besides."""
    in_domain: float
    out_of_domain: float | None
    draws: int
    fit_seconds: float | None
    """Mean over our trials; None where it was not measured."""
    processors: tuple[str, ...]
    published_time: PublishedTime | None
    """How long training took them; None where it is not told."""
    caveats: tuple[str, ...]
    """What keeps the two from being compared as they stand."""

    @property
    def in_domain_difference(self) -> float:
        """Ours less theirs, in domain."""
        return self.in_domain - self.published.in_domain

    @property
    def out_of_domain_difference(self) -> float | None:
        """Ours less theirs, out of domain; None where we scored no such rows."""
        return None if self.out_of_domain is None else self.out_of_domain - self.published.out_of_domain


def check_published_name(name: str) -> None:
    """Refuse the name of a published study that is not known."""
    if name not in FILES:
        raise FewtuneError(name_choices(name, FILES, "published study"))


def show_against(console: Console, out_dir: Path, name: str) -> None:
    """Print a folder's accuracies beside those of a published study, with the caveats that apply."""
    check_published_name(name)
    theirs = load_published(name)
    comparisons = compare_with_published(theirs, load_records(out_dir), _name_tasks(out_dir))
    console.print()
    console.print(make_text(f"Against {theirs.source}: accuracy in %", style="bold"))
    if not comparisons:
        methods = "; ".join(method.name for method in theirs.methods)
        tasks = ", ".join(task.name for task in theirs.tasks)
        models = ", ".join(sorted({result.model for result in theirs.results()}))
        shots = ", ".join(sorted({str(r.shots_total) for r in theirs.results() if r.shots_total}, key=int))
        _say(
            console,
            f"No finished trial answers to a published figure. Those are for the tasks {tasks}; "
            f"the models {models}; {shots} shots in total; and ours that answer to: {methods}.",
        )
        return
    numbers: dict[str, int] = {}
    for comparison in comparisons:
        for caveat in comparison.caveats:
            numbers.setdefault(caveat, len(numbers) + 1)
    if any(_format_times(comparison) for comparison in comparisons):
        numbers.setdefault(theirs.time_caveat.text, len(numbers) + 1)
    for (task, model), members in groupby(comparisons, key=lambda c: (c.task, c.model)):
        _show_table(console, f"{task} · {model}", list(members), numbers)
    console.print()
    _say(console, "Points: ours less published. Notes:")
    for caveat, number in numbers.items():
        _say(console, f"{number}  {caveat}")
    if any(comparison.unlabelled for comparison in comparisons):
        _say(console, f"{UNLABELLED_NOTE}.")


def compare_with_published(
    theirs: PublishedStudy, records: Iterable[Record], task_names: Mapping[str, str] | None = None
) -> list[PublishedComparison]:
    """Match finished trials with published cells; `task_names` says which task a study's label stands for."""
    cells: dict[tuple[str, str, str, int, str], list[Record]] = {}
    matches: dict[tuple[str, str, str, int, str], tuple[PublishedTask, PublishedResult, Counterpart]] = {}
    for record in records:
        axes = record.trial
        task = theirs.task((task_names or {}).get(axes.task, axes.task))
        if record.status != "done" or axes.model is None or task is None or tuple(record.labels) != task.labels:
            continue
        for method in theirs.methods:
            match = _match(theirs, record, axes.model, task, method)
            if match is not None:
                key = (axes.task, axes.model, method.name, axes.shots, axes.variant)
                cells.setdefault(key, []).append(record)
                matches[key] = (task, *match)
    order = [counterpart for method in theirs.methods for counterpart in method.counterparts]
    keys = sorted(cells, key=lambda key: (*key[:2], order.index(matches[key][2]), key[4], key[3]))
    return [_compare(theirs, cells[key], *matches[key]) for key in keys]


def _match(
    theirs: PublishedStudy, record: Record, model: str, task: PublishedTask, method: PublishedMethod
) -> tuple[PublishedResult, Counterpart] | None:
    counterpart = find_counterpart(method, record.trial.method, record.trial.settings)
    shots = None if method.on_all_rows else record.trial.shots
    published = theirs.find(task.name, method.name, model, shots)
    return None if counterpart is None or published is None else (published, counterpart)


def _compare(
    theirs: PublishedStudy,
    records: Sequence[Record],
    task: PublishedTask,
    published: PublishedResult,
    counterpart: Counterpart,
) -> PublishedComparison:
    axes = records[0].trial
    inside = _average_draws(records, IN_DOMAIN)
    outside_set = next((name for name in task.out_of_domain_sets if name in records[0].metrics), None)
    outside = _average_draws(records, outside_set) if outside_set is not None else []
    seconds = [r.cost.fit_seconds for r in records if r.cost is not None and r.cost.fit_seconds is not None]
    caveats = [caveat.text for caveat in theirs.list_caveats(published.task, published.method)]
    if counterpart.difference:
        caveats.append(f"{published.method} against {axes.variant}: {counterpart.difference}.")
    if outside_set is not None and outside_set != task.out_of_domain_sets[0]:
        caveats.append(
            f"Ours out of domain is {outside_set}, made anew with the published templates: "
            f"not the official {task.out_of_domain_rows:,} rows."
        )
    return PublishedComparison(
        task=axes.task,
        model=str(axes.model),
        shots=axes.shots,
        published=published,
        variant=axes.variant,
        unlabelled=any(map(saw_unlabelled, records)),
        in_domain=100 * fmean(inside),
        out_of_domain=100 * fmean(outside) if outside else None,
        draws=len(inside),
        fit_seconds=fmean(seconds) if seconds else None,
        processors=tuple(sorted({_name_hardware(record) for record in records})),
        published_time=theirs.find_time(published),
        caveats=tuple(caveats),
    )


def _average_draws(records: Iterable[Record], test_set: str) -> list[float]:
    draws: dict[tuple[int, str], list[float]] = {}
    for record in records:
        draws.setdefault(draw_of(record), []).append(record.metrics[test_set]["accuracy"])
    return [fmean(values) for values in draws.values()]


def _name_tasks(out_dir: Path) -> dict[str, str]:
    """Which task each label of the folder's study stands for."""
    names: dict[str, str] = {}
    for entry in load_study_entry(out_dir, "tasks") or ():
        name, settings = next(iter(entry.items())) if isinstance(entry, dict) else (entry, None)
        names[str((settings or {}).get("as", name))] = name
    return names


def _show_table(
    console: Console, title: str, comparisons: Sequence[PublishedComparison], numbers: Mapping[str, int]
) -> None:
    """One small table a pair of methods; where the terminal is wide enough their columns have equal widths, and the
    headings stand above the first alone.
    """
    console.print()
    console.print(make_text(title, style="bold"))
    widths = [max(6, *map(len, heading.split("\n"))) for heading in _COLUMNS]
    wide = sum(widths) + 2 * len(widths) < console.width  # a narrow terminal would cut the last columns off
    pairs = groupby(comparisons, key=lambda c: (c.published.method, c.variant))
    for place, ((method, variant), members) in enumerate(pairs):
        rows = list(members)
        notes = " ".join(map(str, sorted({numbers[caveat] for one in rows for caveat in one.caveats})))
        table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False, show_header=place == 0 or not wide)
        for heading, width in zip(_COLUMNS, widths, strict=True):
            table.add_column(make_text(heading), justify="right", min_width=width if wide else None, overflow="fold")
        for one in rows:
            table.add_row(
                make_text(str(one.shots)),
                make_text(_word(one.published.in_domain)),
                make_text(_word(one.in_domain)),
                make_text(_word(one.in_domain_difference, signed=True)),
                make_text(_word(one.published.out_of_domain)),
                make_text(_word(one.out_of_domain)),
                make_text(_word(one.out_of_domain_difference, signed=True)),
                make_text(str(one.draws)),
            )
        ours = mark_unlabelled(variant, any(one.unlabelled for one in rows))
        _say(console, f"{method} | ours: {ours} | notes {notes}")
        console.print(Padding(table, (0, 0, 0, 1)))
        for one in rows:
            for line in _format_times(one):
                _say(console, line)


def _format_times(comparison: PublishedComparison) -> list[str]:
    """How long fitting took, theirs and ours, where theirs is told; on unlike hardware, so no ratio is made of it."""
    told = comparison.published_time
    if told is None or comparison.fit_seconds is None:
        return []
    span = f"{told.fastest_seconds:,}"
    if told.slowest_seconds != told.fastest_seconds:
        span += f" to {told.slowest_seconds:,}"
    each = " an epoch" if told.per_epoch else ""
    return [
        (
            f"Fitting {pluralise(comparison.shots, 'shot', ',')}: published {span} s{each} on an {told.gpu}; ours "
            f"{comparison.fit_seconds:,.0f} s on {', '.join(comparison.processors)}, for all of preparing and fitting."
        )
    ]


def _name_hardware(record: Record) -> str:
    device = str(record.environment.get("device", "cpu"))
    return str(record.environment.get("processor", "an unknown processor")) if device == "cpu" else device


def _word(value: float | None, signed: bool = False) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:+.1f}" if signed else f"{value:.1f}"


def _say(console: Console, text: str) -> None:
    console.print(Padding(make_message(text), (0, 0, 0, 1)))
