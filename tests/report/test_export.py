"""What other programs and papers read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from fewtune.analysis.study import StudyAnalysis, analyse_folder
from fewtune.report.export import COLUMNS, escape_latex, write_csv, write_json, write_latex, write_markdown
from fewtune.report.figures import write_figures
from fewtune.report.page import render_page
from fewtune.report.tables import show_leaderboard
from study_maker import make_study


@pytest.fixture
def study(tmp_path: Path) -> StudyAnalysis:
    make_study(
        tmp_path,
        {"pattern": [0.84, 0.86, 0.82], "in_context": [0.6, 0.7, 0.65]},
        out_of_domain={"yelp": -0.1},
        failures={"lora": "no memory"},
    )
    return analyse_folder(tmp_path)


def test_csv_has_a_row_a_variant_and_test_set_and_absence_is_empty(study: StudyAnalysis) -> None:
    rows = list(csv.DictReader(io.StringIO(write_csv(study))))
    assert [(row["variant"], row["test_set"]) for row in rows] == [
        (variant, test_set) for variant in ("pattern", "in_context", "lora") for test_set in ("in_domain", "yelp")
    ]
    assert set(rows[0]) == set(COLUMNS)
    first, _, third, *_, last = rows
    assert float(first["mean"]) == pytest.approx(0.84)
    assert float(first["low"]) < 0.84 < float(first["high"])
    assert first["deviation_fit_seeds"] == "" and first["answer_of_leader"] == ""
    assert (third["leader"], third["answer_of_leader"]) == ("pattern", "better")
    assert (last["mean"], last["failed"], last["fit_seconds"]) == ("", "1", "")


def test_json_holds_verdict_audit_and_leaderboard(study: StudyAnalysis) -> None:
    whole = json.loads(write_json(study))
    [group] = whole["groups"]
    assert group["verdict"]["leader"] == "pattern"
    assert group["verdict"]["comparisons"]["in_context"]["answer"] == "better"
    assert [row["variant"] for row in group["leaderboard"]["rows"]] == ["pattern", "in_context", "lora"]
    assert [finding["rule"] for finding in whole["findings"]] == ["missing trials"]


def test_memory_is_told_as_allocated_and_as_held(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.84, 0.86]})
    for path in (tmp_path / "trials").iterdir():
        record = json.loads(path.read_text())
        record["cost"] |= {"peak_memory_bytes": 2**30, "resident_memory_bytes": 3 * 2**30}
        path.write_text(json.dumps(record))
    study = analyse_folder(tmp_path)
    [row] = csv.DictReader(io.StringIO(write_csv(study)))
    assert (row["peak_memory_bytes"], row["resident_memory_bytes"]) == (str(2**30), str(3 * 2**30))
    [told] = json.loads(write_json(study))["groups"][0]["leaderboard"]["rows"]
    assert (told["peak_memory_bytes"], told["resident_memory_bytes"]) == (2**30, 3 * 2**30)
    assert "| 3.00 GiB |" in write_markdown(study)


def test_memory_that_was_held_beside_memory_that_was_allocated_is_told(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.84, 0.86], "lora": [0.7, 0.7]})
    said = "Memory of pattern is what was allocated, of the others what was held, which is more."
    for expected in (False, True):
        study, stream = analyse_folder(tmp_path), io.StringIO()
        show_leaderboard(Console(file=stream, width=100), study)
        assert (said in " ".join(stream.getvalue().split())) == (said in render_page(study)) == expected
        for path in (tmp_path / "trials").iterdir():
            record = json.loads(path.read_text())
            if record["trial"]["variant"] == "lora":
                record["cost"] |= {"resident_memory_bytes": 3 * 2**30}
                path.write_text(json.dumps(record))


def test_seconds_that_another_trial_spent_are_told(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.84, 0.86], "lora": [0.7, 0.7]})
    for path in (tmp_path / "trials").iterdir():
        record = json.loads(path.read_text())
        if record["trial"]["variant"] == "pattern":
            record["cost"]["shared_seconds"] = 8.0 if record["trial"]["data_seed"] else None
            path.write_text(json.dumps(record))
    study = analyse_folder(tmp_path)
    rows = {row["variant"]: row["shared_seconds"] for row in csv.DictReader(io.StringIO(write_csv(study)))}
    assert rows == {"pattern": "4.0", "lora": ""}
    page = render_page(study)
    assert page.count('<th scope="col">shared</th>') == 1 and "<td>4.00 s</td>" in page
    assert "another trial of its process had computed the\nsame before" in page


def test_markdown_says_the_verdict_and_how_each_stands_to_the_leader(study: StudyAnalysis) -> None:
    text = write_markdown(study)
    assert "pattern leads (0.840 accuracy), credibly better than every other. Not scored: 1 failed." in text
    assert "| pattern | 0.840 [" in text and "| leads |" in text
    assert "| in\\_context | 0.650 [" in text and "| worse, -19.0 [" in text
    assert "| lora | – | – | – |" in text
    assert "| AUROC" not in text, "no scores were kept"


def test_latex_is_a_table_with_every_name_escaped(study: StudyAnalysis) -> None:
    text = write_latex(study)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 1
    assert r"in\_context & 0.650 [" in text
    assert r"\toprule" in text
    assert escape_latex(r"50% of {a_b} & \c") == r"50\% of \{a\_b\} \& \textbackslash{}c"


def test_a_name_cannot_act_on_the_break_before_its_row(tmp_path: Path) -> None:
    make_study(tmp_path, {"[r=4] lora": [0.84, 0.86], "*lora": [0.7, 0.7]})
    rows = [line for line in write_latex(analyse_folder(tmp_path)).splitlines() if "lora &" in line]
    assert [row.split(" &")[0] for row in rows] == ["{}[r=4] lora", "{}*lora"]


def test_figures_are_pictures_of_every_chart(study: StudyAnalysis, tmp_path: Path) -> None:
    written = write_figures(study, tmp_path / "figures")
    assert {path.suffix for path in written} == {".svg", ".png"}
    assert "sentiment-tiny-model-16-scores.svg" in {path.name for path in written}
    for path in written:
        start = path.read_bytes()[:4]
        assert start == (b"\x89PNG" if path.suffix == ".png" else b"<svg")
