"""Shows how a saved model was chosen among candidates: sentences, a table and a chart.

Owns their wording, for the terminal, the model's card and the estimator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fewtune.metrics.counts import RANGES
from fewtune.plurals import choose_verb, pluralise
from fewtune.report.wording import format_chance, format_lost, format_seconds

if TYPE_CHECKING:
    import altair
    import polars

MOST_TOLD = 3
"""Confusions that are told in a sentence."""
SKEWED = 3
"""A label is rare where another has so many times its rows."""


@dataclass(frozen=True)
class KeptChoice:
    """What a model keeps of how it was chosen."""

    kept: Mapping[str, Any]

    @property
    def chosen(self) -> str:
        """The candidate that was fitted on all rows."""
        return str(self.kept["chosen"])

    @property
    def settled(self) -> bool:
        """Whether it is expected to lose a sixth of the tolerance at most, at a risk of 5 % at most."""
        return bool(self.kept["settled"])

    @property
    def expected_loss(self) -> float:
        """What it is expected to lose to the best candidate, in the metric's own unit."""
        return float(next(each["expected_loss"] for each in self.kept["candidates"] if each["name"] == self.chosen))

    def __str__(self) -> str:
        return format_kept_choice(self.kept)

    def table(self) -> polars.DataFrame:
        """A row a candidate: name, score by folds, its standard error, rows, expected loss, risk, seconds."""
        import polars as pl

        return pl.DataFrame(
            [
                {
                    "candidate": each["name"],
                    self.kept["metric"]: each["score"],
                    "standard_error": each["error"],
                    "rows": each["rows"],
                    "expected_loss": each["expected_loss"],
                    "risk": each["risk"],
                    "fit_seconds": each["fit_seconds"],
                    "row_seconds": each["row_seconds"],
                }
                for each in self.kept["candidates"]
            ]
        )

    def plot(self) -> altair.LayerChart:
        """Scores by folds with 95 % intervals, the best bet on top."""
        import altair as alt

        lowest, highest = RANGES[self.kept["metric"]]
        title = f"{self.kept['metric']} by folds, 95 % interval"
        rows = [
            {
                "candidate": each["name"],
                "score": each["score"],
                "low": max(lowest, each["score"] - 1.96 * each["error"]),
                "high": min(highest, each["score"] + 1.96 * each["error"]),
                "chosen": each["name"] == self.chosen,
            }
            for each in self.kept["candidates"]
        ]
        colours = alt.Scale(domain=[True, False], range=["#1f5fa8", "#8a8f98"])
        base = alt.Chart(alt.InlineData(values=rows)).encode(
            y=alt.Y("candidate:N", sort=None, title=None), color=alt.Color("chosen:N", legend=None, scale=colours)
        )
        lines = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q")
        points = base.mark_circle(size=90, opacity=1).encode(x=alt.X("score:Q", title=title))
        chart: altair.LayerChart = lines + points
        return chart


def format_kept_choice(choice: Mapping[str, Any]) -> str:
    """Format a choice of a model: 'Use tfidf: expected to lose 0.2 points to the best of these 4 candidates'."""
    standings = {each["name"]: each for each in choice["candidates"]}
    own = standings[choice["chosen"]]
    cost = f"{format_seconds(own['fit_seconds'])} to fit a fold, {format_seconds(own['row_seconds'])} a row"
    folds = f"{pluralise(choice['rows'], 'row')} in {pluralise(choice['folds'], 'fold')}"
    if own["rows"] < choice["rows"]:
        folds = f"{own['rows']} of {pluralise(choice['rows'], 'row')} in {pluralise(choice['folds'], 'fold')}"
    if len(standings) == 1:
        return f"{own['name']}: the only candidate that was tried, by {folds}; {cost}."
    if sum(each.get("prior") is not None for each in standings.values()) > 1:  # one alone tells of no difference
        folds += " and records of other files"
    head = "Use" if choice["settled"] else "Best bet:"
    colon = ":" if choice["settled"] else ","
    chance = f"{format_chance(1 - own['risk'])} to lose {100 * choice['within']:g} at most"
    known = _format_prior(choice, own)
    return (
        f"{head} {own['name']}{colon} expected to lose {format_lost(own['expected_loss'])} to the best of these "
        f"{len(standings)} candidates ({chance}), by {folds}; {cost}.{known}"
        f"{'' if choice['settled'] else _format_more(choice)}"
    )


def _format_prior(choice: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    """Format why another candidate was not taken whose score is above the chosen one's, where its records say so."""
    best = max(choice["candidates"], key=lambda each: each["score"])
    before, mine = best.get("prior"), own.get("prior")
    if best["score"] <= own["score"] or before is None or mine is None or mine <= before:
        return ""
    return (
        f" By these rows alone {best['name']} is better, {best['score']:.3f} against {own['score']:.3f}; on other "
        f"files {own['name']} was, by {format_lost(mine - before)} on average, and so few rows do not outweigh that."
    )


def _format_more(choice: Mapping[str, Any]) -> str:
    """Format what would settle a choice: ' About 90 labelled rows like these would tell …'"""
    told, enough = "", choice.get("enough_rows")
    if enough is not None and enough > choice["rows"]:
        told += f" About {enough} labelled rows like these would tell which is best, if they differ as much as now."
    short = sum(each["rows"] < choice["rows"] for each in choice["candidates"])
    if short:
        told += f" {pluralise(short, 'candidate')} did not answer all folds: a longer budget may judge more of them."
    return told


def format_mistakes(learnt: Mapping[str, Any]) -> list[str]:
    """Format what a model's folds take for what, the commonest first, and how often a rare label is found."""
    told = []
    if learnt["confusions"]:
        pairs = [
            f"{each['label']!r} for {each['taken_for']!r} ({each['count']} of {pluralise(each['rows'], 'row')})"
            for each in learnt["confusions"][:MOST_TOLD]
        ]
        told.append(f"Most often it takes {', '.join(pairs)}.")
    judged = [each for each in learnt["labels"] if each["rows"]]
    rarest = min(judged, key=lambda each: each["rows"])
    if rarest["rows"] < max(each["rows"] for each in judged) / SKEWED:
        found = round(rarest["recall"] * rarest["rows"])
        told.append(
            f"Of the {pluralise(rarest['rows'], 'row')} of {rarest['label']!r}, a rare label, it finds {found}."
        )
    return told


def format_none_label(kept: Mapping[str, Any]) -> str:
    """Format how readily a model gives the label of rows of none, from what it keeps of that."""
    if not kept["offset"]:
        return (
            f"Giving {kept['label']!r} more readily would not pay: of rows that the models had not seen, "
            f"{kept['found']} of {kept['rows']} are found as it is."
        )
    return (
        f"{kept['label']!r} is given more readily, its probability times {math.exp(kept['offset']):.3g}: of rows that "
        f"the models had not seen, {kept['found']} of {kept['rows']} are found ({kept['found_before']} before), and of "
        f"other labels {kept['right']} of {pluralise(kept['others'], 'row')} are right ({kept['right_before']} "
        "before). This was chosen on these rows: of new ones it may be a little less."
    )


def format_stated(choice: Mapping[str, Any]) -> str:
    """Format what the model is expected to score on rows like these, beside always answering the majority class."""
    mean, low, high = choice["stated"]["accuracy"]
    more = [
        f"{name} {value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"
        for name, value in choice["stated"].items()
        if name != "accuracy"
    ]
    also = f"; {', '.join(more)}" if more else ""
    told = (
        f"Expected accuracy on rows like these: {mean:.3f} [{low:.3f}, {high:.3f}]{also}. Always answering the "
        f"majority class: {choice['majority']:.3f}."
    )
    if choice.get("single_labels"):
        single = choice["single_labels"]
        told += (
            f" {pluralise(single, 'label')} {choose_verb(single, 'has', 'have')} one row: if the rows are a random "
            f"sample, about {100 * choice['absent_share']:.2g} % of new rows have a label that the file lacks, and "
            "accuracy and macro F1 count these as wrong."
        )
    return told
