"""Users' words in a terminal, a page and a file: whole, and acting on nothing."""

from __future__ import annotations

import ast
import csv
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from fewtune.analysis.study import analyse_folder
from fewtune.analysis.time_left import TimedTrials
from fewtune.cli.progress import LiveProgress, PlainProgress, TimeLeft
from fewtune.records import (
    Cell,
    FitNotes,
    Notes,
    PromptNotes,
    load_predictions,
    load_records,
    write_planned,
    write_record,
)
from fewtune.report.advice import show_decisions
from fewtune.report.charts import draw_group
from fewtune.report.export import write_csv, write_latex, write_markdown
from fewtune.report.findings import show_findings
from fewtune.report.page import render_page
from fewtune.report.profile import show_profile
from fewtune.report.svg import export_svg
from fewtune.report.tables import show_leaderboard
from fewtune.report.watch import watch_study
from fewtune.running.job import Progress
from fewtune.system.terminal import make_message, make_safe, make_text
from study_maker import make_study

SOURCE = Path(__file__).parent.parent / "src" / "fewtune"
MARKUP = ("reviews [/b] odd", "lora[rank=4]", "[link=http://x]:smile:", "[red]small[/red]")
ESCAPES = ("\x1b[31mred\x1b[0m", "bell\a", "back\b\b\b", "over\rwritten", "\x9b2J", "\u202eevil", "\x1b]0;title\x07")


def make_console(stream: StringIO) -> Console:
    """A terminal that reads markup unless what is printed forbids it."""
    return Console(file=stream, width=400, height=200, force_terminal=True, color_system=None)


def make_hostile(out: Path, task: str, model: str, variant: str) -> None:
    made = {variant: [0.8, 0.9], f"{variant} again": [0.5, 0.5], "tfidf": [0.6, 0.7]}
    make_study(out, made, task=task, model=model, out_of_domain={f"{task} far": -0.1}, failures={"ia3": f"no {task}"})
    for record in load_records(out):
        prompt = PromptNotes(label_words=[task, variant], label_word_tokens=[[1], [1, 2]])
        notes = Notes(fit=FitNotes(losses=[None]), prompt=prompt)
        timed = {"notes": notes, "phase_seconds": {"fit": 2.0}}
        write_record(out, record.model_copy(update=timed if record.status == "done" else {}))


def show_everything(out: Path) -> str:
    stream = StringIO()
    console, study = make_console(stream), analyse_folder(out)
    show_findings(console, study.findings, trials=True)
    show_leaderboard(console, study)
    show_profile(console, study.records)
    show_decisions(console, study.decisions, memory_limited=True)
    write_planned(out, {record.trial_id: record.trial.cell for record in study.records})
    watch_study(console, out, every=1.0, pause=lambda _: pytest.fail("looked again"))
    watched(console, study.records)
    return stream.getvalue()


def watched(console: Console, records: Any) -> None:
    """The listeners of a run, over trials of these records."""
    done = next(record for record in records if record.status == "done" and record.trial.model)
    failed = next(record for record in records if record.status == "failed")
    for listener in (LiveProgress, PlainProgress):
        jobs: list[Any] = [as_job(record) for record in (done, failed, done.model_copy(update={"trial_id": "third"}))]
        with listener(console, len(jobs), TimeLeft(jobs, 1, TimedTrials(), TimedTrials())) as shown:
            for job, record in zip(jobs[:2], (done, failed), strict=True):
                shown.started(job)
                shown.finished(job, record)
            shown.started(jobs[2])
            shown.progressed(jobs[2], Progress(f"fit {done.trial.task}"))


def as_job(record: Any) -> SimpleNamespace:
    axes = record.trial
    trial = SimpleNamespace(
        task=SimpleNamespace(label=axes.task),
        model=SimpleNamespace(name=axes.model),
        method=SimpleNamespace(variant=axes.variant, name=axes.method, settings={}),
        shots=axes.shots,
        data_seed=axes.data_seed,
        fit_seed=axes.fit_seed,
        pattern=None,
    )
    return SimpleNamespace(trial_id=record.trial_id, trial=trial, skip_reason=None)


@pytest.mark.parametrize("name", MARKUP)
def test_names_that_read_as_markup_are_shown_whole(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewtune.cli.progress.describe_axes", lambda trial: SimpleNamespace(cell=None))
    monkeypatch.setattr("fewtune.cli.progress.TimedTrials.guess", lambda *_: None)
    make_hostile(tmp_path, task=name, model=f"{name} model", variant=f"{name} method")
    text = show_everything(tmp_path)
    # Each table, line and list that names it, on a console that would read its markup.
    assert text.count(name) >= 40
    assert all(f"{name} {what}" in text for what in ("far", "model", "method again"))


@pytest.mark.parametrize("name", MARKUP)
def test_a_live_row_of_a_finished_trial_is_whole(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewtune.cli.progress.describe_axes", lambda trial: SimpleNamespace(cell=None))
    [failed] = make_study(tmp_path, {}, task=name, failures={"lora": f"no {name}"})
    stream, job = StringIO(), as_job(failed)
    with LiveProgress(make_console(stream), 1, TimeLeft([job], 1, TimedTrials(), TimedTrials())) as shown:
        shown.started(job)
        shown.finished(job, failed)
    last = stream.getvalue()
    assert f"{name} tiny-model lora, 16 shots" in last and f"failed: no {name}" in last


@pytest.mark.parametrize("kind", [LiveProgress, PlainProgress])
def test_what_trials_find_out_that_they_must_be_skipped_for_is_told_once(
    tmp_path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewtune.cli.progress.describe_axes", lambda trial: SimpleNamespace(cell=None))
    records = [
        record.model_copy(update={"status": "skipped", "trial_id": f"trial {place}"})
        for place, record in enumerate(make_study(tmp_path, {}, failures={"lora": "label words collide"}) * 3)
    ]
    stream, jobs = StringIO(), [as_job(record) for record in records]
    with kind(make_console(stream), 3, TimeLeft(jobs, 1, TimedTrials(), TimedTrials())) as shown:
        for job, record in zip(jobs, records, strict=True):
            shown.started(job)
            shown.finished(job, record)
    last = stream.getvalue().rpartition("loss")[2] if kind is LiveProgress else stream.getvalue()
    assert last.count("label words collide") == 1


@pytest.mark.parametrize("name", ESCAPES, ids=ascii)
def test_control_characters_never_reach_a_terminal(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewtune.cli.progress.describe_axes", lambda trial: SimpleNamespace(cell=None))
    monkeypatch.setattr("fewtune.cli.progress.TimedTrials.guess", lambda *_: None)
    make_hostile(tmp_path, task=name, model=f"{name} model", variant=f"{name} method")
    plain = tmp_path / "plain"
    make_hostile(plain, task="word", model="word model", variant="word method")
    text, usual = show_everything(tmp_path), show_everything(plain)
    assert make_safe(name) in text and name not in text
    own = {letter for letter in usual if not letter.isprintable()}  # what moves a live table's cursor
    assert {letter for letter in text if not letter.isprintable()} <= own
    assert "\x1b[31m" not in text and "\x1b]" not in text


def test_only_one_module_makes_texts_and_consoles() -> None:
    """Elsewhere a text that is not written in the source itself goes through `make_text`."""
    for path in SOURCE.rglob("*.py"):
        if path.name == "terminal.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                constant = all(isinstance(argument, ast.Constant) for argument in node.args)
                assert name not in ("Console", "Panel", "Text.from_markup", "Text.from_ansi"), f"{path}: {name}"
                assert name != "Text" or constant, f"{path}:{node.lineno}: use make_text"
                if name == "Text.assemble":
                    made = ("make_text(", "make_message(")
                    assert all(isinstance(part, ast.Tuple) or ast.unparse(part).startswith(made) for part in node.args)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no folder: `fewtune run` writes one (`--out`).", "no folder: 'fewtune run' writes one ('--out')."),
        ("`report`, `audit` and `watch` do", "'report', 'audit' and 'watch' do"),
        ("`--set 'shots=[4]'` asks", "\"--set 'shots=[4]'\" asks"),
        ("a column named it`s, and another`s", "a column named it`s, and another`s"),
        ("one ` alone", "one ` alone"),
        ("\x1b[31m `red`", "\\x1b[31m 'red'"),
    ],
)
def test_a_message_shows_commands_in_quotes_and_no_markup(message: str, shown: str) -> None:
    assert make_message(message).plain == shown


def test_what_is_said_and_what_is_complained_of_shows_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from command_line import run_cli

    _, _, told = run_cli("report", tmp_path, capsys=capsys)
    assert "'fewtune run'" in told and "`" not in told
    make_study(tmp_path, {"pattern": [0.8, 0.9], "majority": [0.5, 0.5]})
    planned = {record.trial_id: record.trial.cell for record in load_records(tmp_path)}
    write_planned(tmp_path, {**planned, "more": Cell(task="t", model=None, variant="tfidf", shots=4)})
    _, told, _ = run_cli("report", tmp_path, capsys=capsys)
    assert "'fewtune run'" in told and "`" not in told


def test_a_text_keeps_its_lines_and_letters() -> None:
    assert make_text("naïve 東京 👩‍👩‍👧\n\tsecond").plain == "naïve 東京 👩‍👩‍👧\n\tsecond"
    assert make_safe("a\x00b\x7f\ud800\u2028") == "a\\x00b\\x7f\\ud800\\u2028"


def test_a_page_and_its_pictures_hold_no_control_characters(tmp_path: Path) -> None:
    names = ("\x1b[31mred", "nul\x00", "\u202eevil", "<script>alert(1)</script>", "a]]>b&c")
    for name in names:
        make_hostile(tmp_path, task="".join(names), model="m", variant=name)
    study = analyse_folder(tmp_path)
    page = render_page(study)
    assert "\x1b" not in page and "\x00" not in page and "\u202e" not in page and "<script>alert" not in page
    for chart in draw_group(study.groups[0]):
        shown = " ".join(ElementTree.fromstring(export_svg(chart.specification)).itertext())
        assert all(make_safe(name) in shown for name in names)


FORMULAS = ('=HYPERLINK("http://x","y")', "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1")


@pytest.mark.parametrize("name", FORMULAS, ids=ascii)
def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path, name: str) -> None:
    made = {name: [0.4, 0.3], "lora": [0.8, 0.9]}
    make_study(tmp_path, made, task=name, model=name, out_of_domain={name: -0.1}, metric="mcc")
    rows = list(csv.DictReader(StringIO(write_csv(analyse_folder(tmp_path)))))
    assert len(rows) == 4
    texts = ("task", "model", "variant", "method", "test_set", "metric", "leader", "answer_of_leader")
    for row in rows:
        assert not any(row[column].startswith(("=", "+", "-", "@", "\t", "\r", "＝")) for column in texts)
        assert row["task"].lstrip("'") == make_safe(name)
    assert min(float(row["mean"]) for row in rows) < -0.2, "a number below 0 stands as it is"


def test_papers_and_notes_show_names_as_they_stand(tmp_path: Path) -> None:
    name = "a_b & ~c~ $d$ &lt; [x](http://y) \x1b[0m"
    make_study(tmp_path, {name: [0.8, 0.9]}, task=name)
    (tmp_path / "study.yaml").write_text('name: "# <b>x</b> \\x1b"\n')
    study = analyse_folder(tmp_path)
    markdown, latex = write_markdown(study), write_latex(study)
    assert markdown.startswith("# \\# \\<b\\>x\\</b\\> \\\\x1b\n")
    assert "\\&lt;" in markdown and "]\\(http" in markdown and "\\~c\\~" in markdown
    assert r"a\_b \& \textasciitilde{}c\textasciitilde{} \$d\$ \&lt;" in latex
    assert "\x1b" not in markdown + latex


def test_figures_of_like_names_are_files_of_their_own(tmp_path: Path) -> None:
    from fewtune.report.figures import write_figures

    for task in ("a/b", "a:b"):
        make_study(tmp_path, {"majority": [0.8]}, task=task)
    written = write_figures(analyse_folder(tmp_path), tmp_path / "figures")
    assert len(set(written)) == len(written) and all(path.is_file() for path in written)


ENCODINGS = (
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "latin-1"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda e: "-".join(e.values()))
def test_a_terminal_of_few_letters_shows_what_it_can(tmp_path: Path, encoding: dict[str, str]) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.9], "日本": [0.7, 0.7]}, task="näive", labels=("bäd", "良い"))
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in load_records(tmp_path)})
    script = f"""
import sys
import pytest
from fewtune.cli import main
from no_charts import leave_charts_out
leave_charts_out(pytest.MonkeyPatch())
for given in (["report"], ["audit"], ["recommend"], ["watch"], ["report", "--profile"], ["report", "--format", "csv"]):
    try:
        main([*given, {str(tmp_path)!r}])
    except SystemExit as end:
        assert end.code in (0, 1), (given, end.code)
try:
    main(["report", "/n\\xf6/such"])
except SystemExit as end:
    assert end.code == 2, end.code
"""
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG"))}, **encoding}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, timeout=100)
    assert done.returncode == 0, done.stderr.decode("latin-1")
    assert b"pattern" in done.stdout and b"Traceback" not in done.stderr
    assert "näive,tiny-model,16,日本".encode() in done.stdout, "what is exported is UTF-8"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "näive" in page and "日本" in page


def test_labels_with_escapes_stay_out_of_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fewtune.cli import main

    [record] = make_study(tmp_path, {"pattern": [0.8]})
    table = load_predictions(tmp_path, record.trial_id).with_columns(predicted=pl.lit("\x1b[31m[/b]"))
    write_record(tmp_path, record, table)
    with pytest.raises(SystemExit) as end:
        main(["report", str(tmp_path)])
    told = capsys.readouterr().err
    assert end.value.code == 2 and "\x1b" not in told and "[/b]" in told
