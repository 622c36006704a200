"""Exports an analysed study as JSON, CSV, Markdown and LaTeX.

Owns which figures each holds and how a cell is written: users' words act neither on what reads the file nor on a
terminal that shows it. Does not know how a number came about (`analysis`).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from math import isinf
from typing import Any

from fewtune.analysis.decision import Decision
from fewtune.analysis.leaderboard import IN_DOMAIN, LeaderboardRow, name_test_set
from fewtune.analysis.study import GroupAnalysis, StudyAnalysis
from fewtune.metrics.probabilities import AUROC
from fewtune.report.findings import format_outcome
from fewtune.report.wording import (
    MAJORITY,
    MAJORITY_NOTE,
    NO_INTERVAL,
    UNKNOWN,
    UNLABELLED_NOTE,
    format_count,
    format_decision,
    format_memory,
    format_score,
    format_seconds,
    format_standing,
    list_models,
    list_verdict,
    mark_unlabelled,
)
from fewtune.system.terminal import make_safe

COLUMNS = (
    "task", "model", "shots", "variant", "method", "test_set", "metric", "mean", "low", "high", "draws",
    "interquartile_mean", "worst_draw", "deviation_draws", "deviation_fit_seeds", "deviation_patterns",
    "calibration_error", "calibrated_ece", "auroc", "log_loss", "brier", "recentred_accuracy", "majority",
    "above_majority", "chance",
    "collapsed_share", "done", "failed", "skipped", "stopped", "unlabelled", "fit_seconds",
    "shared_seconds", "predict_seconds_per_row", "peak_memory_bytes", "resident_memory_bytes", "trainable_parameters",
    "total_parameters", "answer_of_leader", "leader", "difference", "difference_low", "difference_high", "p",
    "expected_loss", "regret_bound",
    "model_is",
)  # fmt: skip
"""Of the CSV: a row a variant and test set; what only holds in domain is empty elsewhere."""

FORMULA_OPENINGS = ("=", "+", "-", "@", "\t", "＝", "＋", "－", "＠")
"""What a spreadsheet takes for the start of a formula, in full width too."""

LATEX_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def write_json(study: StudyAnalysis) -> str:
    """The whole analysis, records left out."""
    whole = {
        "name": study.name,
        "missing": study.missing,
        "models": study.models,
        "findings": [asdict(finding) for finding in study.findings],
        "decisions": [
            {"sentence": format_decision(decision), **_describe_decision(decision)} for decision in study.decisions
        ],
        "groups": [
            {
                "leaderboard": asdict(group.board),
                "verdict": asdict(group.verdict),
                "stability": {variant: asdict(steady) for variant, steady in group.stability.items()},
                "frontiers": group.frontiers,
                "break_evens": [asdict(each) for each in group.break_evens],
            }
            for group in study.groups
        ],
        "curves": [asdict(curve) for curve in study.curves],
    }
    return json.dumps(whole, indent=1) + "\n"


def _describe_decision(decision: Decision) -> dict[str, Any]:
    """A decision as plain values; of each rival how far it is above the choice, with the standard error of that."""
    found = asdict(replace(decision, rivals={}))
    found["rivals"] = {
        name: {
            "above": each.mean,
            "standard_error": each.error,
            "freedom": None if isinf(each.freedom) else each.freedom,
        }
        for name, each in decision.rivals.items()
    }
    return {**found, "regret": decision.regret}


def write_csv(study: StudyAnalysis) -> str:
    """A row a variant and test set, with COLUMNS.

    A text that a spreadsheet would take for a formula (it opens with =, +, -, @ or a tab) has a ' before it; control
    characters are written out. Numbers stand as they are.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for figures in list_rows(study):
        writer.writerow({name: _disarm(value) for name, value in figures.items()})
    return out.getvalue()


def list_rows(study: StudyAnalysis) -> list[dict[str, Any]]:
    """A mapping of COLUMNS a variant and test set, values as they are."""
    return [
        dict.fromkeys(COLUMNS)
        | _list_figures(group, row, test_set)
        | _list_losses(study, group, row, test_set)
        | {"model_is": study.models.get(group.board.model or "")}
        for group in study.groups
        for row in group.board.rows
        for test_set in group.board.test_sets or (IN_DOMAIN,)
    ]


def _list_losses(
    study: StudyAnalysis, group: GroupAnalysis, row: LeaderboardRow, test_set: str
) -> dict[str, float | None]:
    contender = study.contender(group.board, row) if test_set == IN_DOMAIN else None
    if contender is None:
        return {}
    return {
        "expected_loss": contender.loss.expected if contender.loss is not None else None,
        "regret_bound": contender.regret.bound if contender.regret is not None else None,
    }


def _disarm(value: Any) -> Any:
    """A cell that no spreadsheet runs: texts alone can hold a formula."""
    if not isinstance(value, str):
        return value
    safe = make_safe(value)
    return f"'{safe}" if safe.startswith(FORMULA_OPENINGS) else safe


def write_markdown(study: StudyAnalysis) -> str:
    """The verdicts, the audit and a table a group."""
    parts = [f"# {make_plain(study.name)}", *(make_plain(f"{line}.") for line in list_models(study.models))]
    parts += [f"Audit: {format_outcome(study.findings)}"]
    parts += [
        f"- **{f.severity}**, {make_plain(f.rule)} · {make_plain(f.where)}: {make_plain(f.reason)}."
        for f in study.findings
    ]
    for group in study.groups:
        heads, rows = _tabulate(group)
        decision = study.decision(group.board)
        parts += [f"\n## {make_plain(group.board.title)}\n", f"{make_plain(format_decision(decision))}\n"]
        parts += [f"- {make_plain(line)}" for line in list_verdict(decision, group.verdict)]
        parts += ["", f"| {' | '.join(map(make_plain, heads))} |", f"|{'---|' * len(heads)}"]
        parts += [f"| {' | '.join(map(make_plain, row))} |" for row in rows]
        parts.append(f"\n{_format_note(group)}")
    return "\n".join(parts) + "\n"


def write_latex(study: StudyAnalysis) -> str:
    """A booktabs table a group, to be put into a paper."""
    return "\n".join(_write_table(group, study.models) for group in study.groups)


def escape_latex(text: str) -> str:
    """A text with everything that LaTeX would read as a command written out."""
    return "".join(LATEX_ESCAPES.get(letter, letter) for letter in make_safe(text.replace("\n", " ")))


FORMATS: Mapping[str, Callable[[StudyAnalysis], str]] = {
    "json": write_json,
    "csv": write_csv,
    "markdown": write_markdown,
    "latex": write_latex,
}
"""What a report can be written as besides its page."""


def _list_figures(group: GroupAnalysis, row: LeaderboardRow, test_set: str) -> dict[str, Any]:
    board, steady = group.board, group.stability.get(row.variant)
    figures: dict[str, Any] = {
        "task": board.task,
        "model": board.model,
        "shots": board.shots,
        "variant": row.variant,
        "method": row.method,
        "test_set": test_set,
        "metric": board.metric,
        "draws": len(row.scores[test_set].draws) if test_set in row.scores else 0,
        "majority": board.majority.get(test_set),
        "chance": board.chance.get(test_set),
        "collapsed_share": row.collapsed_share,
        **{name: getattr(row, name) for name in ("done", "failed", "skipped", "stopped", "unlabelled", *_COSTS)},
    }
    if steady is not None and test_set in steady.bounds:
        figures |= asdict(steady.bounds[test_set]) | dict(steady.without_threshold.get(test_set, {}))
    if steady is not None and test_set == IN_DOMAIN:
        figures |= {
            "above_majority": row.above_majority,
            "interquartile_mean": steady.interquartile_mean,
            "worst_draw": steady.worst,
            "deviation_draws": steady.spread.draws,
            "deviation_fit_seeds": steady.spread.fit_seeds,
            "deviation_patterns": steady.spread.patterns,
            "calibration_error": steady.calibration_error,
        }
    against = group.verdict.comparisons.get(row.variant)
    if against is not None and test_set == IN_DOMAIN:
        figures |= {
            "leader": group.verdict.leader,
            "answer_of_leader": against.answer,
            "difference": against.point,
            "difference_low": against.low,
            "difference_high": against.high,
            "p": against.p,
        }
    return figures


_COSTS = (
    "fit_seconds", "shared_seconds", "predict_seconds_per_row", "peak_memory_bytes", "resident_memory_bytes",
    "trainable_parameters", "total_parameters",
)  # fmt: skip


def _tabulate(group: GroupAnalysis) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of a group's table for reading."""
    sets = group.board.test_sets
    found = [each.without_threshold for each in group.stability.values()]
    ranked = [name for name in sets if any(AUROC in figures.get(name, {}) for figures in found)]
    aurocs = [f"AUROC {name_test_set(name)}" for name in ranked]
    heads = ["method", *map(name_test_set, sets), *aurocs, "against the leader", "fit", "memory", "trained"]
    return heads, [
        [
            mark_unlabelled(row.variant, row.unlabelled),
            *(_format_bounds(group, row, test_set) for test_set in sets),
            *(_format_auroc(group, row, test_set) for test_set in ranked),
            _format_against(group, row),
            format_seconds(row.fit_seconds),
            format_memory(row.memory_bytes),
            format_count(row.trainable_parameters),
        ]
        for row in group.board.rows
    ]


def _format_bounds(group: GroupAnalysis, row: LeaderboardRow, test_set: str) -> str:
    steady = group.stability.get(row.variant)
    if steady is None or test_set not in steady.bounds:
        return UNKNOWN
    bounds = steady.bounds[test_set]
    if bounds.low is None or bounds.high is None:
        return format_score(bounds.mean)
    return f"{format_score(bounds.mean)} [{format_score(bounds.low)}, {format_score(bounds.high)}]"


def _format_auroc(group: GroupAnalysis, row: LeaderboardRow, test_set: str) -> str:
    steady = group.stability.get(row.variant)
    return format_score(None if steady is None else steady.without_threshold.get(test_set, {}).get(AUROC))


def _format_against(group: GroupAnalysis, row: LeaderboardRow) -> str:
    if row.variant == group.verdict.leader:
        return "leads"
    return format_standing(group.verdict.comparisons.get(row.variant))


def _format_note(group: GroupAnalysis) -> str:
    majority = group.board.majority.get(IN_DOMAIN)
    note = (
        f"{group.board.metric}, mean over draws [95 % interval]; {MAJORITY} in domain {format_score(majority)}. "
        f"{MAJORITY_NOTE}. Against the leader in points, paired by draw and row."
    )
    means = [bounds for steady in group.stability.values() for bounds in steady.bounds.values()]
    if any(bounds.low is None for bounds in means):
        note += f" {NO_INTERVAL}."
    return f"{note} {UNLABELLED_NOTE}." if any(row.unlabelled for row in group.board.rows) else note


def make_plain(text: str) -> str:
    """A text that Markdown shows as it stands."""
    escapes = "\\`*_<>|#&~"
    escaped = "".join(f"\\{letter}" if letter in escapes else letter for letter in make_safe(text.replace("\n", " ")))
    return escaped.replace("](", "]\\(")


def _write_table(group: GroupAnalysis, models: Mapping[str, str]) -> str:
    heads, rows = _tabulate(group)
    said = models.get(group.board.model or "")
    note = _format_note(group) if said is None else f"{group.board.model}: {said}. {_format_note(group)}"
    lines = [
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{escape_latex(group.board.title.replace(' ·', ','))}. {escape_latex(note)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(map(escape_latex, heads)) + r" \\",
        r"\midrule",
        # A row may open with [ or *, which the break before it would take for its own.
        *("{}" + " & ".join(escape_latex(cell.replace(UNKNOWN, "--")) for cell in row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
