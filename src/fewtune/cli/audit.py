"""`fewtune audit`: what the audit finds in a study's records, or in anyone's table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from fewtune.cli.options import Strict
from fewtune.cli.output import console, say
from fewtune.errors import FewtuneError

if TYPE_CHECKING:
    from fewtune.analysis.audit.runs import CellReading


def audit(
    out: Annotated[Path | None, Parameter(help="A folder that `fewtune run` wrote.")] = None,
    /,
    *,
    table: Annotated[
        Path | None,
        Parameter(
            help="Anyone's results instead: a CSV file with a row a run (method, shots, seed, accuracy …); - is "
            "standard input.",
            allow_leading_hyphen=True,
        ),
    ] = None,
    majority: Annotated[
        float | None, Parameter(help="Share or percentage of the majority class, for a table without that column.")
    ] = None,
    column: Annotated[
        list[str] | None,
        Parameter(help="Which column of the table is what, such as score=Top-1 or method=approach; several times."),
    ] = None,
    strict: Strict = False,
) -> int:
    """Look for the ways in which comparisons go wrong: in a study's records, or in any table of results."""
    from fewtune.analysis.audit.audit import RULES, has_errors
    from fewtune.analysis.audit.table import audit_table
    from fewtune.analysis.study import analyse_folder
    from fewtune.report.findings import show_findings

    asked, unasked = len(RULES), dict[str, str]()
    if table is not None and out is None:
        audited = audit_table(table, majority, read_columns(column or []))
        findings, asked, unasked = audited.findings, audited.asked, audited.unasked
        for line in list_reading(audited.reading):
            say(line)
    elif out is not None and table is None:
        if column:
            raise FewtuneError("--column goes with --table: a study's records have their own names.")
        if majority is not None:
            raise FewtuneError("--majority goes with --table: a study's records know it themselves.")
        findings = list(analyse_folder(out).findings)
    else:
        raise FewtuneError("give either a folder that `fewtune run` wrote, or --table FILE.csv.")
    show_findings(console, findings, trials=True, rules=asked)
    if unasked:
        each = "; ".join(f"{rule}, which needs a column {column}" for rule, column in unasked.items())
        told = "A column of another name is told with --column, such as accuracy=NAME."
        say(f"{asked} of {asked + len(unasked)} rules asked; not asked: {each}. {told}")
    return 1 if strict and has_errors(findings) else 0


def list_reading(reading: CellReading) -> list[str]:
    """Say how cells were read that hold more than a plain number, a line each."""
    spreads = [
        f"column {name}: in cells such as {cell} the mean is the score; the spread says that the row stands for "
        "several runs, and is used for nothing else."
        for name, cell in reading.spreads.items()
    ]
    commas = [f"column {name}: the comma in {cell} is read as a decimal one." for name, cell in reading.commas.items()]
    return [*spreads, *commas]


def read_columns(given: list[str]) -> dict[str, str]:
    """From `score=Top-1` to which column is read as what; raises FewtuneError where one is no such pair."""
    pairs = [each.partition("=") for each in given]
    for each, (kind, _, name) in zip(given, pairs, strict=True):
        if not kind or not name:
            raise FewtuneError(f"--column is {each!r:.80}; give WHAT=NAME, such as score=Top-1.")
    for said, which in (("says what is read as", [kind for kind, _, _ in pairs]), ("names", [p[2] for p in pairs])):
        twice = [each for each, times in Counter(which).items() if times > 1]
        if twice:
            raise FewtuneError(f"--column {said} {twice[0]!r:.80} more than once; audit the table once for each.")
    return {kind: name for kind, _, name in pairs}
