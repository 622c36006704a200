"""Writes a saved model's card in Markdown: what it is, how it was made, its scores, and how to load it.

Owns the page. It is made of what the model's manifest holds, so that a model that was copied has it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewtune.exporting.base_model import name_base
from fewtune.metrics.probabilities import CALIBRATED
from fewtune.models.catalogue import CATALOGUE
from fewtune.models.chat import drop_chat
from fewtune.plurals import pluralise
from fewtune.predictors.manifest import (
    AbstentionPart,
    BasePart,
    LanguagePart,
    Manifest,
    StackPart,
    WordsPart,
    list_members,
)
from fewtune.records import write_together
from fewtune.report.export import make_plain
from fewtune.report.model_choice import format_kept_choice, format_none_label, format_stated
from fewtune.report.wording import format_lost, format_score, format_seconds

CARD = "README.md"
RELIABILITY = "reliability.svg"


def write_card(manifest: Manifest, loading: Sequence[str], picture: bool = False) -> str:
    """The card of a model; `loading` says how it is loaded and read, `picture` that RELIABILITY is beside it."""
    origin = manifest.origin
    parts = [f"# {make_plain(_format_title(manifest))}", *_describe(manifest)]
    if "decision" in origin:
        parts += ["## How it was chosen", make_plain(str(origin["decision"]))]
        parts += [make_plain(str(origin["raced"]))] if "raced" in origin else []
        parts += [f"Audit: {make_plain(origin['audit'])}"]
        parts += [_list([make_plain(line) for line in origin.get("findings", ())])]
    if "choice" in origin:
        parts += [] if "decision" in origin else ["## How it was chosen"]
        parts += _describe_choice(origin["choice"])
    if "out_of_fold" in origin:
        parts += [
            "## What its answers are worth",
            *_format_folds(origin["out_of_fold"], manifest.temperature, origin.get("none_label")),
        ]
        parts += [f"![How often answers are right, by how sure they are]({RELIABILITY})"] if picture else []
    several = len(origin.get("choice", {}).get("candidates", ())) > 1
    raced = "decision" in origin
    if (raced and "tests" in origin) or ((raced or several) and "out_of_fold" in origin):
        parts.append("These scores are on data that the method was chosen on: those of new rows may be lower.")
    apart = "" if raced else ", which chose nothing"
    for name, found in origin.get("tests", {}).items():
        named = f"{make_plain(name)}, {pluralise(found['rows'], 'row')}"
        parts += [f"On {named}{apart}:", _tabulate_scores(found["metrics"])]
    if manifest.abstention is not None:
        parts.append(format_abstention(manifest.abstention))
    if origin.get("settings"):
        rows = [[make_plain(name), make_plain(repr(value))] for name, value in origin["settings"].items()]
        parts += ["## Settings", _tabulate(["setting", "value"], rows)]
    parts += ["## How to load it", *loading]
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    return "\n\n".join(part for part in (*parts, f"Made with {versions}.") if part) + "\n"


def format_abstention(part: AbstentionPart) -> str:
    """What a model that abstains keeps: its threshold, the risk it holds and the share that it answers."""
    return (
        f"It abstains where its answer has a probability under {part.threshold:.6g}. Of "
        f"{pluralise(part.rows, 'row')} that the folds' models had not seen, {part.coverage:.0%} "
        f"[{part.coverage_low:.0%}, {part.coverage_high:.0%}] were answered, {part.errors} of them wrong: with "
        f"{part.confidence:.0%} confidence, at most {part.risk:.3g} of such answers are wrong."
    )


def _format_title(manifest: Manifest) -> str:
    return f"{' or '.join(manifest.labels[:4])}{' …' if len(manifest.labels) > 4 else ''}"


def _describe(manifest: Manifest) -> list[str]:
    origin = manifest.origin
    lines = [f"Reads {', '.join(map(make_plain, manifest.fields))} and answers one of {len(manifest.labels)} labels."]
    if "method" in origin:
        lines.append(
            f"Method: {make_plain(str(origin['method']))}, fitted on {pluralise(int(origin.get('rows', 0)), 'row')}."
        )
    if origin.get("collapsed_fits"):
        times = pluralise(origin["collapsed_fits"], "time")
        lines.append(f"It was fitted again {times} with another seed: every row had been given one label.")
    if origin.get("collapsed"):
        lines.append("It gives every row that it was fitted on one label, and there was no time to fit it again.")
    if isinstance(manifest.scorer, StackPart):
        lines.append(_format_members(manifest.scorer))
    bases = [part.base for part in list_members(manifest.scorer) if isinstance(part, LanguagePart)]
    lines += dict.fromkeys(map(_format_base, bases))
    lines.append(_format_texts(manifest))
    if "data" in origin:
        lines.append(f"Fingerprint of the rows (SHA-256): {origin['data']}")
    counts: Mapping[str, int] = origin.get("label_counts", {})
    rows = [[make_plain(label), str(counts.get(label, ""))] for label in manifest.labels]
    return [*(line for line in lines if line), _tabulate(["label", "rows"], rows)]


def _format_members(stack: StackPart) -> str:
    """What a stack pools, and by which weights; nothing where it is one model that an offset was added to."""
    if len(stack.members) == 1:
        return ""
    named = [
        f"{make_plain(str(member.origin.get('method', member.scorer.kind)))} ({weight:.3g})"
        for member, weight in zip(stack.members, stack.weights, strict=True)
    ]
    return f"It pools the answers of {pluralise(len(named), 'model')}, by weights: {', '.join(named)}."


def _format_base(base: BasePart) -> str:
    known, named = CATALOGUE.get(drop_chat(base.name)), name_base(base)
    name = base.name if known is not None or named is None else named.name
    commit = "" if named is None or named.revision is None else f"commit {named.revision}; "
    licence = "see the base model's own pages" if known is None else known.licence
    return (
        f"Base model: {make_plain(name)} ({'' if known is None else f'{known.identity}; '}{commit}fingerprint "
        f"{base.weights_fingerprint[:12]}…, {base.precision}). Its licence holds for what is made of it: {licence}."
    )


def _format_texts(manifest: Manifest) -> str:
    """What of the rows' own texts is in the model's files."""
    parts = list_members(manifest.scorer)
    shown = [context for part in parts if isinstance(part, LanguagePart) for context in part.contexts]
    told = []
    if any(context.before or context.nearest for context in shown):
        told.append("Its files hold labelled rows word for word: they stand before every row that it reads.")
    if any(isinstance(part, WordsPart) for part in parts):
        told.append("Its files hold the words and phrases of the rows that it was fitted on.")
    return " ".join(told)


def _describe_choice(choice: Mapping[str, Any]) -> list[str]:
    """Which candidate was chosen among which, and what it is expected to score."""
    rows = [
        [
            make_plain(each["name"]),
            f"{each['score']:.3f}",
            str(each["rows"]),
            format_lost(each["expected_loss"]),
            format_seconds(each["fit_seconds"]),
            format_seconds(each["row_seconds"]),
        ]
        for each in choice["candidates"]
    ]
    heads = ["candidate", f"{choice['metric']} by folds", "rows answered", "expected loss", "a fold's fit", "a row"]
    left_out = [f"{make_plain(each['name'])} was left out: {make_plain(each['reason'])}" for each in choice["left_out"]]
    return [
        make_plain(format_kept_choice(choice)),
        make_plain(format_stated(choice)),
        _tabulate(heads, rows),
        _list(left_out),
    ]


def _format_folds(found: Mapping[str, Any], temperature: float, none: Mapping[str, Any] | None) -> list[str]:
    before, after = found["before"], found["after"]
    names = {"ece": "calibration error", CALIBRATED: "the same of a calibrated model, on so many rows"}
    figures = [[names.get(name, name), f"{before[name]:.3f}", f"{after[name]:.3f}"] for name in before]
    answered = (
        f"Each of the {found['rows']} rows was answered by a model fitted without it. What to expect of new rows, "
    )
    used = found.get("temperature", temperature)
    return [
        answered + "with intervals, stands above; this is what these rows had.",
        *([] if none is None else [make_plain(format_none_label(none))]),
        _tabulate(["metric", "value"], [[name, format_score(value[0])] for name, value in found["metrics"].items()]),
        *_describe_labels(found),
        f"Probabilities are calibrated with a temperature of {used:.3g}, found on the same answers:",
        _tabulate(["lower is better", "before", "after"], figures),
    ]


def _describe_labels(found: Mapping[str, Any]) -> list[str]:
    """How well each label is told, and what is taken for what; nothing of models that kept neither."""
    rows = [
        [
            make_plain(each["label"]),
            str(each["rows"]),
            *(format_score(each[name]) for name in ("precision", "recall", "f1")),
        ]
        for each in found.get("labels", ())
    ]
    wrong = [
        [make_plain(each["label"]), make_plain(each["taken_for"]), f"{each['count']} of {each['rows']}"]
        for each in found.get("confusions", ())
    ]
    parts = [_tabulate(["label", "rows", "precision", "recall", "F1"], rows)] if rows else []
    return parts + ([_tabulate(["label", "taken for", "rows"], wrong)] if wrong else [])


def _tabulate_scores(metrics: Mapping[str, Any]) -> str:
    rows = [
        [name, format_score(mean), f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""]
        for name, (mean, low, high) in metrics.items()
    ]
    return _tabulate(["metric", "value", "95 % interval"], rows)


def _tabulate(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{' :-- |' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def add_card(folder: Path, manifest: Manifest, loading: Sequence[str], picture: str | None = None) -> None:
    """Write a model's card into its folder, and the picture of its reliability, an SVG, beside it."""
    beside = {} if picture is None else {folder / RELIABILITY: picture.encode()}
    write_together({**beside, folder / CARD: write_card(manifest, loading, picture is not None).encode()})
