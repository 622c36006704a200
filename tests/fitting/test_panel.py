"""What `fewtune fit` shows while it works: lines where it is piped, a panel that 80 columns hold on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fewtune.fitting import panel as module
from fewtune.fitting.candidates import Candidate, CandidateLeftOut, Portfolio
from fewtune.fitting.events import Begun, Dropped, FoldBegun, FoldEnded, LastFitBegun
from fewtune.fitting.panel import FitPanel
from fewtune.fitting.prior import FLAT
from fewtune.fitting.standing import Standing, Standings

LONG = Candidate("embeddings", "/home/somebody/models/of/the/whole/department/sentence-encoder-large")
NAMES = ("tfidf", LONG.name)
STANDINGS = Standings(
    tuple(Standing(name, 0.9 - 0.1 * place, 0.03, 60, 0.01, 0.02, 0.0, FLAT) for place, name in enumerate(NAMES)),
    optimism=0.0,
    enough_rows=None,
)


class Watch:
    """A clock that stands until it is moved on."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now


def open_panel(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, verbose: bool = False
) -> tuple[FitPanel, Watch, Console]:
    console, watch = Console(force_terminal=terminal, width=80, file=io.StringIO(), record=True), Watch()
    monkeypatch.setattr(module, "time", watch)
    return FitPanel(console, 0.0, verbose), watch, console


def begin(panel: FitPanel, **kept: int) -> None:
    panel.hear(Begun(Portfolio((Candidate("tfidf"), LONG)), 60, 4, 300.0, kept, "accuracy"))


def answer(panel: FitPanel, name: str, fold: int) -> None:
    panel.hear(FoldBegun(name, fold, 4))
    panel.hear(FoldEnded(name, fold, 4, 1.5, STANDINGS))


def test_piped_each_stage_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    panel, _, console = open_panel(monkeypatch, terminal=False)
    begin(panel)
    for fold in (1, 2, 3, 4):
        answer(panel, "tfidf", fold)
    panel.hear(Dropped(CandidateLeftOut(LONG.name, "one fit on all rows takes about 9 min: more than is left.")))
    panel.hear(LastFitBegun("tfidf", 60, 0.1))
    assert console.export_text().splitlines() == [
        f"Trying 2 candidates on 60 rows in 4 folds, in 300 s at most: tfidf, {LONG.name}.",
        "tfidf: accuracy 0.900 after fold 1 of 4, 1.50 s",
        "tfidf: accuracy 0.900 after fold 4 of 4, 1.50 s",
        f"{LONG.name} is left out: one fit on all rows takes about 9 min: more than is left.",
        "Fitting tfidf on all 60 rows …",
    ]


def test_piped_a_long_fit_is_heard_of_every_ten_seconds_whether_it_has_steps_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel, watch, console = open_panel(monkeypatch, terminal=False)
    begin(panel)
    panel.hear(FoldBegun("tfidf", 1, 4))
    console.export_text()
    for second in range(1, 31):
        watch.now = float(second)
        panel.tick()
    assert console.export_text().splitlines() == [f"{n} s of 300 s · tfidf, fold 1 of 4" for n in (10, 20, 30)]
    panel.count_step(3, 10, 0.5)
    watch.now = 39.0
    panel.tick()
    assert console.export_text() == ""
    watch.now = 40.0
    panel.tick()
    assert console.export_text() == "40 s of 300 s · tfidf, fold 1 of 4 · step 3 of 10\n"


def test_piped_the_panel_ticks_while_it_is_open_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    panel, _, _ = open_panel(monkeypatch, terminal=False)
    with panel:
        assert panel._ticker.is_alive()
    assert not panel._ticker.is_alive()


def test_folds_of_an_earlier_command_are_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    panel, _, console = open_panel(monkeypatch, terminal=False, verbose=True)
    begin(panel, tfidf=3)
    answer(panel, "tfidf", 4)
    told = console.export_text()
    assert "3 folds are kept from an earlier command." in told and "tfidf: accuracy 0.900 after fold 4 of 4" in told


def test_what_a_killed_command_spent_is_told_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    panel, watch, console = open_panel(monkeypatch, terminal=False)
    panel.hear(Begun(Portfolio((Candidate("tfidf"), LONG)), 60, 4, 300.0, {}, "accuracy", 60.0))
    panel.hear(FoldBegun("tfidf", 1, 4))
    watch.now = 20.0
    panel.tick()
    told = console.export_text()
    assert "in 300 s at most (60 s already spent)" in told and "80 s of 300 s" in told


def test_on_a_terminal_the_last_frame_is_readable_at_eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    panel, watch, console = open_panel(monkeypatch, terminal=True)
    begin(panel, tfidf=2)
    answer(panel, "tfidf", 3)
    panel.hear(FoldBegun(LONG.name, 1, 4))
    panel.count_step(3, 10, 0.5)
    watch.now = 12.0
    console.export_text()
    console.print(panel._draw())
    lines = console.export_text().splitlines()
    assert all(len(line) <= 80 for line in lines)
    head, first, *rest = lines
    assert head.split() == ["candidate", "folds", "accuracy", "expected", "loss"]
    assert first.split() == ["tfidf", "3", "0.900", "1.0", "point"]
    shown = "".join("".join(rest).split())
    assert "".join(LONG.model or "") in shown.replace("0.8001.0point", ""), "no name is cut"
    assert "12sof300s" in shown and "fold1of4·step3of10" in shown
