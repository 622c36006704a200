"""Charts: drawn whole, and labels that keep clear of each other."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from math import dist
from pathlib import Path

import pytest
from rich.cells import cell_len

from fewtune.analysis.study import analyse_folder
from fewtune.report.chart import Chart, name_file
from fewtune.report.charts import draw_decision, draw_group
from fewtune.report.curve_chart import draw_curves
from fewtune.report.labels import place_labels
from fewtune.report.look import NARROW, WIDE, Room
from fewtune.report.svg import embed_chart
from fewtune.report.wrapping import wrap_text
from study_maker import make_study


def test_a_chart_is_sound_xml_with_every_method_named(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.9], "tfidf": [0.6, 0.7]}, out_of_domain={"yelp & co": -0.1})
    [group] = analyse_folder(tmp_path).groups
    for chart in draw_group(group):
        svg = embed_chart(chart.specification, "chart", chart.title, chart.description)
        text = " ".join(ElementTree.fromstring(svg).itertext())
        assert "pattern" in text
        assert "pattern: " in chart.description
        assert "data-tip" in svg


def test_long_names_are_cut_for_files_and_stay_apart() -> None:
    names = [name_file("评论" * 80, f"/models/{end}", "16-scores") for end in ("a" * 300, "a" * 299 + "b")]
    assert len(set(names)) == 2 and all(len(name.encode()) <= 180 and name.endswith("-16-scores") for name in names)
    assert name_file("sentiment", None, "16-scores") == "sentiment-16-scores"


def test_many_charts_are_drawn_for_a_script_without_a_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from fewtune.report.svg import have_drawn, open_drawing\nprint('once', flush=True)\n"
        "with open_drawing(31) as drawing:\n    print(have_drawn(drawing, str, 3).result())\n"
    )
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["once", "3"]


def test_a_decisions_picture_has_scores_bounds_costs_and_marks_the_choice(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.85, 0.86, 0.84], "lora": [0.6, 0.62, 0.58]}, failures={"ia3": "no"})
    study = analyse_folder(tmp_path)
    [decision] = study.decisions
    chart = draw_decision(study, decision)
    rows = {row["method"]: row for row in chart.specification["datasets"]["rows"]}
    assert list(rows) == ["✓ pattern", "lora"], "what has no score is not drawn"
    assert rows["✓ pattern"]["points"] == 0.0 and rows["lora"]["points"] > 25
    assert rows["lora"]["low"] < 0.59 and rows["lora"]["high"] > 0.61 and rows["lora"]["score"] == pytest.approx(0.6)
    [tolerance] = chart.specification["datasets"]["tolerance"]
    assert tolerance["points"] == 3.0
    assert " ".join(chart.specification["title"]["text"]).startswith(
        "sentiment · 16 shots: Use pattern: expected to lose"
    )
    svg = embed_chart(chart.specification, "chart", chart.title, chart.description)
    tips = {mark.get("data-tip") for mark in ElementTree.fromstring(svg).iter() if mark.get("data-tip")}
    assert tips == {row["tip"] for row in (*rows.values(), tolerance, *chart.specification["datasets"]["cuts"])}
    untitled = draw_decision(study, decision, titled=False)
    assert "title" not in untitled.specification and "Use pattern" in untitled.description


def list_marks(chart: Chart) -> dict[str, str]:
    """What the marks of a drawn chart say, with the outline of each."""
    svg = embed_chart(chart.specification, "chart", chart.title, chart.description)
    return {mark.get("data-tip", ""): mark.get("d", "") for mark in ElementTree.fromstring(svg).iter()}


def test_an_interval_beyond_its_axis_ends_in_an_arrowhead_that_says_how_far_it_goes(tmp_path: Path) -> None:
    for shots in (16, 32):
        make_study(tmp_path, {"pattern": [0.55, 0.6], "lora": [0.6, 0.6]}, shots=shots)
    study = analyse_folder(tmp_path)
    [scores] = draw_group(study.groups[0], ["scores"])
    decision = draw_decision(study, study.decisions[0], titled=False)
    for chart, beginning in (
        (scores, "pattern, in domain: its interval goes on to 0.2"),
        (draw_curves(study.curves), "pattern, in domain, 16 shots: its interval goes on to 0.2"),
        (decision, "pattern: its interval goes on to 0.2"),
    ):
        heads = [outline for tip, outline in list_marks(chart).items() if tip.startswith(beginning)]
        assert heads and heads[0].endswith("Z"), chart.kind
    assert "arrowhead: it goes on beyond the axis" in " ".join(scores.specification["title"]["subtitle"])
    make_study(tmp_path / "narrow", {"pattern": [0.8, 0.81, 0.8, 0.79]})
    [group] = analyse_folder(tmp_path / "narrow").groups
    [whole] = draw_group(group, ["scores"])
    assert "arrowhead" not in " ".join(whole.specification["title"]["subtitle"])
    assert not any("goes on" in tip for tip in list_marks(whole))


def test_no_line_is_drawn_of_an_interval_that_says_nothing(tmp_path: Path) -> None:
    make_study(tmp_path, {"once": [0.7], "far apart": [0.4, 0.9], "steady": [0.8, 0.8]})
    [group] = analyse_folder(tmp_path).groups
    assert {group.stability[name].bounds["in_domain"].low for name in ("once", "far apart")} == {None}
    [chart] = draw_group(group, ["scores"])
    marks = list_marks(chart)
    assert "once, in domain, mean: 0.700, no interval: one draw" in marks
    assert "far apart, in domain, mean: 0.650, no interval: 2 draws rule out no score" in marks
    lines = {row["method"]: row["low"] for row in chart.specification["datasets"]["rows"] if row["kind"] == "means"}
    assert lines["once"] is None and lines["far apart"] is None and lines["steady"] is not None
    assert "no line: too few draws for an interval" in " ".join(chart.specification["title"]["subtitle"])


def test_names_are_broken_into_lines_and_lose_nothing() -> None:
    assert wrap_text("knn_prompting (smollm2-135m)", 20).split("\n") == ["knn_prompting", "(smollm2-135m)"]
    assert wrap_text("context_distillation", 16).split("\n") == ["context_", "distillation"]
    for name in ("a" * 50, "two  spaces and_ones-more", "评论" * 20, ""):
        lines = wrap_text(name, 12).split("\n")
        assert all(cell_len(line) <= 12 for line in lines)
        assert "".join(lines).replace(" ", "") == name.replace(" ", "")


@pytest.mark.parametrize("room", [WIDE, NARROW], ids=lambda room: room.name)
def test_a_chart_keeps_to_its_room_and_has_every_name_whole(tmp_path: Path, room: Room) -> None:
    names = ["knn_prompting (smollm2-135m-instruct)", "x" * 70, "in_context, sixteen demonstrations"]
    for shots in (16, 32):
        draws = {name: [0.8 - 0.1 * place, 0.82 - 0.1 * place, 0.79] for place, name in enumerate(names)}
        make_study(tmp_path, draws, shots=shots, out_of_domain={"newspaper_comments_of_one_year": -0.1}, rows=60)
    study = analyse_folder(tmp_path)
    decision = draw_decision(study, study.decisions[0], room, titled=False)
    charts = [decision, draw_curves(study.curves, room), *draw_group(study.groups[0], room=room)]
    assert len(charts) == 7
    for chart in charts:
        root = ElementTree.fromstring(embed_chart(chart.specification, "chart", chart.title, chart.description))
        # A tenth for letters that are wider than most.
        assert float(root.get("width", "0")) <= 1.1 * (room.width + 2 * room.padding), chart.kind
        shown = "".join("".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text"))
        for name in names:
            assert name.replace(" ", "") in shown.replace(" ", ""), (chart.kind, name)


def test_methods_at_one_point_have_labels_apart() -> None:
    names = ["pattern", "lora", "vanilla"]
    labels = place_labels(names, [(200, 100), (200, 101), (201, 99)], 500, 300, None)
    assert len({(label.x, label.y, label.align) for label in labels}) == 3


def test_labels_stay_inside_the_frame() -> None:
    [label] = place_labels(["a_long_method_name"], [(495, 150)], 500, 300, None)
    assert label.align == "right"


CROWD = {"soft_prompt": (300.0, 60.0), "lora": (309.0, 72.0), "ia3": (299.0, 51.0), "pattern": (317.0, 44.0)}


def test_a_name_of_several_lines_stands_clear_of_its_own_point() -> None:
    [label] = place_labels(["\n".join(["a very long name"] * 6)], [(30, 150)], 160, 300, None)
    assert abs(label.y - 150) >= 45 or label.align == "left"


def test_a_name_in_a_crowd_is_nearest_to_its_own_dot_or_has_a_line_to_it() -> None:
    labels = place_labels(list(CROWD), list(CROWD.values()), 470, 280, None)
    assert any(label.line for label in labels)
    for label, (name, own) in zip(labels, CROWD.items(), strict=True):
        if label.line:
            assert dist(label.line[0], own) == pytest.approx(8)
        else:
            left = label.x - {"left": 0.0, "center": 0.5, "right": 1.0}[label.align] * 6.5 * len(name)
            right = left + 6.5 * len(name)
            distances = {
                point: dist((min(max(point[0], left), right), min(max(point[1], label.y - 7.5), label.y + 7.5)), point)
                for point in CROWD.values()
            }
            assert min(distances, key=lambda point: distances[point]) == own


def test_a_name_alone_has_no_line() -> None:
    [label] = place_labels(["lora"], [(200, 100)], 500, 300, 101)
    assert label.line is None


def test_marks_say_what_they_stand_for_and_names_are_escaped(tmp_path: Path) -> None:
    make_study(tmp_path, {'pattern-"<b>': [0.8, 0.9]})
    [group] = analyse_folder(tmp_path).groups
    chart = draw_group(group)[0]
    svg = embed_chart(chart.specification, "chart", chart.title, chart.description)
    tips = [mark.get("data-tip") for mark in ElementTree.fromstring(svg).iter() if mark.get("data-tip")]
    assert 'pattern-"<b>, in domain, data seed 0: 0.800' in tips
    assert "majority class, in domain: 0.500" in tips


def test_learning_curves_have_a_panel_a_method_in_and_out_of_domain(tmp_path: Path) -> None:
    for shots in (16, 32):
        make_study(tmp_path, {"pattern": [0.8, 0.9], "lora": [0.7, 0.7]}, shots=shots, out_of_domain={"yelp": -0.1})
    chart = draw_curves(analyse_folder(tmp_path).curves)
    svg = embed_chart(chart.specification, "chart", chart.title, chart.description)
    tips = {mark.get("data-tip") for mark in ElementTree.fromstring(svg).iter()}
    assert "lora, out of domain, 32 shots: 0.600" in tips
    assert any(
        re.fullmatch(r"pattern, in domain, 16 shots: 0\.850 \[0\.\d{3}, [01]\.\d{3}\]", tip or "") for tip in tips
    )
    assert "pattern: 0.850 at 16, 0.850 at 32." in chart.description


def test_every_hover_text_is_one_that_its_chart_words(tmp_path: Path) -> None:
    for shots in (16, 32):
        make_study(tmp_path, {"pattern": [0.8, 0.9], "lora": [0.7, 0.7]}, shots=shots, out_of_domain={"yelp": -0.1})
    study = analyse_folder(tmp_path)
    charts = [draw_curves(study.curves), *(chart for group in study.groups for chart in draw_group(group))]
    for chart in charts:
        svg = embed_chart(chart.specification, "chart", chart.title, chart.description)
        tips = {mark.get("data-tip") for mark in ElementTree.fromstring(svg).iter() if mark.get("data-tip")}
        assert tips == {row["tip"] for rows in chart.specification["datasets"].values() for row in rows if "tip" in row}


def test_a_name_beside_its_point_tells_what_the_point_tells(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.9], "lora": [0.7, 0.7]})
    [group] = analyse_folder(tmp_path).groups
    for chart in draw_group(group, ["fit seconds"]):
        svg = embed_chart(chart.specification, "chart", chart.title, chart.description)
        marks = list(ElementTree.fromstring(svg).iter())
        names = {mark.text: mark.get("data-tip") for mark in marks if mark.get("data-tip") and mark.text}
        points = {mark.get("data-tip") for mark in marks if mark.tag.endswith("path")}
        assert names["pattern"] in points
        assert (names["pattern"] or "").startswith("pattern: 0.850 accuracy, ")
