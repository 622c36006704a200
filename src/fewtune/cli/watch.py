"""`fewtune watch`: shows a study that another process runs."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from fewtune.cli.options import OutFolder, check_seconds
from fewtune.cli.output import console

LONGEST_WAIT = 86_400


def watch(
    out: OutFolder,
    /,
    *,
    every: Annotated[float, Parameter(help="Seconds between two looks at the folder.")] = 2.0,
) -> int:
    """Show a running study live: its table, what it says so far, and the time left; once where piped."""
    from fewtune.report.watch import watch_study

    check_seconds("--every", every, LONGEST_WAIT)
    watch_study(console, out, every)
    return 0
