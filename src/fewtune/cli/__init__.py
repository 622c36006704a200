"""The command line: one command a file, or a few that belong together; `app` joins them.

Commands read what was typed, call one function and print what comes of it. Heavy imports wait until one needs them.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from fewtune.system.signals import exit_code, format_interrupt, raise_on_signals

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (`app.main`); a signal ends it without a trace while its own modules are imported too."""
    # Tables are small here, and several threads for each cost more than they bring: read as Polars is imported.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    try:
        with raise_on_signals():
            from fewtune.cli import app
    except KeyboardInterrupt as stopped:
        sys.stderr.write(f"{format_interrupt(stopped)}.\n")
        sys.exit(exit_code(stopped))
    try:
        app.main(arguments)
    finally:
        gc.freeze()  # the process ends: thousands of records are not looked through for garbage once more
