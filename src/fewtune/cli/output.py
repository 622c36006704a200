"""The two consoles that commands print to: standard output and standard error.

Owns both, how a line of text goes to them, and the line that counts what a long command has done.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from fewtune.system.signals import Interrupted
from fewtune.system.terminal import make_message, open_console

console = open_console()
errors = open_console(stderr=True)


def say(text: str) -> None:
    """Print a message: whole lines where they are piped, between words where a terminal's line ends."""
    console.print(make_message(text), soft_wrap=not console.is_terminal)


def say_to_copy(text: str) -> None:
    """Print a message that ends in what is typed next: no line break of ours stands in it."""
    console.print(make_message(text), soft_wrap=True)


def say_error(text: str) -> None:
    """Print a message to standard error."""
    errors.print(make_message(text), soft_wrap=not errors.is_terminal)


def complain(text: str) -> None:
    """Print a message to standard error, where anyone reads it: a terminal that hung up, or a pipe's end, does not."""
    with contextlib.suppress(OSError, Interrupted):
        say_error(text)


@contextlib.contextmanager
def count_rows(shown: bool) -> Iterator[Callable[[int], None]]:
    """Takes how many rows are done so far, and shows it with their pace on standard error, where that is a terminal."""
    from rich.progress import Progress, TextColumn

    columns = TextColumn("{task.description}", markup=False)
    with Progress(
        columns,
        console=errors,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not (shown and sys.stderr.isatty()),
    ) as progress:
        line, began = progress.add_task("reading", total=None), time.monotonic()

        def show(done: int) -> None:
            pace = done / max(time.monotonic() - began, 1e-9)
            progress.update(line, description=f"{done:,} rows answered, {pace:,.0f} a second")

        yield show
