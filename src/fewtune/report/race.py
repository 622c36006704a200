"""Shows the state of a race in a terminal: each method's draws, expected loss and bound, and what comes next.

Owns the table and the words: a race by expected loss has rounds, one by bounds planned looks. Used by `run` after each
of them, and by `watch`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.table import Table
from rich.text import Text

from fewtune.analysis.decision import Contender, Decision
from fewtune.analysis.study import StudyAnalysis
from fewtune.analysis.time_left import guess_seconds_left
from fewtune.plurals import pluralise
from fewtune.records import Cell
from fewtune.report.wording import (
    UNKNOWN,
    UNLABELLED_NOTE,
    format_bound,
    format_expected,
    format_score,
    format_seconds,
    mark_unlabelled,
)
from fewtune.system.terminal import make_text


def tabulate_race(decision: Decision, running: Collection[str]) -> Table:
    """A race's methods after a round or look, the highest mean first; `running` are those that go on."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("method", overflow="fold")
    table.add_column("mean", justify="right")
    table.add_column("expected loss,\npoints", justify="right")
    table.add_column("at most\n(95 %)", justify="right")
    table.add_column("draws", justify="right")
    table.add_column("", overflow="fold")
    for each in decision.contenders:
        table.add_row(
            make_text(mark_unlabelled(each.name, each.unlabelled)),
            format_score(each.score),
            format_expected(each),
            format_bound(each),
            str(each.draws or UNKNOWN),
            _format_state(each, decision, running),
        )
    if any(each.unlabelled for each in decision.contenders):
        table.caption, table.caption_justify = make_text(UNLABELLED_NOTE, style="dim"), "left"
    return table


def format_next_look(study: StudyAnalysis, decision: Decision, waiting: Sequence[Cell], workers: int) -> str | None:
    """Say what the round under way takes, or which look comes next; None where none does or no trial waits for it.

    'race: look 1 of 4 was after 3 draws; the next is after 5: 4 trials to go, about 2 min'
    """
    looks, planned = study.terms.looks, study.planned_looks
    if looks is None or len(planned) < 2 or decision.settled:
        return None
    question = decision.question
    here = [cell for cell in waiting if (cell.task, cell.shots) == (question.task, question.shots)]
    taken = looks.of(question.task, question.shots)
    later = [draws for draws in planned if not taken or draws > taken[-1].draws]
    if not here or not later:
        return None
    left = guess_seconds_left(study.records, here, workers)
    about = "" if left is None else f", about {format_seconds(left)}"
    if study.terms.guarantee != "bound":
        return f"race: this round has {pluralise(len(here), 'trial')} to go{about}"
    last = f"look {len(taken)} of {len(planned)} was after {pluralise(taken[-1].draws, 'draw')}; " if taken else ""
    return f"race: {last}the next is after {later[0]}: {pluralise(len(here), 'trial')} to go{about}"


def _format_state(each: Contender, decision: Decision, running: Collection[str]) -> Text:
    if decision.choice is not None and decision.choice.name == each.name:
        return make_text("chosen" if decision.settled else "best bet", style="bold")
    paused = bool(running) and each.regret is not None
    return make_text(each.excluded or ("gets draws" if each.name in running else "paused" if paused else ""))
