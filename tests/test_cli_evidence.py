"""The commands that read a study: audit, recommend, report in its formats, watch; and what they refuse."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from command_line import run_cli
from fewtune.errors import FewtuneError
from fewtune.records import Notes, PromptNotes, load_records, write_planned, write_record
from fewtune.report.results import read_result
from fewtune.system.sizes import parse_bytes
from study_maker import make_study

pytestmark = pytest.mark.usefixtures("no_charts")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    make_study(tmp_path, {"pattern": [0.84, 0.86, 0.82], "lora": [0.6, 0.7, 0.65]}, out_of_domain={"yelp": -0.1})
    return tmp_path


@pytest.fixture
def faulty_study(study: Path) -> Path:
    for record in load_records(study):
        write_record(
            study, record.model_copy(update={"notes": Notes(prompt=PromptNotes(label_word_tokens=[[1], [1]]))})
        )
    return study


def test_a_sound_study_passes_the_audit(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = run_cli("audit", study, "--strict", capsys=capsys)
    assert code == 0
    assert "nothing found by" in told


@pytest.mark.parametrize("command", ["audit", "report"])
def test_errors_are_told_first_and_strict_ends_with_1(
    faulty_study: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    code, told, _ = run_cli(command, faulty_study, capsys=capsys)
    assert code == 0
    assert told.startswith("Audit  2 errors.")
    assert "cannot be told apart" in " ".join(told.split())
    assert run_cli(command, faulty_study, "--strict", capsys=capsys)[0] == 1


def test_the_audit_names_its_trials(faulty_study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run_cli("audit", faulty_study, capsys=capsys)[1]
    assert all(record.trial_id in told for record in load_records(faulty_study))


def test_anyones_table_is_audited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "results.csv"
    table.write_text("method,shots,seed,accuracy\n" + "".join(f"pbft,16,{seed},0.5273\n" for seed in range(10)))
    code, told, _ = run_cli("audit", "--table", table, "--majority", "0.691", "--strict", capsys=capsys)
    assert code == 1
    assert "10 runs have 1 distinct result" in " ".join(told.split())
    assert "at the majority" in told


def test_rules_that_a_table_cannot_answer_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "results.csv"
    table.write_text("method,seed,accuracy\na,0,0.71\na,1,0.72\n")
    told = run_cli("audit", "--table", table, capsys=capsys)[1]
    assert "nothing found by 4 rules." in told
    assert "4 of 6 rules asked; not asked: at the majority, which needs a column majority (or --majority);" in told


def test_how_cells_of_a_table_were_read_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "results.csv"
    table.write_text("approach;Top-1 (%);F1\na;50.2 ± 0.4;0,71\nb;81.3 ± 1.1;0,79\n")
    asked = ("--column", "score=Top-1 (%)", "--column", "method=approach", "--majority", "0.509")
    told = " ".join(run_cli("audit", "--table", table, *asked, capsys=capsys)[1].split())
    assert "column Top-1 (%): in cells such as 50.2 ± 0.4 the mean is the score; the spread says" in told
    assert "column F1: the comma in 0,71 is read as a decimal one." in told
    assert "at the majority" in told and "Top-1 (%) 50.9: a 50.2" in told and "single draw" not in told


def test_a_table_may_come_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"method,accuracy\na,0.5273\na,0.5273\na,0.5273\n")))
    assert "3 runs have 1 distinct result" in " ".join(run_cli("audit", "--table", "-", capsys=capsys)[1].split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("audit",), "give either a folder"),
        (("audit", "OUT", "--table", "x.csv"), "give either a folder"),
        (("audit", "OUT", "--majority", "0.5"), "--majority goes with --table"),
        (("audit", "--table", "missing.csv"), "not a readable CSV file"),
        (
            ("audit", "--table", "x.csv", "--column", "score=Top-1", "--column", "score=Top-5"),
            "--column says what is read as 'score' more than once",
        ),
        (
            ("audit", "--table", "x.csv", "--column", "score=Top-1", "--column", "method=Top-1"),
            "--column names 'Top-1' more than once",
        ),
        (("recommend", "OUT", "--queries", "-1"), "--queries is -1"),
        (("recommend", "OUT", "--within", "nan"), "--within is nan; give a number from 0 to below 1"),
        (("recommend", "OUT", "--within", "3"), "--within is 3; give a number from 0 to below 1 (0.03: three points)."),
        (("recommend", "OUT", "--max-memory", "2 GiBB"), "--max-memory is '2 GiBB'"),
        (("recommend", "OUT", "--max-memory", "0"), "--max-memory is '0'; give a number of bytes above 0"),
        (("recommend", "OUT", "--max-fit-seconds", "nan"), "--max-fit-seconds is nan; give seconds above 0."),
        (("recommend", "OUT", "--max-fit-seconds", "-5"), "--max-fit-seconds is -5; give seconds above 0."),
        (("recommend", "OUT", "--max-latency", "0"), "--max-latency is 0; give seconds above 0."),
        (("recommend", "OUT", "--out-of-domain-weight", "3"), "--out-of-domain-weight is 3"),
        (("watch", "OUT", "--every", "0"), "--every is 0"),
        (("watch", "OUT", "--every", "nan"), "--every is nan"),
        (("watch", "OUT", "--every", "1e300"), "--every is 1e+300; give seconds above 0, 86400 at most."),
        (("recommend", "OUT", "--queries", "9" * 400), f"--queries is {'9' * 77}...; give 0 to 1000000000000000."),
        (("recommend", "OUT", "--max-memory", "9" * 400 + "GiB"), f"--max-memory is '{'9' * 77}...'; give a number"),
        (("watch", "OUT"), "no study was started here"),
    ],
)
def test_mistakes_are_told_and_end_with_2(
    study: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    given = [str(study) if argument == "OUT" else argument for argument in arguments]
    code, _, told = run_cli(*given, capsys=capsys)
    assert code == 2
    assert words in told


def test_a_recommendation_has_its_evidence_and_its_risk(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = run_cli("recommend", study, "--max-memory", "2GiB", "--out-of-domain-weight", "0.3", capsys=capsys)
    told = " ".join(told.split())
    assert code == 0
    assert "Use pattern: expected to lose 0.1 points to the best of these 2 methods" in told
    assert "points over always answering the majority class" in told
    code, told, _ = run_cli("recommend", study, "--within", "0.4", "--guarantee", "bound", capsys=capsys)
    assert "Use lora: expected to lose 19." in told, "a cheaper one will do where so much may be lost"


def test_a_recommendation_from_a_faulty_study_opens_with_its_errors(
    faulty_study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("recommend", faulty_study, capsys=capsys)[1].startswith("Audit  2 errors.")


def test_reports_come_in_every_format_and_as_figures(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told, errors = run_cli("report", study, "--format", "json", "--figures", tmp_path / "figures", capsys=capsys)
    assert code == 0
    assert json.loads(told)["groups"][0]["verdict"]["leader"] == "pattern"
    assert "figures: 12 files" in errors and len(list((tmp_path / "figures").iterdir())) == 12
    assert run_cli("report", study, "--format", "csv", capsys=capsys)[1].startswith("task,model,shots,")
    assert "| pattern |" in run_cli("report", study, "--format", "markdown", capsys=capsys)[1]
    assert r"\toprule" in run_cli("report", study, "--format", "latex", capsys=capsys)[1]


def test_what_a_format_has_no_room_for_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, errors = run_cli("report", study, "--format", "json", "--against", "paper", capsys=capsys)
    assert code == 2
    assert "--format json holds the study alone: give --against and --profile without it." in errors


def test_a_recommendation_from_an_unfinished_study_says_so(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned = {record.trial_id: record.trial.cell for record in load_records(study)}
    lora = next(cell for cell in planned.values() if cell.variant == "lora")
    write_planned(study, {**planned, "0" * 16: lora})
    code, told, _ = run_cli("recommend", study, capsys=capsys)
    assert code == 0
    assert "Unfinished: 1 trial has not run yet: lora (1)." in told


def test_every_report_says_the_one_decision(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sentence = "Use pattern: expected to lose "
    told = [
        run_cli("recommend", study, capsys=capsys)[1],
        run_cli("report", study, capsys=capsys)[1],
        (study / "report.html").read_text(),
        json.loads(run_cli("report", study, "--format", "json", capsys=capsys)[1])["decisions"][0]["sentence"],
        run_cli("report", study, "--format", "markdown", capsys=capsys)[1],
    ]
    assert all(sentence in " ".join(each.split()) for each in told)
    decision = read_result(study).decision
    assert decision.choice is not None and decision.choice.name == "pattern" and decision.regret == 0.0


def test_what_may_be_lost_is_the_studys_to_say(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "study.yaml").write_text("name: lenient\nwithin: 0.5\nguarantee: bound\n")
    assert "Use lora: expected to lose 1" in run_cli("recommend", study, capsys=capsys)[1]
    (study / "study.yaml").write_text("name: edited\nwithin: 50\n")
    code, _, errors = run_cli("recommend", study, capsys=capsys)
    assert code == 2 and errors.startswith(f"fewtune: {study / 'study.yaml'}: 'within' is 50; give a number from 0")


def test_what_does_not_matter_is_the_studys_to_say(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "study.yaml").write_text("name: lenient\nequivalence: 0.5\n")
    code, told, _ = run_cli("report", study, capsys=capsys)
    assert code == 0
    assert "tie with lora, within 50 points (" in " ".join(told.split())
    assert "within ±50 points" in (study / "report.html").read_text()


@pytest.mark.parametrize("given", ["banana", "-5", "90", ".nan", "true", "[0.1]"])
def test_an_equivalence_that_is_no_difference_of_scores_is_refused(
    study: Path, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    (study / "study.yaml").write_text(f"name: edited\nequivalence: {given}\n")
    code, _, errors = run_cli("report", study, capsys=capsys)
    assert code == 2
    assert errors.count("\n") == 1
    assert errors.startswith(f"fewtune: {study / 'study.yaml'}: 'equivalence' is ")


def test_figures_into_a_file_are_refused(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ff").touch()
    code, _, errors = run_cli("report", study, "--figures", tmp_path / "ff", capsys=capsys)
    assert code == 2
    assert f"{tmp_path / 'ff'} is a file; --figures needs a folder." in errors


def test_help_keeps_what_stands_in_angle_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    assert "out/<study name>" in run_cli("run", "--help", capsys=capsys)[1]


def test_a_missing_library_is_named_with_how_to_get_it(
    study_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    code, _, errors = run_cli("check", study_file, capsys=capsys)
    assert code == 2
    assert "transformers is not installed, and this command needs it: pip install 'fewtune[run]'" in errors


def test_a_finished_study_is_watched_at_once(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_planned(study, {record.trial_id: record.trial.cell for record in load_records(study)})
    code, told, _ = run_cli("watch", study, capsys=capsys)
    assert code == 0
    assert "6 of 6 trials: 6 done" in told


def test_memory_is_told_in_the_units_people_use() -> None:
    assert [parse_bytes("--max-memory", text) for text in ("1500", "2kB", "1.5 GiB", "900MiB")] == [
        1500,
        2000,
        1_610_612_736,
        943_718_400,
    ]
    with pytest.raises(FewtuneError, match="unit: kB, MB, GB, KiB, MiB, GiB"):
        parse_bytes("--max-memory", "many")
