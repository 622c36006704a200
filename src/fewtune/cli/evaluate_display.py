"""Display of `fewtune evaluate`: one model or two, in a terminal, as JSON, and the rows answered wrong.

Owns the order and the sentences. Does not know how a figure is made (`evaluation`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from fewtune.cli.output import console
from fewtune.errors import find_near, shorten
from fewtune.fitting.evaluation import Confusion, LabelScore, ModelAnswers, PairedModels, compare_models
from fewtune.fitting.suspects import put_before
from fewtune.metrics.counts import SCORES
from fewtune.plurals import choose_verb, pluralise
from fewtune.predictors.rows import LabelledRows
from fewtune.report.parted_table import Column, part_table
from fewtune.report.wording import format_points, format_score
from fewtune.system.terminal import make_safe, make_text, write_export

MOST_LABELS = 10
"""Labels that the terminal shows: of more, those of the lowest F1."""
MOST_CONFUSIONS = 5
MOST_UNKNOWN = 5
LONGEST_LABEL, LONGEST_NAME, LEAST_TEXT = 30, 24, 20
"""Characters of a label and of a model's name in a sentence, and of an example's text where it stands beside one."""


@dataclass(frozen=True)
class Report:
    """Labelled rows, and what one model or two, by their folders, make of them."""

    rows: LabelledRows
    folders: tuple[Path, ...]
    answers: tuple[ModelAnswers, ...]
    risks: tuple[float | None, ...]
    """The share of its answers that may be wrong, where a model abstains."""


def show_evaluation(report: Report) -> None:
    """Print it all: the figures of each model, each label's, and of one model what it takes for what."""
    rows, first = report.rows, report.answers[0]
    names = _name_models(report.folders)
    _print(f"{pluralise(len(rows.labels), 'row')} of {rows.file.path.name}, labels in column {_quote(rows.column)}.")
    for line in _format_labels(report, names):
        _print(line)
    console.print()
    pair = compare_models(*report.answers) if len(report.answers) > 1 else None
    for table in _tabulate_metrics(first) if pair is None else _tabulate_pair(pair, first, names):
        console.print(table)
    majority = _quote(first.gold.names[first.evaluation.majority_label])
    _print(f"majority: always answering {majority}, the commonest of these rows' labels that {names[0]} knows.")
    if pair is not None:
        _print(format_pair(pair, names))
    for name, answers, risk in zip(names, report.answers, report.risks, strict=True):
        if risk is not None:
            _print(_format_answered(name, answers, risk))
    console.print()
    _show_labels(report, names)
    confusions = first.list_confusions()
    if pair is None and confusions:
        console.print()
        _show_confusions(confusions, report)
    elif not confusions:
        _print(f"No row is answered wrong by {names[0]}.")


def write_report(report: Report) -> None:
    """Write it all to standard output as one JSON object."""
    first, *others = [_describe(report, place) for place in range(len(report.answers))]
    whole = {
        "file": str(report.rows.file.path),
        "label_column": report.rows.column,
        "rows": len(report.rows.labels),
        **first,
        "beside": {**others[0], **_describe_pair(compare_models(*report.answers))} if others else None,
    }
    write_export(json.dumps(whole, indent=1) + "\n")


def list_wrong_rows(report: Report, kept: Sequence[Mapping[str, str]]) -> tuple[Sequence[str], list[dict[str, Any]]]:
    """The columns, and the rows that the first model answers wrong: number, truth, answer, then all of the file's.

    With a second model its answer stands there too; `abstained` where a model abstains on some rows.
    """
    first = report.answers[0]
    sure = first.probabilities.max(axis=1)

    def tell(place: int) -> dict[str, Any]:
        told: dict[str, Any] = {
            "row": place + 1,
            "truth": report.rows.labels[place],
            "answer": first.gold.names[first.predicted[place]],
            "probability": f"{sure[place]:.6f}",
        }
        if report.risks[0] is not None:
            told["abstained"] = "yes" if first.abstained[place] else "no"
        if len(report.answers) > 1:
            second = report.answers[1]
            told["beside"] = second.gold.names[second.predicted[place]]
        return put_before(kept[place], **told)

    return list(tell(0)), [tell(int(place)) for place in np.flatnonzero(first.wrong)]


def format_pair(pair: PairedModels, names: Sequence[str]) -> str:
    """Say which of two models answers more rows right, or that it cannot be told."""
    score = pair.metrics["accuracy"]
    first, second = names
    alone = (
        f"{first} alone is right in {pluralise(pair.first_alone, 'row')}, {second} alone in {pair.second_alone} "
        f"(McNemar's exact p {pair.exact_p:.2g})."
    )
    gain, low, high = (format_points(value) for value in (score.difference, score.low, score.high))
    match score.better:
        case "first":
            return f"By accuracy {first} is better than {second}: {gain} points [{low}, {high}]. {alone}"
        case "second":
            gain, high, low = (format_points(-value) for value in (score.difference, score.low, score.high))
            return f"By accuracy {second} is better than {first}: {gain} points [{low}, {high}]. {alone}"
        case None:
            return f"By accuracy it cannot be told which is better: {gain} points for {first} [{low}, {high}]. {alone}"


def _format_labels(report: Report, names: Sequence[str]) -> list[str]:
    """What is to be said of the labels before any figure: those that a model does not know, and a single one."""
    lines = []
    known = [frozenset(each.gold.names[: each.gold.known]) for each in report.answers]
    told = [(f"{name} never saw", answers) for name, answers in zip(names, report.answers, strict=True)]
    if len(set(known)) > 1:
        counts = [f"{name} knows {len(labels)}" for name, labels in zip(names, known, strict=True)]
        lines.append(
            f"The models know different labels ({', '.join(counts)}): a row whose label a model does not know counts "
            "as wrong for it."
        )
    elif len(known) > 1:
        told = [("neither model ever saw", report.answers[0])]
    lines += [_format_unknown(saw, answers) for saw, answers in told if answers.gold.unknown]
    if len(known) == 1 and report.answers[0].gold.unknown:
        count = pluralise(report.answers[0].evaluation.known_rows, "row")
        lines.append(f"Figures of probabilities (auroc to ece) are of the {count} whose label is known.")
    if len(set(report.rows.labels)) == 1:
        lines.append("Every row has one label: how well labels are told apart cannot be judged by these rows.")
    return lines


def _format_unknown(saw: str, answers: ModelAnswers) -> str:
    """Which labels are not known; `saw`: 'the model never saw'."""
    unknown = answers.gold.unknown
    count = sum(unknown.values())
    listed = [_format_one_unknown(label, rows, answers) for label, rows in list(unknown.items())[:MOST_UNKNOWN]]
    more = f" and {len(unknown) - len(listed)} more" if len(unknown) > len(listed) else ""
    return (
        f"{pluralise(count, 'row')} {choose_verb(count, 'has a label', 'have labels')} that {saw}, and "
        f"{choose_verb(count, 'counts', 'count')} as wrong: {', '.join(listed)}{more}."
    )


def _format_one_unknown(label: str, rows: int, answers: ModelAnswers) -> str:
    respelt = answers.gold.respelt.get(label)
    if respelt is not None:
        return f"{_quote(label)} ({pluralise(rows, 'row')}; the model has {_quote(respelt)}: write it so)"
    near = find_near(label, answers.gold.names[: answers.gold.known])
    hint = "" if near is None else f"; is {_quote(near)} meant?"
    return f"{_quote(label)} ({pluralise(rows, 'row')}{hint})"


def _tabulate_metrics(answers: ModelAnswers) -> list[Any]:
    found, majority = answers.evaluation.metrics, answers.evaluation.majority_scores
    return _tabulate(
        ("metric", list(found)),
        [
            ("value", [format_score(bounds.mean) for bounds in found.values()]),
            ("95 % interval", [_format_interval(bounds.low, bounds.high) for bounds in found.values()]),
            ("majority", [format_score(majority[name]) if name in majority else "" for name in found]),
        ],
    )


def _tabulate_pair(pair: PairedModels, first: ModelAnswers, names: Sequence[str]) -> list[Any]:
    scores = list(pair.metrics.values())
    better = {"first": names[0], "second": names[1], None: "cannot tell"}
    return _tabulate(
        ("metric", list(pair.metrics)),
        [
            (names[0], [format_score(each.first) for each in scores]),
            (names[1], [format_score(each.second) for each in scores]),
            ("difference", [f"{each.difference:+z.3f}" for each in scores]),
            ("95 % interval", [f"{each.low:+z.3f} to {each.high:+z.3f}" for each in scores]),
            ("better", [better[each.better] for each in scores]),
            ("majority", [format_score(first.evaluation.majority_scores[name]) for name in pair.metrics]),
        ],
    )


def _show_labels(report: Report, names: Sequence[str]) -> None:
    """The scores of each label that the first model knows; of many labels those of the lowest F1."""
    first = report.answers[0]
    scores = first.score_labels()[: first.gold.known]
    if len(scores) > MOST_LABELS:
        found = [each for each in scores if each.f1 is not None]
        shown = sorted(found, key=lambda each: (each.f1 or 0.0, -each.rows))[:MOST_LABELS]
        _print(f"The {len(shown)} labels of lowest F1, of {len(scores)}; all: --format json")
    else:
        shown = scores
    columns = [
        ("rows", [str(each.rows) for each in shown]),
        ("precision", [format_score(each.precision) for each in shown]),
        ("recall", [format_score(each.recall) for each in shown]),
        ("F1", [format_score(each.f1) for each in shown]),
    ]
    if len(report.answers) > 1:
        other = {each.label: each.f1 for each in report.answers[1].score_labels()}
        columns.append((f"F1 of {names[1]}", [format_score(other.get(each.label)) for each in shown]))
    for table in _tabulate(("label", [each.label for each in shown]), columns):
        console.print(table)


def _show_confusions(confusions: Sequence[Confusion], report: Report) -> None:
    """The commonest confusions in words, each with its first row."""
    left = len(confusions) - MOST_CONFUSIONS
    _print("Most often confused:" if left <= 0 else f"Most often confused, of {len(confusions)} pairs of labels:")
    for each in confusions[:MOST_CONFUSIONS]:
        told = make_safe(
            f"takes {_quote(each.label)} for {_quote(each.taken_for)} in {each.count} of "
            f"{pluralise(each.rows, 'row')}, such as row {each.example + 1}:"
        )
        room = console.width - len(told) - 1
        apart = room < LEAST_TEXT
        text = shorten(make_safe(_format_text(report.rows, each.example)), console.width - 2 if apart else room)
        _print(f"{told}\n  {text}" if apart else f"{told} {text}")


def _format_answered(name: str, answers: ModelAnswers, risk: float) -> str:
    """What a model that abstains did, with the exact 95 % interval of the share that was wrong."""
    rows, answered = len(answers.abstained), int((~answers.abstained).sum())
    likeliest = "Scores count its likeliest label of every row."
    if not answered:
        return f"On all {pluralise(rows, 'row')} {name} abstained: it says nothing here. {likeliest}"
    wrong = int(answers.wrong[~answers.abstained].sum())
    found = binomtest(wrong, answered).proportion_ci()
    return (
        f"Of {pluralise(rows, 'row')} {name} answered {answered} and abstained on the rest; {wrong / answered:.3f} "
        f"of its answers are wrong [{found.low:.3f}, {found.high:.3f}]; {risk:g} are allowed. {likeliest}"
    )


def _describe(report: Report, place: int) -> dict[str, Any]:
    """All that was found of one model, as plain values."""
    answers, risk = report.answers[place], report.risks[place]
    found, gold = answers.evaluation, answers.gold
    answered = int((~answers.abstained).sum())
    return {
        "model": str(report.folders[place]),
        "metrics": {
            name: {
                "value": each.mean,
                "low": each.low,
                "high": each.high,
                "rows": len(answers.abstained) if name in SCORES else found.known_rows,
            }
            for name, each in found.metrics.items()
        },
        "majority": {"label": gold.names[found.majority_label], **found.majority_scores},
        "unknown_labels": [
            {"label": label, "rows": rows, "known_as": gold.respelt.get(label)} for label, rows in gold.unknown.items()
        ],
        "abstention": None
        if risk is None
        else {"risk": risk, "answered": answered, "wrong": int(answers.wrong[~answers.abstained].sum())},
        "labels": [_describe_label(each, gold.names[: gold.known]) for each in answers.score_labels()],
        "confusions": [
            {
                "label": each.label,
                "taken_for": each.taken_for,
                "count": each.count,
                "rows": each.rows,
                "example": {"row": each.example + 1, "text": shorten(_format_text(report.rows, each.example))},
            }
            for each in answers.list_confusions()
        ],
    }


def _describe_label(score: LabelScore, known: Sequence[str]) -> dict[str, Any]:
    return {**asdict(score), "known": score.label in known}


def _describe_pair(pair: PairedModels) -> dict[str, Any]:
    found = asdict(pair)
    return {"differences": found.pop("metrics"), **found}


def _format_text(rows: LabelledRows, place: int) -> str:
    """A row's texts in one line."""
    return " | ".join(" ".join(text.split()) for text in rows.texts[place].values())


def _format_interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def _name_models(folders: Sequence[Path]) -> list[str]:
    """What models are called: their folders' names, or the whole paths where these are one; a single one 'the model'.

    Of long ones the end stands, which tells them apart.
    """
    if len(folders) == 1:
        return ["the model"]
    names = [folder.resolve().name for folder in folders]
    if names[0] == names[1]:
        names = [str(folder) for folder in folders]
    return [name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME :]}" for name in names]


def _quote(label: str) -> str:
    """A label in a sentence: in one line, cut where it is long."""
    return f'"{shorten(" ".join(label.split()), LONGEST_LABEL)}"'


def _tabulate(names: tuple[str, Sequence[str]], columns: Sequence[tuple[str, Sequence[str]]]) -> list[Any]:
    """Tables of a heading and its cells each, no wider than the console."""
    first, *others = [Column(make_text(head), [make_text(cell) for cell in cells]) for head, cells in (names, *columns)]
    return list(part_table(first, others, console.width))


def _print(text: str) -> None:
    """Print a line that may hold users' words, which stand as they are."""
    console.print(make_text(text), soft_wrap=not console.is_terminal)
