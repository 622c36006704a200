"""Charts: drawn whole, and labels that keep clear of each other."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from fewtune.analysis.verdict import judge_folder
from fewtune.report.charts import draw_charts, place_labels
from study_maker import make_study


def test_a_chart_is_sound_xml_with_every_method_named(tmp_path: Path) -> None:
    make_study(tmp_path, {"pattern": [0.8, 0.9], "tfidf": [0.6, 0.7]}, out_of_domain={"yelp & co": -0.1})
    [group] = judge_folder(tmp_path).leaderboard
    for chart in draw_charts(group, "chart"):
        text = " ".join(ElementTree.fromstring(chart.svg).itertext())
        assert "pattern" in text
        assert "tfidf" in text
        assert "0.850" in chart.description


def test_methods_at_one_point_have_labels_apart() -> None:
    names = ["pattern", "lora", "vanilla"]
    labels = place_labels(names, [(200, 100), (200, 101), (201, 99)], 500, 300, None)
    assert len({(label.x, label.y, label.align) for label in labels}) == 3


def test_labels_stay_inside_the_frame() -> None:
    [label] = place_labels(["a_long_method_name"], [(495, 150)], 500, 300, None)
    assert label.align == "right"
