"""Shows the audit's findings in a terminal.

Owns their layout. Does not know the rules (`analysis.audit`).
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from fewtune.analysis.audit.audit import RULES
from fewtune.analysis.audit.finding import Finding, Severity
from fewtune.plurals import pluralise
from fewtune.system.terminal import make_message, make_text

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def show_findings(
    console: Console, findings: Sequence[Finding], *, trials: bool = False, rules: int = len(RULES)
) -> None:
    """Print every finding with its reason and remedy; with `trials`, the ids of the trials it is about.

    `rules` is how many were asked.
    """
    console.print(Text.assemble(("Audit  ", "bold"), make_text(format_outcome(findings, rules))))
    for finding in findings:
        head = Text.assemble(
            (finding.severity, STYLES[finding.severity]), make_text(f"  {finding.rule} · {finding.where}")
        )
        console.print(Padding(head, (0, 0, 0, 1)))
        console.print(Padding(make_message(f"{capitalise(finding.reason)}."), (0, 0, 0, 3)))
        console.print(Padding(make_message(finding.remedy, style="dim"), (0, 0, 0, 3)))
        if trials and finding.trials:
            named = f"{pluralise(len(finding.trials), 'trial')}: {', '.join(finding.trials)}"
            console.print(Padding(make_text(named, style="dim"), (0, 0, 0, 3)))


def show_errors(console: Console, findings: Sequence[Finding]) -> None:
    """Print the errors alone, where there are any: what stands before every conclusion."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        show_findings(console, errors)


def format_outcome(findings: Sequence[Finding], rules: int = len(RULES)) -> str:
    """Format how many findings of each severity there are: '1 error, 2 warnings'."""
    if not findings:
        return f"nothing found by {rules} rules."
    counts = {s: sum(finding.severity == s for finding in findings) for s in STYLES}
    return ", ".join(pluralise(count, severity) for severity, count in counts.items() if count) + "."


def capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]
