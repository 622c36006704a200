"""`fewtune report`: a study's records shown, written as a page, or exported."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from fewtune.cli.options import OutFolder, Profile, Strict
from fewtune.cli.output import console, say_error, say_to_copy
from fewtune.errors import FewtuneError
from fewtune.plurals import pluralise
from fewtune.system.garbage_collection import collecting_later
from fewtune.system.terminal import write_export

if TYPE_CHECKING:
    from fewtune.report.results import StudyResult


def report(
    out: OutFolder,
    /,
    *,
    format_: Annotated[
        Literal["html", "json", "csv", "markdown", "latex"],
        Parameter(name="--format", help="html writes report.html beside the records; the others are printed."),
    ] = "html",
    figures: Annotated[
        Path | None, Parameter(help="Folder to write every chart into, as SVG and PNG, for papers.")
    ] = None,
    against: Annotated[
        str | None, Parameter(help="Published study to print beside this one: paper (arXiv 2405.13181).")
    ] = None,
    profile: Profile = False,
    strict: Strict = False,
) -> int:
    """Show a study's audit, leaderboard and verdict, and write its report.html; needs no torch."""
    from fewtune.report.against import check_published_name
    from fewtune.report.export import FORMATS
    from fewtune.report.figures import write_figures
    from fewtune.report.profile import show_profile
    from fewtune.report.results import read_result

    if against is not None:
        check_published_name(against)
    if figures is not None and figures.exists() and not figures.is_dir():
        raise FewtuneError(f"{figures} is a file; --figures needs a folder.")
    if format_ in FORMATS and (against is not None or profile):
        raise FewtuneError(f"--format {format_} holds the study alone: give --against and --profile without it.")
    with collecting_later():
        result = read_result(out)
        if format_ in FORMATS:
            write_export(FORMATS[format_](result.analysis))
        else:
            show_report(result, against)
            if profile:
                show_profile(console, result.records)
        if figures is not None:
            written = write_figures(result.analysis, figures)
            say_error(f"figures: {pluralise(len(written), 'file')} in {figures}")
    return end_with(result, strict)


def show_report(result: StudyResult, against: str | None = None) -> None:
    """Print audit, leaderboard and verdict, a published study beside them where one is named, and write the page."""
    from fewtune.report.against import show_against
    from fewtune.report.findings import show_findings
    from fewtune.report.tables import show_leaderboard

    show_findings(console, result.findings)
    show_leaderboard(console, result.analysis)
    if against is not None:
        show_against(console, result.folder, against)
    say_to_copy(f"report: {result.write_report()}")


def end_with(result: StudyResult, strict: bool) -> int:
    """The exit code: 1 where a trial failed, or strictly where the audit found an error."""
    from fewtune.analysis.audit.audit import has_errors

    failed = any(record.status == "failed" for record in result.records)
    return 1 if failed or (strict and has_errors(result.findings)) else 0
