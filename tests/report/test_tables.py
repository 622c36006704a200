"""The terminal leaderboard, at the widths people have."""

from __future__ import annotations

import csv
import json
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fewtune.analysis.study import analyse_folder
from fewtune.cli import main
from fewtune.records import Notes, load_records, write_record
from fewtune.report import wording
from fewtune.report.export import write_csv, write_json, write_latex, write_markdown
from fewtune.report.page import render_page
from fewtune.report.tables import show_leaderboard
from fewtune.report.tuning import list_choices
from fewtune.report.watch import show_state
from fewtune.report.wording import format_leader
from study_maker import make_study


def show(out: Path, width: int = 100) -> str:
    stream = StringIO()
    show_leaderboard(Console(file=stream, width=width, color_system=None), analyse_folder(out))
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("sets", [1, 3])
def test_nothing_is_cut_at(tmp_path: Path, width: int, sets: int) -> None:
    others = dict.fromkeys(("imdb", "yelp", "amazon")[:sets], -0.1)
    make_study(tmp_path, {"pattern": [0.84, 0.86, 0.82], "lora": [0.8, 0.7, 0.6]}, out_of_domain=others)
    text = show(tmp_path, width)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for shown in ("pattern", "0.840", ".84 .86 .82", "in domain", "majority", "+34.0", "1.50 GiB", *others):
        assert shown in text


def test_the_two_baselines_of_a_table_have_a_name_each(tmp_path: Path) -> None:
    """What the test rows give stands over a column, what the labelled rows give is a method's row."""
    make_study(tmp_path, {"pattern": [0.84, 0.86, 0.82], "majority": [0.48, 0.5, 0.49]})
    text = show(tmp_path, 80)
    head, rows = re.split(r"^ pattern ", text, maxsplit=1, flags=re.MULTILINE)
    assert head.count("majority") == len(re.findall(r"majority\s+class", head)) == 2
    assert re.search(r"^ majority +0\.490", rows, re.MULTILINE)
    told = " ".join(text.split())
    assert "Majority class: always answering the most frequent label of the test rows, which no method knows" in told
    assert "the method majority answers the commonest of its labelled rows." in told
    analysis = analyse_folder(tmp_path)
    for export in (write_markdown(analysis), write_latex(analysis)):
        assert "majority class in domain 0.500" in export and "the method majority answers" in export
    [first, *_] = csv.DictReader(StringIO(write_csv(analysis)))
    assert float(first["majority"]) == 0.5 and "above_majority" in first, "programs find both where they were"


@pytest.mark.parametrize("width", [24, 40, 60, 80, 120])
@pytest.mark.parametrize("sets", [0, 1, 2, 4, 5, 7])
def test_no_column_is_cut_off_however_many_there_are(tmp_path: Path, width: int, sets: int) -> None:
    others = {f"other_set_{number}": -0.01 * number for number in range(1, sets + 1)}
    make_study(tmp_path, {"pattern": [0.84, 0.86, 0.82], "a-method-of-a-long-name": [0.8] * 3}, out_of_domain=others)
    text = show(tmp_path, width)
    assert "…" not in text and max(len(line.rstrip()) for line in text.splitlines()) <= width
    words = text.split()
    for number in range(sets + 1):
        assert f"{0.84 - 0.01 * number:.3f}" in words
    assert "+34.0" in words and "1.50" in words and "GiB" in words


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("patterns", [3, 6])
def test_no_pattern_is_cut_off_however_many_there_are(tmp_path: Path, width: int, patterns: int) -> None:
    scores = {f"pattern_{number}": [0.8 - 0.1 * number, 0.78 - 0.1 * number] for number in range(patterns)}
    make_study(tmp_path, scores)
    for record in load_records(tmp_path):
        axes = record.trial.model_copy(update={"pattern": record.trial.variant, "variant": "in_context"})
        write_record(tmp_path, record.model_copy(update={"trial": axes}))
    words = show(tmp_path, width).split()
    for number in range(patterns):
        assert f"{0.79 - 0.1 * number:.3f}" in words
    assert f"{0.1 * (patterns - 1):.3f}" in words, "the largest less the smallest"


def test_wide_terminals_show_every_cost_and_narrow_ones_say_what_is_left_out(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.8]})
    assert "125M" in show(tmp_path, 100)
    assert "125M" not in show(tmp_path, 80)
    assert "have room for prediction time and parameters" in " ".join(show(tmp_path, 80).split())


def test_verdicts_and_reasons_follow_the_table(tmp_path: Path) -> None:
    make_study(
        tmp_path,
        {"pattern": [0.8, 0.8, 0.8], "vanilla": [0.5, 0.5, 0.5]},
        failures={"lora": "out of [red]memory[/red]"},
        skips={"bitfit": "no biases"},
    )
    text = show(tmp_path)
    head = "pattern leads (0.800 accuracy), credibly better than every other. Not scored: 1 failed, 1 skipped."
    assert head in " ".join(text.split())
    assert "better than vanilla by 30.0 points [" in text
    assert "lora · sentiment · tiny-model: error: out of [red]memory[/red]" in text
    assert "bitfit · sentiment · tiny-model: skipped: no biases" in text
    assert "100% collapsed" in text


@pytest.mark.parametrize(
    ("accuracies", "standing"),
    [
        ({"pattern": 0.8}, "."),
        ({"pattern": 0.8, "lora": 0.6}, ", credibly better than every other."),
        ({"pattern": 0.8, "lora": 0.6, "ia3": 0.8}, ", but not credibly better than ia3."),
        (
            {"pattern": 0.8, "ia3": 0.8, "adaptive": 0.7975, "probe": 0.795},
            ", but not credibly better than ia3, adaptive and probe.",
        ),
        (
            {"pattern": 0.8, "ia3": 0.8, "adaptive": 0.7975, "probe": 0.795, "bitfit": 0.795, "lora": 0.6},
            ", but not credibly better than ia3, adaptive and 2 more.",
        ),
        (
            {"pattern": 0.52, "lora": 0.4},
            ", but over 3 draws not credibly above always answering the majority class.",
        ),
    ],
)
def test_a_verdicts_head_says_how_far_the_lead_is_told(
    tmp_path: Path, accuracies: dict[str, float], standing: str
) -> None:
    draws = {name: [score + shift for shift in (0.0, 0.01, 0.02)] for name, score in accuracies.items()}
    draws["pattern"] = [score + 0.0025 for score in draws["pattern"]]
    make_study(tmp_path, draws)
    [verdict] = [group.verdict for group in analyse_folder(tmp_path).groups]
    assert re.fullmatch(r"pattern leads \(0\.\d{3} accuracy\)" + re.escape(standing), format_leader(verdict))


def test_a_method_that_saw_unlabelled_rows_is_marked_wherever_it_stands(tmp_path: Path) -> None:
    tried = {"chosen": {"rank": 4}, "tried": [], "folds": 2, "metric": "accuracy", "seconds": 1.0}
    for record in make_study(tmp_path, {"pattern": [0.8, 0.8], "vanilla": [0.5, 0.5]}):
        if record.trial.variant == "pattern":
            notes = Notes.model_validate({"unlabelled": "pool", "tuning": tried})
            write_record(tmp_path, record.model_copy(update={"notes": notes}))
    study = analyse_folder(tmp_path)
    assert list_choices(study.records)[0].startswith("pattern* · ")
    watched = StringIO()
    Console(file=watched, width=120).print(show_state(study, len(study.records), ()))
    page = render_page(study)
    heads = re.findall(r'<th scope="row">(pattern\*?|vanilla\*?)\s*<', page)
    assert set(heads) == {"pattern*", "vanilla"} and len(heads) > 8, "in every table of the page"
    assert "learnt from rows without labels too, as the others did not: pattern" in page
    assert "<summary>pattern*" in page and "<summary>vanilla<" in page.replace(" <", "<")
    texts = (" ".join(show(tmp_path).split()), watched.getvalue(), write_markdown(study), write_latex(study), page)
    for text in texts:
        assert "pattern*" in text.replace("\\*", "*") and "vanilla*" not in text.replace("\\*", "*")
        assert "learnt from rows without labels too" in text
    rows = csv.DictReader(StringIO(write_csv(study)))
    assert {row["variant"]: row["unlabelled"] for row in rows} == {"pattern": "True", "vanilla": "False"}


def test_what_a_model_is_stands_above_its_results_where_records_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "Small 1M instruct; prompts are plain text"
    for record in make_study(tmp_path, {"pattern": [0.8, 0.8], "majority": [0.5, 0.5]}):
        if record.trial.model is not None:
            write_record(tmp_path, record.model_copy(update={"environment": {"model": said}}))
    study = analyse_folder(tmp_path)
    watched = StringIO()
    Console(file=watched, width=120).print(show_state(study, len(study.records), ()))
    with pytest.raises(SystemExit):
        main(["recommend", str(tmp_path)])
    recommended = capsys.readouterr().out
    for text in (show(tmp_path), write_markdown(study), render_page(study), watched.getvalue(), recommended):
        assert text.count(f"tiny-model: {said}") == 1
    assert f"tiny-model: {said}" in write_latex(study)
    assert json.loads(write_json(study))["models"] == {"tiny-model": said}
    assert {row["model_is"] for row in csv.DictReader(StringIO(write_csv(study)))} == {said}


def test_of_many_draws_the_lowest_and_the_highest_are_shown(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.475, 0.4, 0.45, 0.55, 0.65, 0.51]}, metric="mcc")
    assert "-.20 to .30, 6 draws" in " ".join(show(tmp_path).split())


def test_breakdowns_are_shown_by_value_and_gold_label(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8]}, out_of_domain={"hans": -0.1}, heuristics=("subsequence", "constituent"))
    text = show(tmp_path)
    assert "hans by heuristic" in text
    assert "gold: negative" in text
    assert "0.900" in text


def test_a_facet_of_many_values_is_not_broken_down(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8]}, heuristics=[f"case_{i}" for i in range(7)])
    assert "by heuristic" not in show(tmp_path)


@pytest.mark.parametrize(
    ("worded", "expected"),
    [
        (wording.format_seconds(None), "–"),
        (wording.format_seconds(0.0001), "<0.01 s"),
        (wording.format_seconds(3.14159), "3.14 s"),
        (wording.format_seconds(1200), "20 min"),
        (wording.format_memory(None), "–"),
        (wording.format_memory(3 * 2**29), "1.50 GiB"),
        (wording.format_memory(5 * 2**20), "5 MiB"),
        (wording.format_count(294_912), "295k"),
        (wording.format_count(0), "0"),
        (wording.format_count(999), "999"),
        (wording.format_count(999_999), "1M"),
        (wording.format_missing({"lora": 1}), "Unfinished: 1 trial has not run yet: lora (1). `fewtune run` goes on."),
        (wording.format_count(None), "–"),
        (wording.format_milliseconds(0.0032), "3.20"),
        (wording.format_points(-0.021), "-2.1"),
    ],
)
def test_quantities_are_worded(worded: str, expected: str) -> None:
    assert worded == expected


def test_prompt_sensitivity_is_shown_where_a_study_has_several_patterns(tmp_path: Path) -> None:
    make_study(tmp_path, {"first": [0.8, 0.7, 0.9], "second": [0.6]})
    for record in load_records(tmp_path):
        axes = record.trial.model_copy(update={"pattern": record.trial.variant, "variant": "pattern"})
        write_record(tmp_path, record.model_copy(update={"trial": axes}))
    text = show(tmp_path)
    assert "by pattern: accuracy" in text
    lines = text.splitlines()
    place = next(at for at, line in enumerate(lines) if line.strip().startswith("pattern") and "0.200" in line)
    assert lines[place].split() == ["pattern", "0.800", "0.600", "0.200"]
    study = analyse_folder(tmp_path)
    bounds = study.groups[0].by_pattern["first"]["pattern"]
    assert bounds.low is not None and bounds.high is not None and bounds.low < 0.7 and bounds.high > 0.9
    assert lines[place + 1].split() == [f"{bounds.low:.2f}"[1:], "to", f"{bounds.high:.2f}".removeprefix("0")]
    assert study.groups[0].by_pattern["second"]["pattern"].low is None, "one draw has none"
    page = render_page(study)
    assert f"0.800<small>[{bounds.low:.3f}, {bounds.high:.3f}]</small>" in page
