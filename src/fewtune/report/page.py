"""The report as one HTML file that needs no network and no script.

Owns what the page shows and in which order; `page.html.jinja` beside this file owns how it looks. Does not know
how a number came about (`analysis`). Whatever a user named is escaped; only charts are inserted as markup.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fewtune.analysis import comparison, statistics
from fewtune.analysis.leaderboard import IN_DOMAIN, average_metrics, group_records
from fewtune.analysis.verdict import Judgement, judge_folder
from fewtune.records import Record, load_study_entry, write_atomically
from fewtune.report import breakdowns, tables
from fewtune.report.charts import draw_charts
from fewtune.report.tuning import list_choices

FILE_NAME = "report.html"


def write_page(out_dir: Path) -> Path:
    """Write OUT/report.html and return its path; raises RecordError where the folder holds no study."""
    judgement = judge_folder(out_dir)
    path = out_dir / FILE_NAME
    write_atomically(
        path, render_page(judgement, name=load_study_entry(out_dir, "name") or out_dir.resolve().name).encode()
    )
    return path


def render_page(judgement: Judgement, name: str) -> str:
    """Render the whole page; `name` stands in its title."""
    environment = Environment(
        loader=PackageLoader("fewtune.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": tables.word_score,
        "points": tables.word_points,
        "share": tables.word_share,
        "seconds": tables.word_seconds,
        "milliseconds": tables.word_milliseconds,
        "bytes": tables.word_bytes,
        "count": tables.word_count,
        "test_set": breakdowns.name_test_set,
    }
    groups = [
        {
            "group": group,
            "verdict": judged,
            "head": tables.head_verdict(judged),
            "comparisons": tables.list_comparisons(judged),
            "metrics": {test: average_metrics(members, test) for test in group.test_sets},
            "versus": {row.variant: tables.compare_with_majority(group, row) for row in group.rows},
            # The chart module escapes all text inside its SVG.
            "charts": [
                {"svg": Markup(chart.svg), "title": chart.title} for chart in draw_charts(group, f"chart-{number}")
            ],
        }
        for number, (group, judged, members) in enumerate(
            zip(judgement.leaderboard, judgement.verdicts, group_records(judgement.records).values(), strict=True),
            start=1,
        )
    ]
    return environment.get_template("page.html.jinja").render(
        name=name,
        unfinished_study=tables.word_missing(judgement.missing) if judgement.missing else "",
        groups=groups,
        breakdowns=breakdowns.break_down(judgement),
        tuning=list_choices(judgement.records),
        unfinished=tables.list_unfinished(judgement.records),
        settings=collect_settings(judgement.records),
        environments=collect_environments(judgement.records),
        trials={status: sum(r.status == status for r in judgement.records) for status in _STATUSES},
        in_domain=IN_DOMAIN,
        region=comparison.REGION,
        confidence=statistics.CONFIDENCE,
        resamples=comparison.RESAMPLES,
        fewest_draws=statistics.FEWEST_DRAWS_TO_TEST,
    )


def collect_settings(records: Iterable[Record]) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Collect (variant, method, settings), each differing set of settings once."""
    found: dict[tuple[str, str, str], list[tuple[str, str]]] = {}
    for record in records:
        axes = record.trial
        key = (axes.variant, axes.method, json.dumps(axes.settings, sort_keys=True))
        found[key] = _word_values(axes.settings)
    return [(variant, method, values) for (variant, method, _), values in sorted(found.items())]


def collect_environments(records: Iterable[Record]) -> list[tuple[int, list[tuple[str, str]]]]:
    """Collect (trials, environment), each differing environment once, the commonest first."""
    found: dict[str, tuple[int, list[tuple[str, str]]]] = {}
    for record in records:
        if record.environment:
            key = json.dumps(record.environment, sort_keys=True)
            count = found[key][0] if key in found else 0
            found[key] = (count + 1, _word_values(record.environment))
    return sorted(found.values(), key=lambda item: -item[0])


_STATUSES = ("done", "failed", "skipped")


def _word_values(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _word_value(value)) for name, value in values.items()]


def _word_value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_word_value(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_word_value(inner) for inner in value)
    return str(value)
