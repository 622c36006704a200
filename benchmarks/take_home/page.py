"""The tables and the chart of docs/take-home.md, written from the records.

Owns what is shown and its layout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isnan
from statistics import fmean, median
from typing import Any

import altair as alt

from benchmarks.apart import ROOT
from benchmarks.markdown import write_markdown
from benchmarks.page import fill_block
from benchmarks.take_home.contenders import CONTENDERS, find_contenders
from benchmarks.take_home.files import FILES
from benchmarks.take_home.summary import (
    BETTER,
    Mean,
    Place,
    Record,
    has_model,
    hold_stated,
    list_shortfalls,
    lose_to_hindsight,
    place_records,
    rank_contenders,
    read_figure,
    subtract,
)
from fewtune.report.look import finish_chart, make_axis, make_title
from fewtune.report.palette import BLACK, BLUE, GREEN, QUIET, VERMILION
from fewtune.report.svg import embed_chart

PAGE = ROOT / "docs" / "take-home.md"
README = ROOT / "README.md"
CHART = ROOT / "docs" / "take-home.svg"
DASH = "–"
WORDS = {"accuracy": "accuracy", "macro_f1": "macro F1", "log_loss": "log loss"}
OURS = "fewtune-3m"
"""The contender that README sets beside its peers."""
LONGER = "fewtune-10m"
"""The one with more time, whose intervals README tells of too."""
COMPARED = ("accuracy", "macro_f1")
"""Figures whose differences are told in points."""
MARKS: Mapping[str, tuple[str, str]] = {
    "fewtune-3m": (BLUE, "diamond"),
    "fewtune-fast": (BLUE, "triangle-up"),
    "tfidf-lr": (QUIET, "cross"),
    "minilm-lr": (GREEN, "triangle-down"),
    "mpnet-lr": (GREEN, "circle"),
    "setfit-minilm": (VERMILION, "triangle-down"),
    "setfit-mpnet": (VERMILION, "circle"),
    "autointent-mpnet": (BLACK, "square"),
}
"""The colour and shape of each contender that the chart shows, fewtune's first."""


def write_tables(records: Sequence[Record]) -> str:
    """Every table, one after the other, under its name."""
    return "\n\n".join(f"{name}\n\n{write(records)}" for name, write in TABLES.items())


def write_page(text: str, records: Sequence[Record]) -> str:
    """The page with every table written anew; the text around them is the author's."""
    for name, write in TABLES.items():
        text = fill_block(text, name, write(records))
    return text


def write_beside(records: Sequence[Record]) -> str:
    """README's table: how far above each peer `fit --budget 3m` is on the rows of both, and what either takes."""
    placed = place_records(records)
    rows = []
    for peer in find_contenders("peers"):
        found = subtract(placed, OURS, peer, "accuracy")
        if found.files:
            both = [own for own in placed.values() if has_model(own, OURS) and has_model(own, peer)]
            seconds = [f"{median(own[name]['seconds'] for own in both):.0f} s" for name in (peer, OURS)]
            rows.append([CONTENDERS[peer].title, _format_mean(found, "{:+.1f}", 100), str(found.files), *seconds])
    return write_markdown(
        ("instead", "points of accuracy that fewtune is above it", "files", "seconds", "fewtune's"), rows
    )


def write_readme(text: str, records: Sequence[Record]) -> str:
    """README with its table and how often a card's interval held."""
    placed = place_records(records)
    short, long = (hold_stated(placed, name, "accuracy") for name in (OURS, LONGER))
    told = f"{short.covered} of {short.cells} models of three minutes and {long.covered} of {long.cells} of ten"
    held = f"<!--held-->{told}<!--/held-->"
    return fill_block(re.sub(r"<!--held-->.*?<!--/held-->", held, text), "beside", write_beside(records))


def write_ranks(records: Sequence[Record]) -> str:
    """A row a contender: its mean rank by each figure, and how many models it made."""
    placed = place_records(records)
    names = _list_tried(placed)
    by_figure = {figure: rank_contenders(placed, names, figure) for figure in BETTER}
    rows = [
        [
            CONTENDERS[name].title,
            *(_format_mean(found[name], "{:.2f}") for found in by_figure.values()),
            _count_models(placed, name),
        ]
        for name in sorted(names, key=lambda name: by_figure["accuracy"][name].mean)
    ]
    shared = max((found.cells for found in by_figure["accuracy"].values()), default=0)
    heads = [f"mean rank, {WORDS[figure]}" for figure in BETTER]
    table = write_markdown(("contender", *heads, "models of its cells"), rows)
    return f"{table}\n\nRanks are over the {shared} cells that all of these were run on."


def write_scores(records: Sequence[Record]) -> str:
    """Accuracy of each contender on each file and size, in the mean of the samples."""
    placed = place_records(records)
    names = [name for name in _list_tried(placed) if name in MARKS]
    rows = []
    for file, size in _list_sizes(placed):
        own = [each for place, each in placed.items() if place[:2] == (file, size)]
        majority = fmean(next(iter(each.values()))["majority"] for each in own)
        rows.append([file, str(size), f"{majority:.3f}", *(_format_scores(own, name) for name in names)])
    return write_markdown(("file", "rows", "majority class", *(CONTENDERS[name].title for name in names)), rows)


def write_differences(records: Sequence[Record]) -> str:
    """How far fewtune's are above each peer, over the cells that both made a model of."""
    placed = place_records(records)
    ours = [name for name in find_contenders("fewtune") if _is_tried(placed, name)]
    rows = [
        [
            CONTENDERS[peer].title,
            *(
                _format_mean(subtract(placed, name, peer, figure), "{:+.1f}", 100)
                for name in ours
                for figure in COMPARED
            ),
        ]
        for peer in find_contenders("peers")
        if _is_tried(placed, peer)
    ]
    heads = [f"{CONTENDERS[name].title}, {WORDS[figure]}" for name in ours for figure in COMPARED]
    return write_markdown(("points above", *heads), rows)


def write_shortfalls(records: Sequence[Record]) -> str:
    """fewtune beside the best peer of every file and size, the worst first."""
    placed = place_records(records)
    peers = find_contenders("peers")
    rows = []
    for ours in find_contenders("fewtune"):
        found = {figure: list_shortfalls(placed, ours, peers, figure) for figure in COMPARED}
        for each in found["accuracy"]:
            row = [CONTENDERS[ours].title, each.file, str(each.rows)]
            for same in (each, *(s for s in found["macro_f1"] if (s.file, s.rows) == (each.file, each.rows))):
                peer = f"{same.peer_score:.3f} {CONTENDERS[same.peer].title}"
                row += [f"{same.score:.3f}", peer, f"{same.points:+.1f}"]
            rows.append(row)
    heads = [head for figure in COMPARED for head in (WORDS[figure], "best peer", "points above it")]
    return write_markdown(("model", "file", "rows", *heads), rows)


def write_stated(records: Sequence[Record]) -> str:
    """What cards state, against test rows."""
    placed = place_records(records)
    rows = []
    for ours in find_contenders("fewtune"):
        for figure in COMPARED:
            kept = hold_stated(placed, ours, figure)
            if kept.cells:
                share = f"{100 * kept.covered / kept.cells:.0f} % of {kept.cells}"
                error = _format_mean(kept.error, "{:+.1f}", 100)
                rows.append([CONTENDERS[ours].title, WORDS[figure], share, error])
    heads = ("card", "of", "intervals that hold the score on test rows", "stated less realised, points")
    return write_markdown(heads, rows)


def write_hindsight(records: Sequence[Record]) -> str:
    """Ten minutes of choosing beside the best of all single methods, chosen by the test rows."""
    placed = place_records(records)
    rows = []
    for ours in find_contenders("fewtune"):
        realised, stated = lose_to_hindsight(placed, ours, find_contenders("hindsight"))
        if realised.cells:
            rows.append(
                [
                    CONTENDERS[ours].title,
                    _format_mean(realised, "{:+.1f}", 100),
                    _format_mean(stated, "{:.1f}", 100),
                    f"{stated.mean / realised.mean:.2f}" if stated.files and realised.mean > 0 else DASH,
                ]
            )
    heads = ("choice", "points below the best in hindsight", "points it said to expect", "stated over realised")
    return write_markdown(heads, rows)


def write_costs(records: Sequence[Record]) -> str:
    """Seconds, memory and latency, of cells that had the machine to themselves."""
    rows = []
    for name, contender in CONTENDERS.items():
        own = [
            record
            for record in records
            if record["contender"] == name and record["ended"] == "done" and not record["busy"]
        ]
        if own:
            rows.append(
                [
                    contender.title,
                    str(len(own)),
                    _format_range([record["seconds"] for record in own], "{:.0f}"),
                    _format_range([record["peak_bytes"] / 2**30 for record in own], "{:.1f}"),
                    _format_range([1000 * record["latency_seconds"] for record in own], "{:.1f}"),
                ]
            )
    return write_markdown(
        ("contender", "models", "seconds (least to most)", "peak GiB (least to most)", "ms a row (least to most)"), rows
    )


def write_missing(records: Sequence[Record]) -> str:
    """Cells without a model, and SetFit's that were stopped before their last step."""
    rows = []
    for name, contender in CONTENDERS.items():
        own = [record for record in records if record["contender"] == name]
        counts = [sum(record["ended"] == ending for record in own) for ending in ("capped", "failed", "not run")]
        stopped = [
            record["notes"]["steps"] / record["notes"]["steps_due"]
            for record in own
            if record.get("notes", {}).get("steps_due", 0) > record.get("notes", {}).get("steps", 0)
        ]
        reasons = sorted({record["reason"] for record in own if "reason" in record})
        told = f"{len(stopped)}, after {min(stopped):.0%} of its steps or more" if stopped else "0"
        if any(counts) or stopped:
            rows.append([contender.title, *map(str, counts), told, "; ".join(reasons)])
    return write_markdown(("contender", "capped", "failed", "not run", "stopped early", "why"), rows)


TABLES = {
    "ranks": write_ranks,
    "scores": write_scores,
    "differences": write_differences,
    "shortfalls": write_shortfalls,
    "stated": write_stated,
    "hindsight": write_hindsight,
    "costs": write_costs,
    "missing": write_missing,
}
"""Each block of the page, and what writes it."""


def draw_page(records: Sequence[Record]) -> str:
    """The SVG: accuracy by file, a panel for each number of rows in order, a mark a contender."""
    placed = place_records(records)
    names = [name for name in MARKS if _is_tried(placed, name)]
    titles = [CONTENDERS[name].title for name in names]
    values: list[dict[str, Any]] = []
    for file, size in _list_sizes(placed):
        own = [each for place, each in placed.items() if place[:2] == (file, size)]
        for name in names:
            scores = [each[name]["accuracy"] for each in own if has_model(each, name)]
            if scores:
                values.append(
                    {"place": f"{file}, {size}", "accuracy": fmean(scores), "contender": CONTENDERS[name].title}
                )
    chart = (
        alt.Chart(alt.InlineData(values=values), width=520, height={"step": 22})
        .mark_point(filled=True, size=75, opacity=0.9)
        .encode(
            x=alt.X("accuracy:Q", title="accuracy", scale=alt.Scale(zero=False), axis=make_axis(format=".2f")),
            y=alt.Y("place:N", title=None, sort=None, axis=make_axis(grid=True, labelLimit=0)),
            color=alt.Color(
                "contender:N",
                title=None,
                scale=alt.Scale(domain=titles, range=[MARKS[name][0] for name in names]),
                legend=alt.Legend(labelLimit=0, symbolOpacity=1),
            ),
            shape=alt.Shape(
                "contender:N", title=None, scale=alt.Scale(domain=titles, range=[MARKS[name][1] for name in names])
            ),
        )
        .properties(
            title=make_title("Accuracy of models of one labelled file", "file and labelled rows; mean of its samples")
        )
    )
    title = "Accuracy of models of one labelled file, by file and number of labelled rows"
    return embed_chart(finish_chart(chart, {}), "take-home", title, _describe(values))


def _describe(values: Sequence[Mapping[str, Any]]) -> str:
    """What a reader who does not see the chart should know of it: the best of each place."""
    best: dict[str, Mapping[str, Any]] = {}
    for value in values:
        if value["place"] not in best or value["accuracy"] > best[value["place"]]["accuracy"]:
            best[value["place"]] = value
    return " ".join(f"{place}: {each['contender']} {each['accuracy']:.3f}." for place, each in best.items())


def _list_tried(placed: Mapping[Place, Mapping[str, Record]]) -> list[str]:
    return [
        name
        for name, contender in CONTENDERS.items()
        if contender.part != "hindsight" and not contender.four_files and _is_tried(placed, name)
    ]


def _is_tried(placed: Mapping[Place, Mapping[str, Record]], name: str) -> bool:
    return any(name in own for own in placed.values())


def _list_sizes(placed: Mapping[Place, Mapping[str, Record]]) -> list[tuple[str, int]]:
    """Files in their order, each with its sizes from the least."""
    order = list(FILES)
    found = {(file, rows) for file, rows, _ in placed}
    return sorted(found, key=lambda each: (order.index(each[0]) if each[0] in order else len(order), each[1]))


def _count_models(placed: Mapping[Place, Mapping[str, Record]], name: str) -> str:
    run = [own for own in placed.values() if name in own]
    return f"{sum(has_model(own, name) for own in run)} of {len(run)}"


def _format_scores(own: Sequence[Mapping[str, Record]], name: str) -> str:
    scores = [read_figure(each[name], "accuracy") for each in own if name in each]
    known = [score for score in scores if score is not None]
    if not scores:
        return ""
    return f"{fmean(known):.3f}" if len(known) == len(scores) else DASH


def _format_mean(found: Mean, form: str, times: float = 1.0) -> str:
    if not found.files:
        return DASH
    mean = form.format(times * found.mean)
    if isnan(found.low):
        return mean
    return f"{mean} [{form.format(times * found.low)}, {form.format(times * found.high)}]"


def _format_range(figures: Sequence[float], form: str) -> str:
    return f"{form.format(median(figures))} ({form.format(min(figures))} to {form.format(max(figures))})"
