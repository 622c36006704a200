"""A live view of a running study: finished trials, results so far, and time left.

Owns the view. Reads records alone: it may run on another machine than the study.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fewtune.analysis.followed import FollowedFolder
from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardGroup
from fewtune.analysis.study import FolderContents, StudyAnalysis, analyse_contents
from fewtune.analysis.time_left import guess_seconds_left
from fewtune.errors import RecordError
from fewtune.inference.differences import FEWEST_DRAWS
from fewtune.plurals import pluralise
from fewtune.records import (
    Cell,
    LookHistory,
    Record,
    find_last_run,
    list_written,
    load_events,
    load_looks,
    load_planned,
)
from fewtune.report.findings import format_outcome
from fewtune.report.race import format_next_look
from fewtune.report.wording import (
    UNKNOWN,
    UNLABELLED_NOTE,
    format_decision,
    format_expected,
    format_score,
    format_seconds,
    list_models,
    list_verdict,
    mark_unlabelled,
)
from fewtune.system.terminal import make_message, make_text

CALM_SECONDS = 30.0
"""Seconds without a change after which a race that may go on is taken to have ended, as where its budget did."""
MOST_LINES = 4
"""Of the lines below a verdict's first one, how many are shown while a study runs."""


def watch_study(console: Console, out_dir: Path, every: float, pause: Callable[[float], None] = time.sleep) -> None:
    """Show a study until each planned trial is done, or failed in its last run; `every` seconds it is read again.

    Where the console is no terminal it is shown once, as it stands.
    Raises RecordError where the folder holds no study.
    """
    planned = load_planned(out_dir)
    if planned is None:
        raise RecordError(
            f"{out_dir}: no study was started here. Give the folder that `fewtune run` writes (its --out)."
        )
    followed = FollowedFolder(out_dir)
    with Live(console=console, auto_refresh=False, vertical_overflow="visible") as live:
        seen: tuple[int, dict[str, float], LookHistory | None] | None = None
        may_end, calm = False, 0.0
        while True:
            planned = load_planned(out_dir) or planned  # a race plans look by look
            looks = load_looks(out_dir)
            found = {trial_id: when for trial_id, when in list_written(out_dir).items() if trial_id in planned}
            if (len(planned), found, looks) != seen:
                contents = followed.read() if found else None
                records = contents.records if contents is not None else ()
                again = list_repeated(records, found, find_last_run(out_dir))
                whole = len(found) == len(planned) and not again and _is_looked_at(out_dir, records, looks)
                last = whole or not console.is_terminal
                trials = pluralise(len(planned), "trial")
                view: Text | Group = make_message(f"{out_dir}: {trials} planned, none finished yet.")
                if contents is not None:
                    # What stays on the screen is the report's own analysis, to the last digit.
                    study = analyse_contents(out_dir, contents) if last else followed.analyse(contents)
                    view = show_state(study, len(planned), again)
                live.update(view, refresh=True)
                seen = len(planned), found, looks
                # Between its looks a race has every trial that it planned, for as long as a look takes.
                may_end, calm = whole and contents is not None and _may_look_further(contents, study), 0.0
                if last and not (may_end and console.is_terminal):
                    break
            elif may_end and calm >= CALM_SECONDS:
                break
            pause(every)
            calm += every
    if not console.is_terminal:
        console.line()  # `Live` ends its own last line in a terminal alone


def _may_look_further(contents: FolderContents, study: StudyAnalysis) -> bool:
    """Whether a race's plan has a look after the last one, and a decision is open."""
    taken = max((look.draws for look in contents.looks.looks), default=0) if contents.looks is not None else 0
    is_open = any(not decision.settled for decision in study.decisions)
    return contents.races and is_open and any(draws > taken for draws in contents.planned_looks)


def _is_looked_at(out_dir: Path, records: Iterable[Record], looks: LookHistory | None) -> bool:
    """Whether each task and number of shots had a look at all of its draws, which comes after the last record.

    True where no look is to come: they are not counted, the folder holds a part of a study, or one draw bounds nothing.
    """
    if looks is None or _holds_a_part(out_dir):
        return True
    seeds: dict[tuple[str, int], set[int]] = defaultdict(set)
    for record in records:
        seeds[record.trial.task, record.trial.shots].add(record.trial.data_seed)
    return all(
        any(look.draws >= len(drawn) for look in looks.of(*place))
        for place, drawn in seeds.items()
        if len(drawn) >= FEWEST_DRAWS
    )


def _holds_a_part(out_dir: Path) -> bool:
    """Whether what last ran into a folder was a part of a study (`--shard`), or parts were merged there last."""
    filled = [event for event in load_events(out_dir) if event["event"] in ("run", "merged")]
    return bool(filled) and (filled[-1]["event"] == "merged" or "shards" in filled[-1])


def list_repeated(records: Iterable[Record], written: Mapping[str, float], last_run: float) -> list[Cell]:
    """The cells of trials that the last run repeats and has not come to: unfinished, their records older than it.

    `written` has the time of each record, as `last_run` UTC in seconds.
    """
    unfinished = [record for record in records if record.status not in ("done", "stopped")]
    return [record.trial.cell for record in unfinished if written.get(record.trial_id, last_run) < last_run]


def show_state(study: StudyAnalysis, planned: int, again: Sequence[Cell]) -> Group:
    """The whole view as it stands; `again` has the cells of trials that are to be repeated."""
    parts: list[Text | Padding | ProgressBar] = [*_head(study, planned, again), Text("")]
    for group in study.groups:
        parts.append(make_text(group.board.title, style="bold"))
        decision = study.decision(group.board)
        parts.append(Padding(_tabulate(study, group.board), (0, 0, 0, 1)))
        coming = format_next_look(study, decision, [*study.waiting, *again], _count_workers(study))
        if coming is not None:
            parts.append(Padding(make_message(coming), (0, 0, 0, 1)))
        parts.append(Padding(make_message(f"so far: {format_decision(decision)}"), (0, 0, 0, 1)))
        lines = list_verdict(decision, group.verdict)[:MOST_LINES]
        parts += [Padding(make_message(f"- {line}"), (0, 0, 0, 1)) for line in lines]
        parts.append(Text(""))
    if study.unlabelled:
        parts.append(make_text(f"{UNLABELLED_NOTE}.", style="dim"))
    parts.append(Text.assemble(("Audit  ", "bold"), make_text(format_outcome(study.findings))))
    return Group(*parts)


def _head(study: StudyAnalysis, planned: int, again: Sequence[Cell]) -> list[Text | Padding | ProgressBar]:
    counts = Counter(record.status for record in study.records)
    told = f"{len(study.records)} of {pluralise(planned, 'trial')}: {counts['done']} done"
    told += "".join(f", {counts[status]} {status}" for status in ("failed", "skipped", "stopped") if counts[status])
    told += f", {len(again)} of these to be run again" if again else ""
    waiting = [*study.waiting, *again]
    left = guess_seconds_left(study.records, waiting, _count_workers(study))
    if waiting:
        told += f", about {format_seconds(left)} left" if left is not None else ""
    settled = len(study.records) - len(again)
    models = [make_text(line, style="dim") for line in list_models(study.models)]
    return [make_text(study.name, style="bold"), *models, make_text(told), ProgressBar(planned, settled, width=60)]


def _count_workers(study: StudyAnalysis) -> int:
    return max((int(r.environment.get("workers", 1)) for r in study.records), default=1)


def _tabulate(study: StudyAnalysis, board: LeaderboardGroup) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("method", overflow="fold")
    for heading in ("in domain", "lowest", "highest", "draws", "fit", "expected loss"):
        table.add_column(heading, justify="right")
    for row in board.rows:
        values = [draw.value for draw in row.scores[IN_DOMAIN].draws] if IN_DOMAIN in row.scores else []
        ends = (format_score(min(values)), format_score(max(values))) if values else (UNKNOWN, UNKNOWN)
        state = str(row.draws) if row.draws else "failed" if row.failed else "skipped" if row.skipped else UNKNOWN
        contender = study.contender(board, row)
        loss = UNKNOWN if contender is None else format_expected(contender)
        if contender is not None and (contender.excluded or "").startswith("stopped"):
            state += ", stopped"
        fit = format_seconds(row.fit_seconds)
        name = make_text(mark_unlabelled(row.variant, row.unlabelled))
        table.add_row(name, format_score(row.in_domain), *ends, state, fit, loss)
    return table
