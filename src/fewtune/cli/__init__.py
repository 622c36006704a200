"""The command line: a file holds one command, or a few that belong together; `app` what they form.

Commands read what was typed, call one function and print what comes of it. Heavy imports wait until one needs them.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (`app.main`); Ctrl-C ends it without a trace while its own modules are imported too."""
    # Tables are small here, and several threads for each cost more than they bring: read as Polars is imported.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    try:
        from fewtune.cli import app
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(128 + signal.SIGINT)
    try:
        app.main(arguments)
    finally:
        gc.freeze()  # the process ends: thousands of records are not looked through for garbage once more
