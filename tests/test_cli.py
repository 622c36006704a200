"""What a user types, and what comes back: one clear message and exit code 2 for every mistake."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from command_line import run_cli
from fewtune.cli.app import app
from fewtune.cli.progress import PlainProgress
from fewtune.methods import METHODS
from fewtune.records import load_records
from fewtune.running import output_folder
from fewtune.study import study_schema
from fewtune.study.describe import describe_settings
from fewtune.study.settings import build_settings, find_settings
from fewtune.tasks import TASKS

pytestmark = pytest.mark.usefixtures("no_charts")

ROOT = Path(__file__).parent.parent


@pytest.mark.usefixtures("no_workers")
def test_run_report_and_run_again(small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    code, told, _ = run_cli("run", small_study, "--out", out, capsys=capsys)
    assert code == 0
    assert "[1/1] own_files majority, 4 shots draw 0: accuracy" in told
    assert (out / "report.html").is_file() and (out / "study.yaml").is_file()
    before = (out / "trials").iterdir().__next__().stat().st_mtime_ns
    code, told, _ = run_cli("run", small_study, "--out", out, capsys=capsys)
    assert code == 0 and "1 trial, 1 already done" in told
    assert (out / "trials").iterdir().__next__().stat().st_mtime_ns == before
    code, told, _ = run_cli("report", out, capsys=capsys)
    assert code == 0 and "majority" in told
    events = [json.loads(line)["event"] for line in (out / "events.jsonl").read_text().splitlines()]
    assert events == ["run", "started", "finished", "run"]


@pytest.mark.usefixtures("no_workers")
def test_a_study_that_races_by_itself_keeps_its_draws_and_takes_another_tolerance(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small_study.write_text(small_study.read_text() + "until: {within: 0.01, most_draws: 3}\n")
    out = tmp_path / "out"
    code, _, _ = run_cli("run", small_study, "--out", out, "--until", "decided", "--within", "0.05", capsys=capsys)
    kept = yaml.safe_load((out / "study.yaml").read_text())
    assert code == 0 and kept["until"] == {"most_draws": 3} and kept["within"] == 0.05
    assert len(load_records(out)) == 3


@pytest.mark.usefixtures("no_workers")
def test_where_the_time_went_is_told_on_request(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code, told, _ = run_cli("run", small_study, "--out", out, "--profile", capsys=capsys)
    table = told.split("Where the time went")[1]
    assert code == 0 and "1 trial " in table and "workers" in table and "wall time" in table
    told = run_cli("run", small_study, "--out", out, capsys=capsys)[1]
    assert "Where the time went" not in told
    for again in (("run", small_study, "--out", out), ("report", out)):
        table = run_cli(*again, "--profile", capsys=capsys)[1].split("Where the time went")[1]
        assert "1 trial " in table and "workers" not in table, "what the earlier run took besides is not known"
    more = ("run", small_study, "--out", out, "--set", "shots=[4, 6]", "--profile")
    table = run_cli(*more, capsys=capsys)[1].split("Where the time went")[1]
    assert "1 trial was done before this run" in " ".join(table.split())


@pytest.mark.usefixtures("no_workers")
def test_a_study_may_grow_in_its_folder_but_not_become_another(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run_cli("run", small_study, "--out", out, capsys=capsys)[0] == 0
    kept = (out / "study.yaml").read_bytes()
    code, _, told = run_cli("run", small_study, "--out", out, "--set", "shots=[6]", capsys=capsys)
    assert code == 2
    assert "holds another study ('small'; it differs in shots)" in told and "--out" in told
    assert (out / "study.yaml").read_bytes() == kept and len(load_records(out)) == 1
    code, told, _ = run_cli("run", small_study, "--out", out, "--set", "shots=[4, 6]", capsys=capsys)
    assert code == 0 and "2 trials, 1 already done" in told


def test_a_folder_with_other_things_is_left_alone(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, _, told = run_cli("run", small_study, "--out", tmp_path / "mine", capsys=capsys)
    assert code == 2 and "is not empty and holds no study" in told
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_every_fault_is_told_at_once_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "name: bad\nmodels: [smollm2-135m]\ntasks: [sentimnt]\nmethods:\n  - lora: {rnak: 8}\n  - vanila\n"
        "shots: [0]\nmetrics: [acuracy]\nseeds: [1]\n"
    )
    code, out, told = run_cli("check", path, capsys=capsys)
    assert code == 2 and out == "" and "Traceback" not in told
    assert told.count("line ") == 6
    for part in (
        "line 3: unknown task 'sentimnt'. Did you mean 'sentiment'?",
        "'rnak'",
        "'rank'",
        "line 6: unknown method 'vanila'. Did you mean 'vanilla'?",
        "line 7:",
        "'acuracy'. Did you mean 'accuracy'?",
        "line 9:",
    ):
        assert part in told, told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "no-such.yaml"), "no-such.yaml"),
        (("report", "."), "no 'trials' folder here"),
        (("run", "studies/demo.yaml", "--workers", "0"), "--workers is 0"),
        (("run", "studies/demo.yaml", "--workers", "9" * 400), f"--workers is {'9' * 77}...; give 1 to 1024."),
        (("run", "studies/demo.yaml", "--cache-share", "1.5"), "--cache-share is 1.5"),
        (("run", "studies/demo.yaml", "--stall-after", "0"), "--stall-after is 0"),
        (("run", "studies/demo.yaml", "--stall-after", "nan"), "--stall-after is nan"),
        (("run", "studies/demo.yaml", "--wrokers", "2"), "--wrokers"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    code, _, told = run_cli(*arguments, capsys=capsys)
    assert code == 2 and message in told and "Traceback" not in told


COMMANDS = [name for name in app if not name.startswith("-")]
MISTAKES = {
    ("list",): "list needs WHAT: give methods, tasks or models.",
    ("fit",): "fit needs --save: new folder for the model.",
    ("predict", "model"): "predict needs ROWS: the rows: CSV, TSV, JSON Lines or Parquet",
    ("fit", "rows.csv", "--save"): "--save is given without a value",
    ("fit", "rows.csv", "--save", "a", "--save", "b"): "--save is given twice; give it once.",
    ("fit", "rows.csv", "--save", "a", "--folds", "few"): "--folds is 'few'; give a whole number.",
    (
        "fit",
        "rows.csv",
        "--save",
        "a",
        "--empty-text",
    ): "unknown option '--empty-text'. Did you mean '--text'? Allowed: ",
    ("run", "study.yaml", "--workers", "many"): "--workers is 'many'; give a whole number or auto.",
    ("run", "study.yaml", "more.yaml"): "run has no use for 'more.yaml'.",
    ("report", "out", "--format", "xml"): "--format is 'xml'; give html, json, csv, markdown or latex.",
    ("audit", "--majority", "most"): "--majority is 'most'; give a number.",
    ("auditt",): "unknown command 'auditt'. Did you mean 'audit'? Allowed: audit, check",
    ("--verison",): "unknown option '--verison'. Did you mean '--version'?",
}


@pytest.mark.parametrize("arguments", [*MISTAKES, *((name, "--nonsense") for name in COMMANDS)], ids=" ".join)
def test_every_mistake_in_typing_a_command_is_a_line_like_all_other_messages(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, told = run_cli(*arguments, capsys=capsys)
    assert (code, out) == (2, "")
    assert told.startswith(f"fewtune: {MISTAKES.get(arguments, 'unknown option ')}")
    assert told.count("\n") == 1 and told.isascii(), "one line, in no box"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_what_can_be_typed_and_nothing_else(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fewtune.cli.output.console.width", 80)
    code, told, _ = run_cli(*command.split(), "--help", capsys=capsys)
    assert code == 0 and max(map(len, told.splitlines())) <= 80
    for artefact in ("--empty-", "--no-", "default: False", "[ARGS]", "`"):
        assert artefact not in told, told
    named = re.findall(r"^[│ *]*([A-Z]+) +--([a-z]+) ", told, re.MULTILINE)
    assert not [place for place, option in named if place.lower() == option], "what is given by its place is no option"


def test_check_shows_data_patterns_and_trials(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = run_cli("check", study_file, capsys=capsys)
    assert code == 0
    assert "training rows; test rows: in_domain" in told and "labels: bad, good" in told
    assert "pattern" in told and "nothing wrong" in told


SKIPS = "methods=[majority, bitfit, {bitfit: {as: mine, epochs: 2}}]"
"""On a model without biases: two of three methods have nothing to train."""


def test_check_tells_what_would_be_skipped_first_and_counts_trials_instead_of_listing_them(
    study_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("check", study_file, "--set", SKIPS, "--set", "data_seeds=[0, 1, 2]", "--set", "shots=[4, 8]")
    code, told, _ = run_cli(*asked, capsys=capsys)
    first, *others = told.splitlines()
    assert code == 0 and first.startswith("12 trials will be skipped (bitfit, mine on ")
    assert "): model type 'llama' has no biases" in first
    assert not [line for line in others if "no biases" in line], "once"
    rows = [line.split() for line in others]
    assert ["trials", "4", "shots", "8", "shots"] in rows and ["majority", "3", "3"] in rows
    assert ["mine", "3", "3", "skipped"] in rows
    assert others[-1].endswith("18 trials, 12 of them skipped, nothing wrong.")
    assert not re.search(r"\b[0-9a-f]{16}\b", told), "ids are for --verbose"
    told = run_cli(*asked, "--verbose", capsys=capsys)[1]
    assert len(re.findall(r"^[0-9a-f]{12,}  .*  draw [012]  fit 0$", told, re.MULTILINE)) == 18


@pytest.mark.usefixtures("no_workers")
def test_what_is_skipped_is_told_once_and_not_trial_by_trial(
    study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("run", study_file, "--out", tmp_path / "out", "--set", SKIPS, "--set", "data_seeds=[0, 1]")
    code, told, _ = run_cli(*asked, capsys=capsys)
    before, _, shown = told.partition("[1/2] ")
    assert code == 0
    assert before.count("no biases") == 1 and "4 trials will be skipped (bitfit, mine on " in before
    assert "6 trials, 0 already done, 4 skipped, in " in before
    running, _, report = shown.partition("Audit  ")
    assert "[2/2] " in running and "skipped" not in running
    assert report.count("no biases") == 1, "in the report as one reason too"
    assert Counter(record.status for record in load_records(tmp_path / "out")) == {"done": 2, "skipped": 4}


def test_check_says_which_patterns_are_constrained(small_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = " (constrained to what tells them apart)"
    derived = run_cli("check", small_study, capsys=capsys)[1]
    assert f"  pattern derived: '{{text}}\\nLabel:' + ' bad', ' good'{told}" in derived
    words = "patterns=[{name: mine, template: '{text} It is', label_words: [' bad', ' good']}]"
    given = run_cli("check", small_study, "--set", f"tasks.0.own_files.{words}", capsys=capsys)[1]
    assert "  pattern mine: '{text} It is' + ' bad', ' good'\n" in given


@pytest.mark.parametrize(("what", "name"), [("methods", "lora"), ("tasks", "mnli"), ("models", "smollm2-135m")])
def test_list_names_what_a_study_can_name(what: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = run_cli("list", what, capsys=capsys)
    assert code == 0 and name in told


def test_list_tells_a_methods_settings_their_defaults_and_what_each_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = run_cli("list", "methods", "lora", capsys=capsys)
    rank = next(line.split() for line in told.splitlines() if line.startswith("rank "))
    assert code == 0 and rank[:4] == ["rank", "8", "a", "whole"]
    assert run_cli("list", "methods", "majority", capsys=capsys)[:2] == (0, "majority has no settings.\n")
    assert "to be given" in run_cli("list", "tasks", "own_files", capsys=capsys)[1]
    assert "Did you mean 'lora'?" in run_cli("list", "methods", "lor", capsys=capsys)[2]
    code, _, refusal = run_cli("list", "models", "smollm2-135m", capsys=capsys)
    assert code == 2 and "a model has no settings" in refusal


@pytest.mark.parametrize(
    ("what", "name"), [*(("method", name) for name in METHODS), *(("task", name) for name in TASKS)]
)
def test_defaults_that_are_listed_are_those_that_hold(what: str, name: str) -> None:
    kind, listed = find_settings(what, name), describe_settings(what, name)
    needed = {"train": "rows.csv"} if name == "own_files" else {}
    held = {words.name: json.loads(words.default) for words in listed if words.default is not None}
    assert build_settings(kind, needed | held) == build_settings(kind, needed)
    assert {words.name for words in listed if words.default is None} == set(needed)
    assert all(words.meaning and words.values for words in listed)


def test_the_schema_beside_the_studies_is_up_to_date() -> None:
    kept = json.loads((ROOT / "studies" / "study.schema.json").read_text())
    assert kept == json.loads(json.dumps(study_schema())), "run `make schema`"


@pytest.mark.parametrize("arguments", [["-c", "import fewtune"], ["-m", "fewtune.cli", "--help"]])
def test_starting_imports_nothing_heavy(arguments: list[str]) -> None:
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=True, cwd=ROOT
    )
    imported = {line.rsplit("|", 1)[1].strip() for line in done.stderr.splitlines() if "|" in line}
    heavy = {"torch", "transformers", "numpy", "polars", "pydantic", "altair", "scipy", "sklearn", "datasets"}
    assert not imported & heavy


def test_checking_and_reporting_import_no_torch(study_file: Path) -> None:
    code = (
        "import sys; from fewtune.study import load_study; from fewtune.study.grid import list_trials; "
        f"list_trials(load_study({str(study_file)!r})); import fewtune.report.page, fewtune.running.executors.local; "
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.usefixtures("no_workers")
def test_a_folder_deleted_while_its_study_runs_ends_it_with_an_error(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    more = ("--out", out, "--set", "data_seeds=[0, 1, 2]")

    def delete_all(*_: object) -> None:
        shutil.rmtree(out)

    def delete_one(*_: object) -> None:
        for path in (out / "trials").iterdir():
            path.unlink()

    for delete, words in ((delete_all, "was deleted, moved or replaced"), (delete_one, "records are gone")):
        once = iter([delete])
        monkeypatch.setattr(PlainProgress, "finished", lambda *_, once=once: next(once, lambda: None)())
        code, _, told = run_cli("run", small_study, *more, capsys=capsys)
        assert code == 2 and words in told and "Traceback" not in told
        assert out.exists() == (delete is delete_one)


@pytest.mark.usefixtures("no_workers")
def test_a_disk_that_fills_up_ends_a_run_with_one_message_and_it_goes_on_where_there_is_room(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"needs to mount a tmpfs ({mounted.stderr.strip()}): run the tests as root")
    try:
        command = ("run", small_study, "--out", disk / "out", "--set", "data_seeds={count: 60}")
        code, _, told = run_cli(*command, capsys=capsys)
        assert code == 2, told
        assert "No space left on device" in told and str(disk / "out") in told
        assert "Traceback" not in told and told.count("fewtune:") == 1
        assert not list(disk.rglob("*.part"))
        lines = (disk / "out" / "events.jsonl").read_text().splitlines()
        assert all(json.loads(line)["event"] for line in lines)
        kept = load_records(disk / "out")
        assert kept and all(record.status == "done" for record in kept)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        code, told, _ = run_cli(*command, capsys=capsys)
        assert code == 0 and f"{len(kept)} already done" in told
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.usefixtures("no_workers")
def test_records_of_an_edited_file_do_not_count(
    small_study: Path, study_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = tmp_path / "mine.csv", tmp_path / "out"
    rows = (study_file.parent / "feelings.csv").read_text()
    data.write_text(rows)
    change = ("--set", f"tasks.0.own_files.train={data}", "--out", out)
    assert run_cli("run", small_study, *change, capsys=capsys)[0] == 0
    first = load_records(out)
    data.write_text(rows.replace("kettle", "teapot"))
    assert run_cli("run", small_study, *change, capsys=capsys)[0] == 0
    assert len(list((out / "trials").iterdir())) == 2
    second = load_records(out)
    assert len(first) == len(second) == 1 and first[0].trial_id != second[0].trial_id


@pytest.mark.usefixtures("no_workers")
def test_an_unfinished_study_says_so(small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run_cli("run", small_study, "--out", out, "--set", "data_seeds=[0, 1]", capsys=capsys)
    next((out / "trials").iterdir()).unlink()
    code, told, _ = run_cli("report", out, capsys=capsys)
    assert code == 0 and "Unfinished: 1 trial has not run yet: majority (1)" in told
    assert "Unfinished: 1 trial has" in (out / "report.html").read_text()


@pytest.mark.usefixtures("no_workers")
def test_damaged_files_are_told_and_run_again(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out [1]"
    assert run_cli("run", small_study, "--out", out, capsys=capsys)[0] == 0
    next((out / "predictions").iterdir()).write_bytes(b"")
    code, _, told = run_cli("report", out, capsys=capsys)
    assert code == 2 and "damaged predictions" in told
    code, told, _ = run_cli("run", small_study, "--out", out, capsys=capsys)
    assert code == 0 and "0 already done" in told
    next((out / "trials").iterdir()).write_text("{")
    assert run_cli("report", out, capsys=capsys)[0] == 2
    assert run_cli("run", small_study, "--out", out, capsys=capsys)[0] == 0


def test_what_cannot_be_written_or_would_be_overwritten_is_told(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    code, _, told = run_cli("run", small_study, "--out", tmp_path / "file" / "sub", capsys=capsys)
    assert code == 2 and "Not a directory" in told and "Traceback" not in told
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "study.yaml").write_bytes(small_study.read_bytes())
    code, _, told = run_cli("run", mine / "study.yaml", "--out", mine, capsys=capsys)
    assert code == 2 and "was not written by fewtune" in told
    assert (mine / "study.yaml").read_bytes() == small_study.read_bytes()
    code, _, told = run_cli("check", small_study, "--set", "name=../../evil", capsys=capsys)
    assert code == 2 and "'name'" in told


def test_an_unknown_pattern_is_told_before_anything_runs(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = run_cli("check", study_file, "--set", "methods.2.pattern.pattern=nope", capsys=capsys)
    assert code == 2 and "pattern: unknown pattern of feelings 'nope'" in told


@pytest.mark.usefixtures("no_workers")
def test_two_commands_cannot_run_trials_in_one_folder(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with FileLock(out / output_folder.LOCK):
        code, _, told = run_cli("run", small_study, "--out", out, capsys=capsys)
        assert code == 2 and f"another fewtune is running trials in {out}: wait for it" in " ".join(told.split())
        assert not (out / "study.yaml").exists()
    assert run_cli("run", small_study, "--out", out, capsys=capsys)[0] == 0


@pytest.mark.usefixtures("no_workers")
def test_a_forecast_names_each_kind_of_trial_and_what_all_take(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = ("--set", "methods=[majority, tfidf]", "--set", "data_seeds=[0, 1, 2]")
    (tmp_path / "none").mkdir()  # as a run that was killed before its first trial ended leaves one
    code, told, _ = run_cli("check", small_study, *change, "--forecast", "--out", tmp_path / "none", capsys=capsys)
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert code == 0 and not list((tmp_path / "none").iterdir())
    assert "forecast trials a trial memory disk known from" in lines
    assert [line.split()[:2] for line in lines if line.endswith("an excerpt")] == [["majority", "3"], ["tfidf", "3"]]
    assert lines[-1].startswith("6 trials: about ") and lines[-1].endswith("of disk.")
    code, told, _ = run_cli("run", small_study, *change, "--forecast", "--out", tmp_path / "out", capsys=capsys)
    assert code == 0 and told.index("measuring tfidf") < told.index("6 trials: about") < told.index("[1/6]")
    _, told, _ = run_cli("check", small_study, *change, "--forecast", "--out", tmp_path / "out", capsys=capsys)
    assert told.strip().endswith("Forecast: no trial waits.")
    other = (*change[:1], "methods=[majority, tfidf: {longest_phrase: 1}]", *change[2:])
    _, told, _ = run_cli("check", small_study, *other, "--forecast", "--out", tmp_path / "out", capsys=capsys)
    known = [line.split() for line in told.splitlines() if line.rstrip().endswith(("an excerpt", "its records"))]
    assert [(words[0], words[-1]) for words in known] == [("tfidf", "excerpt")], "other settings foretell nothing"
    planned = json.loads((tmp_path / "out" / "planned.json").read_text())
    others = {f"{number:016x}": cell for number, cell in enumerate(planned.values())}
    (tmp_path / "out" / "planned.json").write_text(json.dumps(others))  # as where data changed since its trials ran
    code, told, _ = run_cli("check", small_study, *change, "--forecast", "--out", tmp_path / "out", capsys=capsys)
    assert code == 0 and "6 trials: about " in told


def test_a_library_that_cannot_be_loaded_is_told_in_a_message(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_it(*_: object) -> None:
        raise ImportError("libgomp.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("fewtune.study.load_study", import_it)
    code, _, told = run_cli("run", small_study, "--out", tmp_path / "out", capsys=capsys)
    assert code == 2 and told.startswith("fewtune: a library cannot be loaded (libgomp.so.1: cannot open shared object")


def test_too_little_memory_for_the_command_itself_is_told_in_a_message(
    small_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_it(*_: object) -> None:
        try:
            raise ImportError("libc10.so: cannot map zero-fill pages")
        except ImportError as error:  # as Transformers does
            raise ModuleNotFoundError("Could not import module 'AutoConfig'.") from error

    monkeypatch.setattr("fewtune.study.load_study", import_it)
    code, _, told = run_cli("run", small_study, "--out", tmp_path / "out", capsys=capsys)
    assert (code, told) == (2, "fewtune: memory did not suffice for this command itself. What was finished is kept.\n")
