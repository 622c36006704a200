"""The report as one HTML file without network access; without its script it shows the same, unfiltered.

Owns what the page shows and in which order; `page.html.jinja`, `page.css` and `page.js` beside this file own its looks
and acts. Does not know how a number came about (`analysis`). Whatever a user named is escaped; only charts are inserted
as markup.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from fewtune.analysis.audit.audit import RULES
from fewtune.analysis.audit.finding import Finding, format_group
from fewtune.analysis.audit.measurement import list_unlike_parts
from fewtune.analysis.curves import Curve
from fewtune.analysis.decision import Decision
from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardRow, average_metrics, group_by_variant, name_test_set
from fewtune.analysis.recommend import QUERIES
from fewtune.analysis.study import GroupAnalysis, StudyAnalysis
from fewtune.inference.better import CONFIDENCE, FEWEST_DRAWS_TO_TEST
from fewtune.records import PromptNotes, Record, write_atomically
from fewtune.report import breakdowns, findings, tables, wording
from fewtune.report.answer import list_scored
from fewtune.report.chart import Chart
from fewtune.report.charts import KINDS, draw_decision, draw_group
from fewtune.report.curve_chart import draw_curves
from fewtune.report.look import NARROW, WIDE, build_fast
from fewtune.report.score_chart import SCORES
from fewtune.report.svg import embed_chart, have_drawn, open_drawing
from fewtune.report.tuning import list_choices, list_penalties
from fewtune.system.terminal import make_safe

FILE_NAME = "report.html"
MOST_COMPARISONS = 1
"""Comparisons of a leader that stand open; the others unfold."""
MOST_GROUPS_IN_FULL, MOST_GROUPS_DRAWN = 12, 100
"""With more groups than the first each has the chart of its scores alone, with more than the second no chart, and there
are no curves: a page of thousands would be minutes in the making. `--figures` draws all."""


ROOMS = (WIDE, NARROW)
"""What each chart is drawn for; the page's style shows the one that the screen has room for."""


@dataclass(frozen=True)
class Figure:
    """A chart that is being drawn, for each of ROOMS."""

    title: str
    drawings: tuple[Future[str], ...]

    @property
    def svg(self) -> Markup:
        """The finished SVGs, once they are there; text inside is escaped by `svg`."""
        return Markup("".join(drawing.result() for drawing in self.drawings))


@dataclass(frozen=True)
class MethodResult:
    """One variant in one group, for its own part of the page."""

    group: GroupAnalysis
    row: LeaderboardRow


@dataclass(frozen=True)
class MethodPart:
    """All about one variant: results by group, settings, what trained, and what went wrong.

    `settings` are those that all its trials share; of those that `varied` names, `values` has each combination behind
    the trials that have it.
    """

    variant: str
    method: str
    results: tuple[MethodResult, ...]
    settings: tuple[tuple[str, str], ...]
    varied: tuple[str, ...]
    values: tuple[tuple[str, tuple[str, ...]], ...]
    trained: tuple[tuple[str, str, str, str, str], ...]
    """Parameter groups as (name, model, tensors, parameters, peak rate)."""
    label_words: tuple[str, ...]
    unfinished: tuple[tuple[str, str, str], ...]


def write_report_page(study: StudyAnalysis, out_dir: Path) -> Path:
    """Write OUT/report.html and return its path."""
    path = out_dir / FILE_NAME
    write_atomically(path, render_page(study).encode())
    return path


@cache
def _find_template() -> Template:
    """The page's template, compiled once a process."""
    environment = Environment(
        loader=PackageLoader("fewtune.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: make_safe(value) if type(value) is str else value,  # not charts, which are markup
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": wording.format_score,
        "points": wording.format_points,
        "mark": wording.mark_unlabelled,
        "share": wording.format_share,
        "percent": wording.format_percent,
        "seconds": wording.format_seconds,
        "milliseconds": wording.format_milliseconds,
        "bytes": wording.format_memory,
        "count": wording.format_count,
        "test_set": name_test_set,
        "capitalise": findings.capitalise,
        "code": mark_code,
    }
    return environment.get_template("page.html.jinja")


def render_page(study: StudyAnalysis) -> str:
    """Render the whole page."""
    kinds = _choose_kinds(len(study.groups))
    curves = group_curves(study.curves) if kinds else []
    with open_drawing(len(ROOMS) * (len(curves) + (1 + len(kinds)) * len(study.groups))) as drawing:
        decisions = [
            _prepare_decision(study, decision, number, drawing if kinds else None)
            for number, decision in enumerate(study.decisions, start=1)
        ]
        drawn_curves = [_prepare_curves(each, number, drawing) for number, each in enumerate(curves, start=1)]
        groups = [
            _prepare_group(group, study.decision(group.board), number, kinds, drawing)
            for number, group in enumerate(study.groups, start=1)
        ]
        # Charts are drawn while the page is filled in.
        return _find_template().render(
            name=study.name,
            models=wording.list_models(study.models),
            css=Markup(files("fewtune.report").joinpath("page.css").read_text(encoding="utf-8")),
            script=Markup(files("fewtune.report").joinpath("page.js").read_text(encoding="utf-8")),
            unfinished_study=wording.format_missing(study.missing) if study.missing else "",
            filters=list_filters(study),
            decisions=decisions,
            findings=place_findings(study),
            outcome=findings.format_outcome(study.findings),
            rules=RULES,
            groups=groups,
            left_out="" if kinds == KINDS else "Cost charts" if kinds else "Charts and learning curves",
            unlabelled=study.unlabelled,
            unlabelled_note=wording.UNLABELLED_NOTE,
            curves=drawn_curves,
            tuning=list_choices(study.records),
            penalties=list_penalties(study.records),
            methods=collect_methods(study),
            unfinished=tables.list_unfinished(study.records),
            environments=collect_environments(study.records),
            unlike_parts=[part.replace("_", " ") for part in list_unlike_parts(study.records)],
            trials={status: sum(r.status == status for r in study.records) for status in _STATUSES},
            in_domain=IN_DOMAIN,
            most_comparisons=MOST_COMPARISONS,
            region=wording.format_region(study.region),
            tolerance=wording.format_region(study.terms.within),
            queries=QUERIES,
            confidence=CONFIDENCE,
            fewest_draws=FEWEST_DRAWS_TO_TEST,
        )


def mark_code(text: str) -> Markup:
    """A sentence as markup: what stands between backticks is code, as of a command, and all else is text."""
    parts = make_safe(text).split("`")
    if len(parts) % 2 == 0:  # one backtick without its like is a letter
        parts[-2:] = ["`".join(parts[-2:])]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part) for place, part in enumerate(parts)
    )


def list_filters(study: StudyAnalysis) -> list[tuple[str, list[str]]]:
    """List what the page can be narrowed to: the axes of which the study has several values."""
    axes: dict[str, list[str]] = {"task": [], "model": [], "shots": []}
    for group in study.groups:
        values = {"task": group.board.task, "model": group.board.model or "", "shots": str(group.board.shots)}
        for axis, value in values.items():
            if value not in axes[axis]:
                axes[axis].append(value)
    axes["shots"].sort(key=int)
    return [(axis, values) for axis, values in axes.items() if len(values) > 1]


def place_findings(study: StudyAnalysis) -> list[tuple[Finding, list[int]]]:
    """Each finding with the numbers, from 1, of the groups that its trials belong to; none for one without trials.

    Trials without a language model belong to every model's group. They add a group only where no trial with a model
    does.
    """
    numbers: dict[str, set[int]] = {}
    for number, group in enumerate(study.groups, start=1):
        for record in group.members:
            numbers.setdefault(record.trial_id, set()).add(number)
    placed = []
    for finding in study.findings:
        about: set[int] = set()
        # A trial without a language model stands in every model's group, and tells of those not named otherwise only.
        for places in sorted((numbers.get(trial, set()) for trial in finding.trials), key=len):
            if not about & places:
                about |= places
        placed.append((finding, sorted(about)))
    return placed


def group_curves(curves: Sequence[Curve]) -> list[list[Curve]]:
    """Sort curves by task and model: one chart each, where any is in domain."""
    found: dict[tuple[str, str | None], list[Curve]] = {}
    for curve in curves:
        found.setdefault((curve.task, curve.model), []).append(curve)
    return [members for members in found.values() if any(curve.test_set == IN_DOMAIN for curve in members)]


def collect_methods(study: StudyAnalysis) -> list[MethodPart]:
    """Collect everything about each variant, in the order of their names."""
    found = group_by_variant(study.records)
    return [_collect_method(study, variant, records) for variant, records in sorted(found.items())]


def collect_environments(records: Iterable[Record]) -> list[tuple[int, list[tuple[str, str]]]]:
    """Collect (trials, environment), each differing environment once, the commonest first."""
    found: dict[str, tuple[int, list[tuple[str, str]]]] = {}
    for record in records:
        if record.environment:
            key = json.dumps(record.environment, sort_keys=True)
            count = found[key][0] if key in found else 0
            found[key] = (count + 1, _format_values(record.environment))
    return sorted(found.values(), key=lambda item: -item[0])


_STATUSES = ("done", "failed", "skipped", "stopped")


def _choose_kinds(groups: int) -> Sequence[str]:
    """The charts that each group has on a page of so many, beside its decision's, which shows costs too."""
    if groups > MOST_GROUPS_DRAWN:
        return ()
    return KINDS if groups <= MOST_GROUPS_IN_FULL else (SCORES,)


def _prepare_decision(
    study: StudyAnalysis, decision: Decision, number: int, drawing: Executor | None
) -> dict[str, Any]:
    """What the page opens with; no chart where nothing was scored, or `drawing` is None."""
    chart = None
    if drawing is not None and list_scored(decision):
        with build_fast():
            charts = [draw_decision(study, decision, room, titled=False) for room in ROOMS]
        chart = _embed(charts, f"decision-{number}", drawing)
    return {
        "chart": chart,
        "task": decision.question.task,
        "shots": decision.question.shots,
        "title": wording.format_question(decision),
        "answer": wording.format_choice(decision),
        "more": wording.format_beside(decision),
        "chosen": decision.settled,
        "note": wording.UNLABELLED_NOTE if any(each.unlabelled for each in decision.contenders) else "",
        "reasons": wording.explain_decision(decision),
    }


def _prepare_group(
    group: GroupAnalysis, decision: Decision, number: int, kinds: Collection[str], drawing: Executor
) -> dict[str, Any]:
    with build_fast():
        charts = list(zip(*(draw_group(group, kinds, room) for room in ROOMS), strict=True))
    return {
        "id": number,
        "group": group.board,
        "verdict": group.verdict,
        "head": wording.format_decision(decision),
        "comparisons": wording.list_verdict(decision, group.verdict),
        "metrics": {test: _list_metrics(group, test) for test in group.board.test_sets},
        "unlike_memory": wording.format_unlike_memory(group.board.rows),
        "versus": {row.variant: row.above_majority for row in group.board.rows},
        "stability": group.stability,
        "break_evens": group.break_evens,
        "breakdowns": breakdowns.break_down_group(group),
        "charts": {c[0].kind: _embed(c, f"chart-{number}-{place}", drawing) for place, c in enumerate(charts)},
    }


def _list_metrics(group: GroupAnalysis, test_set: str) -> dict[str, dict[str, float | None]]:
    """Every metric's mean by variant, those of probabilities last; each variant has all, None where it has not been."""
    recorded = average_metrics(group.members, test_set)
    found = {
        variant: means | dict(group.stability[variant].without_threshold.get(test_set, {}))
        for variant, means in recorded.items()
        if variant in group.stability
    }
    names = dict.fromkeys(name for means in found.values() for name in means)
    return {variant: {name: means.get(name) for name in names} for variant, means in found.items()}


def _prepare_curves(curves: Sequence[Curve], number: int, drawing: Executor) -> dict[str, Any]:
    with build_fast():
        charts = [draw_curves(curves, room) for room in ROOMS]
    return {
        "task": curves[0].task,
        "model": curves[0].model,
        "metric": curves[0].metric,
        "shots": sorted({point.shots for curve in curves for point in curve.points}),
        "curves": [(curve, {point.shots: point.bounds for point in curve.points}) for curve in curves],
        "chart": _embed(charts, f"curves-{number}", drawing),
    }


def _embed(charts: Sequence[Chart], chart_id: str, drawing: Executor) -> Figure:
    """Have one chart drawn, which is given for each of ROOMS."""
    title, description = make_safe(charts[0].title), make_safe(charts[0].description)
    drawings = [
        have_drawn(
            drawing,
            embed_chart,
            chart.specification,
            f"{chart_id}-{room.name}",
            title,
            description,
            f"chart {room.name}",
        )
        for chart, room in zip(charts, ROOMS, strict=True)
    ]
    return Figure(title, tuple(drawings))


def _collect_method(study: StudyAnalysis, variant: str, records: Sequence[Record]) -> MethodPart:
    worded = [dict(_format_values(record.trial.settings)) for record in records]
    names = list(dict.fromkeys(name for values in worded for name in values))
    varied = [name for name in names if len({values.get(name, wording.UNKNOWN) for values in worded}) > 1]
    combinations: dict[tuple[str, ...], list[Record]] = {}
    for record, values in zip(records, worded, strict=True):
        combinations.setdefault(tuple(values.get(name, wording.UNKNOWN) for name in varied), []).append(record)
    trained = {
        (
            group.name,
            record.trial.model or wording.UNKNOWN,
            str(group.tensors),
            wording.format_count(group.parameters),
            f"{group.peak_learning_rate:g}",
        ): None
        for record in records
        for group in record.notes.fit.groups
    }
    words = {
        _format_label_words(prompt): None
        for prompt in (record.notes.prompt for record in records)
        if prompt.label_words
    }
    results = [MethodResult(group, row) for group in study.groups for row in group.board.rows if row.variant == variant]
    return MethodPart(
        variant=variant,
        method=records[0].trial.method,
        results=tuple(results),
        settings=tuple((name, worded[0][name]) for name in names if name not in varied),
        varied=tuple(varied),
        values=tuple((_format_trials(trials), values) for values, trials in combinations.items()),
        trained=tuple(trained),
        label_words=tuple(words),
        unfinished=tuple(tables.list_unfinished(records)),
    )


def _format_label_words(prompt: PromptNotes) -> str:
    """Format the label words, and that they are constrained where that matters: where one has several tokens."""
    matters = prompt.constrained and any(len(tokens) > 1 for tokens in prompt.label_word_tokens)
    return ", ".join(map(repr, prompt.label_words)) + (" (constrained)" if matters else "")


def _format_trials(records: Iterable[Record]) -> str:
    """Format which trials these are: 'cola · tiny-model · 16 shots: draws 0, 2'; one line a place."""
    places: dict[str, set[int]] = {}
    for record in records:
        places.setdefault(format_group([record]), set()).add(record.trial.data_seed)
    return "; ".join(f"{place}: {_format_draws(sorted(seeds))}" for place, seeds in places.items())


def _format_draws(seeds: Sequence[int]) -> str:
    return f"draw{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _format_values(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), _format_value(value)) for name, value in values.items()]


def _format_value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_format_value(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_format_value(inner) for inner in value)
    return str(value)
