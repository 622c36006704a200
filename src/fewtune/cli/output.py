"""Where commands print: the console of the standard output, and the one of the errors.

Owns both, and how a line of text goes to them.
"""

from __future__ import annotations

import contextlib

from fewtune.terminal import make_text, open_console

console = open_console()
_errors = open_console(stderr=True)


def say(text: str) -> None:
    """Print a line, as it stands."""
    console.print(make_text(text), soft_wrap=True)


def say_error(text: str) -> None:
    """Print a line to standard error, as it stands."""
    _errors.print(make_text(text), soft_wrap=True)


def complain(text: str) -> None:
    """Print a line to standard error, where anyone reads it: a terminal that hung up shows nothing any more."""
    with contextlib.suppress(OSError):
        say_error(text)
