"""Writes a study's charts as SVG and PNG files for papers.

Owns which files there are. Does not know what a chart shows (`charts`).
"""

from __future__ import annotations

from pathlib import Path

from fewtune.analysis.study import StudyAnalysis
from fewtune.records import write_together
from fewtune.report.answer import list_scored
from fewtune.report.charts import draw_decision, draw_group
from fewtune.report.curve_chart import draw_curves
from fewtune.report.page import group_curves
from fewtune.report.svg import export_png, export_svg


def write_figures(study: StudyAnalysis, folder: Path) -> list[Path]:
    """Write every chart of a study into a folder, all or none, and return the files."""
    charts = [draw_decision(study, decision) for decision in study.decisions if list_scored(decision)]
    charts += [draw_curves(curves) for curves in group_curves(study.curves)]
    charts += [chart for group in study.groups for chart in draw_group(group)]
    written: dict[Path, bytes] = {}
    for chart in charts:
        for ending, content in (
            ("svg", export_svg(chart.specification).encode()),
            ("png", export_png(chart.specification)),
        ):
            path = folder / f"{chart.name}.{ending}"
            if path in written:  # names that differ only in what no file name may hold
                path = folder / f"{chart.name}-{len(written) // 2 + 1}.{ending}"
            written[path] = content
    write_together(written)
    return list(written)
