"""Records, predictions and studies that someone edited: one message that names the file, never a wrong figure."""

from __future__ import annotations

import copy
import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from command_line import call, run_cli
from fewtune.analysis.recommend import CostBudget, DecisionTerms, recommend
from fewtune.analysis.study import StudyAnalysis, analyse_folder
from fewtune.errors import RecordError
from fewtune.records import (
    Checkpoint,
    Notes,
    Record,
    load_predictions,
    load_records,
    predictions_path,
    record_path,
    write_planned,
    write_record,
)
from fewtune.report import page
from fewtune.report.advice import show_decisions
from fewtune.report.against import show_against
from fewtune.report.export import FORMATS
from fewtune.report.findings import show_findings
from fewtune.report.look import WIDE
from fewtune.report.page import render_page
from fewtune.report.profile import show_profile
from fewtune.report.tables import show_leaderboard
from fewtune.report.watch import watch_study
from scripted_races import run_race
from study_maker import make_study

NOTES = Notes.model_validate(
    {
        "fit": {
            "losses": [0.7, 0.3],
            "groups": [
                {"name": "block 0", "tensors": 2, "parameters": 10, "peak_learning_rate": 1e-4, "rates": [1e-4]},
                {"name": "adapter", "tensors": 2, "parameters": 10, "peak_learning_rate": 1e-5, "rates": [1e-5]},
            ],
        },
        "tuning": {
            "chosen": {"epochs": 2},
            "tried": [{"settings": {"epochs": 2}, "score": 0.5}],
            "folds": 2,
            "metric": "accuracy",
            "seconds": 3.0,
        },
        "prompt": {
            "label_words": [" bad", " good"],
            "label_word_tokens": [[4], [9, 2]],
            "splits_cleanly": True,
            "cut": {"rows": 3, "tokens": 5},
        },
        "references": {
            "teacher": {"metrics": {"in_domain": {"accuracy": 0.8}}, "agreement": {"in_domain": 0.9}},
            "untaught_student": {"metrics": {"in_domain": {"accuracy": 0.7}}},
        },
        "shared_rows": [{"sets": ["train", "in_domain"], "rows": 2, "exact": 1, "example": ["a", "b"]}],
        "demonstrations": {"rows": ["x"], "log_prior": [0.0, 0.0]},
        "teacher": {"model": "m", "contexts": [["y"]], "cut": {"rows": 1}},
    }
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A study of two draws that has something for every table and rule."""
    for shots in (8, 16):
        make_study(
            tmp_path,
            {"lora": [0.8, 0.7], "tfidf": [0.6, 0.5]},
            out_of_domain={"far": -0.1},
            heuristics=("overlap",),
            failures={"ia3": "no"},
            rows=20,
            shots=shots,
        )
    for record in load_records(tmp_path):
        if record.trial.variant == "lora":
            write_record(tmp_path, furnish(record))
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in load_records(tmp_path)})
    (tmp_path / "study.yaml").write_text("name: edited\nmetrics: [accuracy]\ntasks: [sentiment]\nequivalence: 0.01\n")
    return tmp_path


def furnish(record: Record) -> Record:
    return record.model_copy(
        update={
            "notes": NOTES,
            "checkpoints": [Checkpoint(epoch=1, metrics=record.metrics)],
            "environment": {"workers": 2, "processor": "p", "cores": 4},
            "phase_seconds": {"fit": 2.0, "score": 1.0},
        }
    )


def show_all(out: Path, monkeypatch: pytest.MonkeyPatch) -> StudyAnalysis:
    """Everything that `report`, `audit`, `recommend` and `watch` show; charts are specified for one room, not drawn."""
    monkeypatch.setattr(page, "ROOMS", (WIDE,))
    monkeypatch.setattr(page, "open_drawing", lambda _: ThreadPoolExecutor(1))
    monkeypatch.setattr(page, "embed_chart", lambda *_: "")
    console = Console(file=StringIO(), width=100)
    study = analyse_folder(out)
    show_findings(console, study.findings, trials=True)
    show_leaderboard(console, study)
    show_profile(console, study.records)
    show_against(console, out, "paper")
    for write in FORMATS.values():
        write(study)
    render_page(study)
    boards = [group.board for group in study.groups]
    for budget in (CostBudget(), CostBudget(max_memory_bytes=1, out_of_domain_weight=0.5)):
        show_decisions(console, recommend(boards, study.records, study.reader, DecisionTerms(budget=budget)))
    watch_study(console, out, every=1.0, pause=lambda _: pytest.fail("looked again"))
    return study


def test_the_study_itself_is_shown(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(show_all(out, monkeypatch).groups) == 2


def lora_of(out: Path) -> Path:
    record = next(r for r in load_records(out) if r.trial.variant == "lora")
    return record_path(out, record.trial_id)


def edit(path: Path, place: tuple[str | int, ...], value: Any) -> None:
    raw = json.loads(path.read_text())
    inner = raw
    for step in place[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    path.write_text(json.dumps(raw))


EDITS: list[tuple[tuple[str | int, ...], Any, str]] = [
    (("notes", "fit", "losses"), "x", "notes.fit.losses"),
    (("notes", "fit", "losses"), ["0.3"], "notes.fit.losses.0"),
    (("notes", "prompt", "label_words"), 3, "notes.prompt.label_words"),
    (("notes", "prompt", "label_words", 0), 3, "notes.prompt.label_words.0"),
    (("notes", "prompt", "label_word_tokens"), [4, 9], "notes.prompt.label_word_tokens.0"),
    (("notes", "fit", "groups", 0, "peak_learning_rate"), "fast", "notes.fit.groups.0.peak_learning_rate"),
    (("notes", "fit", "groups", 0, "name"), ..., "notes.fit.groups.0.name"),
    (("notes", "tuning", "seconds"), -1, "notes.tuning.seconds"),
    (("notes", "tuning"), [], "notes.tuning"),
    (("notes", "prompt", "cut", "rows"), "many", "notes.prompt.cut.rows"),
    (("notes", "references"), {"teacher": 0.8}, "notes.references.teacher"),
    (("notes", "shared_rows", 0, "sets"), ["one"], "notes.shared_rows.0.sets"),
    (("notes", "teacher", "contexts"), ["y"], "notes.teacher.contexts.0"),
    (("notes",), [], "notes"),
    (("environment", "workers"), "two", "environment.workers"),
    (("metrics", "in_domain", "accuracy"), ..., "metrics.in_domain: no accuracy"),
    (("metrics", "in_domain", "accuracy"), math.nan, "metrics.in_domain.accuracy"),
    (("metrics", "in_domain", "accuracy"), math.inf, "metrics.in_domain.accuracy"),
    (("metrics", "in_domain", "accuracy"), None, "metrics.in_domain.accuracy"),
    (("metrics", "in_domain", "accuracy"), 71.2, "metrics.in_domain.accuracy: 71.2 is not from 0 to 1"),
    (("primary_metric",), "applause", "primary_metric"),
    (("checkpoints", 0, "metrics", "far"), ..., "checkpoints.0.metrics: no scores of 'far'"),
    (("cost", "fit_seconds"), -3.0, "cost.fit_seconds"),
    (("cost", "fit_seconds"), 1e308, "cost.fit_seconds"),
    (("cost", "predict_seconds"), math.inf, "cost.predict_seconds"),
    (("cost", "peak_memory_bytes"), -1, "cost.peak_memory_bytes"),
    (("phase_seconds", "fit"), -1.0, "phase_seconds.fit"),
    (("baselines", "in_domain", "chance"), 0, "baselines.in_domain.chance"),
    (("baselines", "in_domain", "majority"), 7, "baselines.in_domain.majority"),
    (("trial", "shots"), 0, "trial.shots"),
    (("trial", "shots"), 10**400, "trial.shots"),
    (("trial", "task"), 3, "trial.task"),
    (("trial_id",), "another", "the record of another trial, 'another'"),
]


@pytest.mark.parametrize(("place", "value", "told"), EDITS, ids=lambda each: str(each)[:40])
def test_a_record_that_cannot_be_is_refused_by_its_field(
    out: Path, place: tuple[str | int, ...], value: Any, told: str
) -> None:
    path = lora_of(out)
    edit(path, place, value)
    with pytest.raises(RecordError) as refused:
        analyse_folder(out)
    assert str(refused.value).startswith(f"{path}: ") and told in str(refused.value)


ODD: tuple[Any, ...] = (None, "x", -1, 10**30, [], {}, True)


def places_in(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for step, inner in items:
        yield from places_in(inner, (*path, step))


def test_no_edit_of_a_record_ends_in_a_traceback(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field, made each of a few odd values in turn: shown as it is, or refused with its file's name."""
    path = lora_of(out)
    whole = path.read_text()
    places = list(places_in(json.loads(whole)))
    # All values at all places take minutes: each place has one, and each value comes up in every part of the record.
    tried = [(place, ODD[number % len(ODD)]) for number, place in enumerate(places)]
    refused = 0
    for place, value in tried:
        edit(path, place, copy.deepcopy(value))
        try:
            show_all(out, monkeypatch)
        except RecordError as error:
            refused += 1
            assert path.stem in str(error), (place, value)
        path.write_text(whole)
    assert len(tried) > 100 and refused > len(tried) / 2


def test_trials_of_one_task_that_are_judged_by_unlike_metrics_are_refused(tmp_path: Path) -> None:
    first, second = make_study(tmp_path, {"lora": [0.8, 0.7]}, metric="mcc")
    write_record(tmp_path, second.model_copy(update={"primary_metric": "accuracy"}))
    with pytest.raises(RecordError, match=r"judged by accuracy, and .* of the same task by mcc") as refused:
        analyse_folder(tmp_path)
    assert all(record.trial_id in str(refused.value) for record in (first, second))


def test_what_tuning_or_a_reference_lacks_is_left_out(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lora_of(out)
    edit(path, ("notes", "tuning"), None)
    edit(
        path, ("notes", "references", "teacher", "metrics"), {"elsewhere": {"accuracy": 0.5}, "in_domain": {"ece": 0.1}}
    )
    edit(path, ("notes", "references", "teacher", "agreement"), {"elsewhere": 0.5})
    assert "elsewhere" not in render_page(show_all(out, monkeypatch))


def test_a_deep_record_is_refused(out: Path) -> None:
    path = lora_of(out)
    for depth in (100, 900, 100_000):
        raw = json.loads(path.read_text()) if depth == 100 else raw  # noqa: F821
        deep = json.dumps({**raw, "trial": {**raw["trial"], "settings": {"x": "HERE"}}})
        path.write_text(deep.replace('"HERE"', "[" * depth + "]" * depth))
        with pytest.raises(RecordError, match=path.stem):
            analyse_folder(out)


def replace_predictions(out: Path, **columns: Any) -> Path:
    record = next(r for r in load_records(out) if r.trial.variant == "lora")
    path = predictions_path(out, record.trial_id)
    load_predictions(out, record.trial_id).with_columns(**columns).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"gold": pl.lit(1)}, "column gold must hold texts"),
        ({"predicted": pl.lit(None, dtype=pl.String)}, "column predicted must hold texts"),
        ({"predicted": pl.lit("neither")}, "'neither' is none of the record's labels"),
        ({"gold": pl.lit("neither")}, "'neither' is none of the record's labels"),
        ({"test_set": pl.col("test_set").replace("far", "near")}, "no row of 'far', of which the record has scores"),
        ({"row_id": pl.col("row_id") + "b"}, "of the same draw"),
        ({"gold": pl.col("predicted")}, "of the same draw"),
    ],
    ids=lambda each: each if isinstance(each, str) else "-".join(each),
)
def test_predictions_of_another_kind_are_refused(out: Path, columns: dict[str, Any], told: str) -> None:
    path = replace_predictions(out, **columns)
    with pytest.raises(RecordError) as refused:
        analyse_folder(out)
    assert told in str(refused.value) and path.parent.name in str(refused.value)


def test_predictions_that_lost_rows_or_columns_are_refused(out: Path) -> None:
    record = next(r for r in load_records(out) if r.trial.variant == "lora")
    path = predictions_path(out, record.trial_id)
    whole = pl.read_parquet(path)
    for damaged in (whole.head(30), whole.drop("gold"), whole.clear()):
        damaged.write_parquet(path)
        with pytest.raises(RecordError, match=path.stem):
            analyse_folder(out)
    for content in (b"", b"PAR1" + os.urandom(200) + b"PAR1", path.read_bytes()[:-9]):
        path.write_bytes(content)
        with pytest.raises(RecordError, match=path.stem):
            analyse_folder(out)


NO_NUMBERS: dict[str, pl.Expr] = {
    "not a number": pl.lit(math.nan, pl.Float32),
    "infinite": pl.lit(math.inf, pl.Float32),
    "minus infinite": pl.lit(-math.inf, pl.Float32),
    "missing": pl.lit(None, pl.Float32),
    "a text": pl.lit("-0.5"),
}


def write_scores(out: Path) -> list[Record]:
    """Give every trial scores that agree with its answers; the records of `lora`, by draw."""
    for record in load_records(out):
        if record.status == "done":
            path = predictions_path(out, record.trial_id)
            scores = {f"score_{name}": pl.when(predicted=name).then(-0.1).otherwise(-2.3) for name in record.labels}
            pl.read_parquet(path).with_columns(**{n: s.cast(pl.Float32) for n, s in scores.items()}).write_parquet(path)
    return [record for record in load_records(out) if record.trial.variant == "lora"]


def require_left_out(out: Path, record: Record, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit names the trial in an error, every figure is made without it, and its method failed there."""
    study = show_all(out, monkeypatch)
    [finding] = [each for each in study.findings if each.rule == "unsound predictions"]
    assert (finding.severity, finding.trials) == ("error", (record.trial_id,)) and told in finding.reason
    assert "Run the study again: it repeats these trials alone" in finding.remedy
    group = next(group for group in study.groups if group.board.shots == record.trial.shots)
    row = next(row for row in group.board.rows if row.variant == "lora")
    assert (row.done, row.failed) == (1, 1)
    [sound] = [each for each in group.members if each.trial.variant == "lora" and each.status == "done"]
    assert row.scores["in_domain"].mean == sound.metrics["in_domain"]["accuracy"]
    assert group.stability["lora"].without_threshold["in_domain"] == study.reader.figures(sound)["in_domain"]
    assert not any("nan" in write(study).lower() for write in FORMATS.values())


@pytest.mark.parametrize("rows", ["all", "one"])
@pytest.mark.parametrize("what", NO_NUMBERS)
def test_scores_that_are_no_numbers_are_told_and_no_figure_is_made_of_them(
    out: Path, what: str, rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = write_scores(out)[0]
    path = predictions_path(out, record.trial_id)
    odd = pl.when(pl.int_range(pl.len()) < (pl.len() if rows == "all" else 1)).then(NO_NUMBERS[what])
    table = pl.read_parquet(path)
    table.with_columns(odd.otherwise(pl.col("score_positive")).alias("score_positive")).write_parquet(path)
    require_left_out(out, record, "scores that are no numbers", monkeypatch)


def test_rows_that_stand_in_predictions_twice_are_told_and_no_figure_is_made_of_them(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = write_scores(out)[0]
    path = predictions_path(out, record.trial_id)
    table = pl.read_parquet(path)
    for odd in (table.vstack(table), table.vstack(table.tail(1)), table.with_columns(row_id=pl.lit("same"))):
        odd.write_parquet(path)
        require_left_out(out, record, "a row of a test set that stands in them twice", monkeypatch)


LOOK = {"task": "sentiment", "shots": 8, "draws": 2, "methods": 3, "trials": "", "level": 0.02}
LOOKS: dict[str, tuple[Any, str]] = {
    "falling plan": ({"plan": [-3, 0]}, "plan: no rising numbers of draws: [-3, 0]"),
    "no draws": ({"plan": [0]}, "plan: no rising numbers of draws: [0]"),
    "equal draws": ({"plan": [3, 3]}, "plan: no rising numbers of draws: [3, 3]"),
    "endless plan": ({"plan": [3, 10**400]}, "plan: no rising numbers of draws: [3, 1000"),
    "no plan": ({"plan": []}, "plan: "),
    "no draws looked at": ({"plan": [3], "looks": [{**LOOK, "draws": 0}]}, "looks.0.draws: "),
    "endless draws": ({"plan": [3], "looks": [{**LOOK, "draws": 10**400}]}, "looks.0.draws: "),
    "all of the error": ({"plan": [3], "looks": [{**LOOK, "level": 1.0}]}, "looks.0.level: "),
    "no level": ({"plan": [3], "looks": [{**LOOK, "level": math.nan}]}, "looks.0.level: "),
    "levels of 8 %": (
        {"plan": [3], "looks": [{**LOOK, "level": 0.04}, {**LOOK, "draws": 3, "level": 0.04}]},
        "looks: at 'sentiment', 8 shots, they spend 8 % of the error; there is 5 %",
    ),
    "no JSON": ("{", "Invalid JSON"),
    "a list": ([], "Input should be an object"),
}  # fmt: skip


def write_odd_looks(out: Path, what: str) -> str:
    content, told = LOOKS[what]
    (out / "looks.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return told


@pytest.mark.parametrize("what", LOOKS)
def test_looks_that_cannot_be_are_refused_by_their_field(out: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = write_odd_looks(out, what)
    with pytest.raises(RecordError) as refused:
        show_all(out, monkeypatch)
    assert str(refused.value).startswith(f"{out / 'looks.json'}: damaged, edited") and told in str(refused.value)
    assert "delete that file and run again" in str(refused.value) and len(str(refused.value)) < 700


def test_looks_of_two_places_spend_from_an_error_each(out: Path) -> None:
    looks = [{**LOOK, "shots": shots, "level": 0.04} for shots in (8, 16)]
    (out / "looks.json").write_text(json.dumps({"plan": [2], "looks": looks}))
    assert [decision.question.level for decision in analyse_folder(out).decisions] == [0.04, 0.04]


@pytest.mark.usefixtures("no_charts", "no_workers")
def test_every_command_that_goes_by_looks_refuses_them_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raced = run_race(tmp_path)
    given = json.loads((raced / "looks.json").read_text())
    study = raced / "study.yaml"
    for looks in ({"plan": [-3, 0], "looks": []}, {**given, "plan": [0]}):
        (raced / "looks.json").write_text(json.dumps(looks))
        for arguments in (
            ("report", raced), ("audit", raced), ("recommend", raced), ("watch", raced),
            ("run", study, "--out", raced), ("merge", raced, "--out", tmp_path / "merged"),
        ):  # fmt: skip
            code, _, told = run_cli(*arguments, capsys=capsys)
            assert code == 2 and "looks.json: damaged, edited" in told, arguments
        assert call("check", study, "--forecast", "--out", raced) == 0, "which goes by no looks"
    assert not (tmp_path / "merged").exists()


STUDIES = (
    "- a\n- list\n",
    "3\n",
    "",
    "name: {a: b}\n",
    "name: 3\n",
    "name: 2024-01-01\n",
    "name: 2024-13-99\n",
    "metrics: 3\n",
    "metrics: accuracy\n",
    "tasks: [3]\n",
    "tasks: [{}]\n",
    "tasks: [{cola: 3}]\n",
    "equivalence: [0.1]\n",
    "equivalence: .nan\n",
    "within: [0.1]\n",
    "within: 1.5\n",
    f"equivalence: 1{'0' * 400}\n",
    f"name: {'[' * 2000}{']' * 2000}\n",
    "a: &a [x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nequivalence: [*c, *c, *c]\n",
)


@pytest.mark.parametrize("content", STUDIES, ids=lambda text: text[:20])
def test_a_study_that_was_edited_is_refused_by_its_name(
    out: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "study.yaml").write_text(content)
    with pytest.raises(RecordError) as refused:
        show_all(out, monkeypatch)
    told = str(refused.value)
    assert told.startswith(f"{out / 'study.yaml'}: ") and len(told) < 500


@pytest.mark.parametrize("content", ["[]", "3", "", '{"a": 3}', '{"a": {"model": 3}}', "[" * 100_000, "\xff"])
def test_a_list_of_trials_that_was_edited_is_refused_by_its_name(
    out: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (out / "planned.json").write_text(content, encoding="latin-1")
    with pytest.raises(RecordError, match=r"planned\.json: "):
        show_all(out, monkeypatch)


def test_one_trial_alone_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = make_study(tmp_path, {"lora": [0.8]}, rows=1)
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in records})
    study = show_all(tmp_path, monkeypatch)
    assert study.groups[0].verdict.leader == "lora" and study.groups[0].verdict.comparisons == {}


def test_trials_that_all_failed_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = make_study(tmp_path, {}, failures={"lora": "no"}, skips={"ia3": "not here"})
    write_planned(tmp_path, {record.trial_id: record.trial.cell for record in records})
    assert show_all(tmp_path, monkeypatch).groups[0].verdict.leader is None


def test_a_done_trial_without_scores_is_shown_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [record] = make_study(tmp_path, {"lora": [0.8]})
    write_record(tmp_path, record.model_copy(update={"metrics": {}, "baselines": {}, "cost": None}))
    write_planned(tmp_path, {record.trial_id: record.trial.cell})
    assert show_all(tmp_path, monkeypatch).groups[0].verdict.leader is None
