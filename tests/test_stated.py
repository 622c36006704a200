"""Documents state what their records give, and say where it is from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.stated import DOCUMENTS, derive, fill_figures, find_unmarked, list_differences
from study_maker import make_study

PLACE = "sentiment tiny-model 16"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    make_study(tmp_path / "study", {"pattern": [0.84, 0.86, 0.82], "lora": [0.6, 0.7, 0.65]})
    return tmp_path


def mark(what: str, stated: str = "") -> str:
    return f"<!--fig study | {PLACE} | {what}-->{stated}<!--/fig-->"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_document_states_what_its_records_give(document: Path) -> None:
    assert list_differences(document.name, document.read_text(encoding="utf-8")) == []


def test_figures_are_derived_from_records(results: Path) -> None:
    assert derive("study", PLACE, "mean pattern", results) == "0.840"
    # Deviation 0.02: 4.3027 x 0.02 / sqrt(3) is 0.0497.
    assert derive("study", PLACE, "interval pattern in_domain", results) == "0.840 [0.790, 0.890]"
    assert derive("study", PLACE, "answer pattern lora", results) == "better"
    assert derive("study", PLACE, "difference pattern lora", results).startswith("+19.0 [")
    assert derive("study", PLACE, "majority", results) == "0.500"
    assert derive("study", PLACE, "latency pattern", results) == "8.00 ms"
    assert derive("study", PLACE, "parameters pattern", results) == "125 million"
    assert "pattern leads (0.840 accuracy), credibly better than every other." in derive(
        "study", PLACE, "verdict", results
    )


def test_the_score_of_a_variants_teacher_is_a_figure_too(results: Path) -> None:
    scores = [0.25, 0.5, 0.75]
    for path in sorted((results / "study" / "trials").iterdir()):
        record = json.loads(path.read_text())
        if record["trial"]["variant"] == "pattern":
            metrics = {"in_domain": {"accuracy": scores[record["trial"]["data_seed"]]}}
            notes = {"references": {"teacher": {"metrics": metrics}}}
            path.write_text(json.dumps({**record, "notes": notes}))
    assert derive("study", PLACE, "reference pattern teacher", results) == "0.500"
    make_study(results / "other", {"lora": [0.6, 0.7, 0.65], "short": [0.6]})
    # lora has .6, .7 and .65: above it by .35, .2 and -.1, whose deviation is .2291, x 4.3027 / sqrt(3) = .5692.
    assert derive("other", PLACE, "above_reference lora study pattern teacher", results) == "+0.150 [-0.419, +0.719]"
    make_study(results / "fewer", {"lora": [0.6, 0.7, 0.65]}, rows=200)
    with pytest.raises(ValueError, match="lora and the teacher of pattern were asked of other rows"):
        derive("fewer", PLACE, "above_reference lora study pattern teacher", results)
    for what in ("reference lora teacher", "reference absent teacher", "above_reference lora study pattern absent"):
        with pytest.raises(ValueError, match=what):
            derive("study", PLACE, what, results)


def test_a_variant_may_be_compared_with_the_commonest_label(results: Path) -> None:
    # Labels are dealt in turn, so the commonest is right on half of the rows.
    answered = derive("study", PLACE, "answered pattern commonest", results)
    assert answered.startswith("+34.0 [") and answered.endswith("] better")


def test_all_test_sets_out_of_domain_are_one_figure(tmp_path: Path) -> None:
    scores = {"pattern": [0.84, 0.86, 0.82], "lora": [0.6, 0.7, 0.65]}
    make_study(tmp_path / "study", scores, out_of_domain={"near": -0.1, "far": -0.2})
    answered = derive("study", PLACE, "answered pattern lora outside", tmp_path)
    assert answered.startswith("+19.0 [") and answered.endswith("] better")


def test_a_whole_studys_seconds_are_figures_too(results: Path) -> None:
    folder = results / "study"
    for path, phases in zip(
        sorted((folder / "trials").iterdir()), ({"fit": 6.0, "score": 3.0}, {"fit": 4.0, "load": 7.0}), strict=False
    ):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "phase_seconds": phases}))
    times = [("run", 10.0), ("finished", 15.0), ("run", 100.0), ("started", 101.0), ("finished", 120.0)]
    (folder / "events.jsonl").write_text("".join(json.dumps({"event": e, "time": t}) + "\n" for e, t in times))
    assert derive("study", "all", "seconds", results) == "20 s"
    assert derive("study", "all", "share fit", results) == "50%"
    assert derive("study", "all", "share score load", results) == "50%"
    assert derive("study", "all", "wall", results) == "25 s"


def test_a_wrong_figure_and_one_without_its_source_are_told(results: Path) -> None:
    text = f"<!-- stated -->\nIt is {mark('mean pattern', '0.841')}.\nNearly 0.9 it is.\n<!-- /stated -->\n"
    assert find_unmarked(text) == ["Nearly 0.9 it is."]
    assert list_differences("x.md", text, results) == [
        "x.md: a figure without its source: Nearly 0.9 it is.",
        "x.md: mean pattern of study is '0.840', stated '0.841'",
    ]


def test_figures_are_written_in_their_place(results: Path) -> None:
    filled = fill_figures(f"It is {mark('mean pattern', 'old')}, no more.", results)
    assert filled == f"It is {mark('mean pattern', '0.840')}, no more."
    assert list_differences("x.md", filled, results) == []


@pytest.mark.parametrize(
    ("place", "what"),
    [
        ("cola tiny-model 16", "mean pattern"),
        (PLACE, "mode pattern"),
        (PLACE, "mean x"),
        ("all", "mean pattern"),
        ("all", "share doubt"),
    ],
)
def test_a_figure_that_is_not_there_is_refused(results: Path, place: str, what: str) -> None:
    with pytest.raises(ValueError, match="no such figure: study"):
        derive("study", place, what, results)


TABLES = f"""
scores:
  study: study
  head: accuracy
  columns: {{mean: '{PLACE} | mean {{row}}', all seconds: 'all | wall'}}
  rows: [pattern, lora]
pairs:
  study: study
  head: points
  columns: {{answer: '{PLACE} | answer {{row}}'}}
  rows: [pattern lora]
"""
WRITTEN = """<!-- table: scores -->
| accuracy | mean | all seconds |
| --- | --- | --- |
| pattern | 0.840 | 5.00 s |
| lora | 0.650 | 5.00 s |
<!-- /table -->
"""


@pytest.fixture
def tables(results: Path) -> Path:
    (results / "tables.yaml").write_text(TABLES)
    times = [("run", 10.0), ("finished", 15.0)]
    lines = [json.dumps({"event": event, "time": time}) + "\n" for event, time in times]
    (results / "study" / "events.jsonl").write_text("".join(lines))
    return results


def test_a_table_is_written_from_its_records(tables: Path) -> None:
    assert fill_figures("<!-- table: scores -->\nold\n<!-- /table -->\n", tables) == WRITTEN
    assert list_differences("x.md", f"<!-- stated -->\n{WRITTEN}<!-- /stated -->", tables) == []
    pairs = fill_figures("<!-- table: pairs -->\n<!-- /table -->", tables)
    assert pairs.splitlines()[1:4] == ["| points | answer |", "| --- | --- |", "| pattern − lora | better |"]


def test_a_row_may_name_a_model(tmp_path: Path) -> None:
    make_study(tmp_path / "study", {"lora": [0.84, 0.86, 0.82]}, model="large")
    make_study(tmp_path / "study", {"lora": [0.6, 0.7, 0.65]}, model="small")
    (tmp_path / "tables.yaml").write_text(
        "both:\n  study: study\n  head: ''\n  rows: [lora (large), lora (small)]\n"
        "  columns: {mean: 'sentiment {model} 16 | mean {row}', behind: 'sentiment {model} 16 | regret {row}'}\n"
    )
    lines = fill_figures("<!-- table: both -->\n<!-- /table -->", tmp_path).splitlines()[3:5]
    assert lines[0].startswith("| lora (large) | 0.840 | 0.0") and lines[1].startswith("| lora (small) | 0.650 | ")


def test_a_table_that_differs_from_its_records_is_told_and_so_is_one_that_is_not_there(tables: Path) -> None:
    (told,) = list_differences("x.md", WRITTEN.replace("0.650", "0.750"), tables)
    assert told == "x.md: table scores is not what its records give: ['| lora | 0.650 | 5.00 s |']"
    with pytest.raises(ValueError, match=r"no such table: score; tables.yaml has scores, pairs"):
        fill_figures("<!-- table: score -->\n<!-- /table -->", tables)
