"""Makes users' text safe for a terminal: no markup, control characters or escape codes.

Owns how a text is made safe to show, how messages show commands, and how the consoles and streams of the command line
are set up. Does not know what is shown.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.text import Text

from fewtune.errors import UnwrittenError
from fewtune.system.signals import CLOSED_PIPE, Interrupted

_KEPT = "\t\n"
_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_DIRECTIONS = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""They turn the order of the letters after them around, so that one name reads as another."""
_SEPARATORS, _SURROGATES = [0x2028, 0x2029], range(0xD800, 0xE000)
_WRITTEN_OUT = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*_CONTROLS, *_DIRECTIONS, *_SEPARATORS, *_SURROGATES)
    if chr(code) not in _KEPT
}
_CODE = re.compile(r"(?<![\w`])`([^`\n]+)`(?![\w`])")
"""What messages and docstrings mark as code: a command, an option or a setting, as it is typed."""


def make_safe(text: str) -> str:
    r"""A text with everything that acts on what shows it written out: an escape becomes the four letters \x1b."""
    return text.translate(_WRITTEN_OUT)


def make_text(text: str, style: str = "") -> Text:
    """A text for a console, shown as it stands: nothing in it is read as markup or acts on the terminal."""
    return Text(make_safe(text), style=style)


def quote_code(text: str) -> str:
    """A sentence of fewtune's with what it marks as code in quotes, for readers to whom a backtick is no markup.

    Where the code holds a quote itself, these are double.
    """
    return _CODE.sub(lambda code: f"'{code[1]}'" if "'" not in code[1] else f'"{code[1]}"', text)


def make_message(text: str, style: str = "") -> Text:
    """A sentence of fewtune's for a console, with code in quotes; users' words alone go through `make_text`."""
    return make_text(quote_code(text), style)


class _PipedConsole(Console):
    """A console that interrupts its command where nobody reads it any more, rather than end the process in silence."""

    _is_told = True
    """Whether the command has heard that nobody reads this any more: a thread that draws cannot interrupt it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        _abandon(sys.stderr if self.stderr else sys.stdout)
        self._is_told = threading.current_thread() is threading.main_thread()
        if self._is_told:
            raise Interrupted(CLOSED_PIPE)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as ever; raises Interrupted where another thread found that nobody reads it any more.

        Raises UnwrittenError where it leads to a file on a full disk.
        """
        if not self._is_told and threading.current_thread() is threading.main_thread():
            self._is_told = True
            raise Interrupted(CLOSED_PIPE)
        with _naming(sys.stderr if self.stderr else sys.stdout):
            super().print(*objects, **options)


def open_console(*, stderr: bool = False) -> Console:
    """A console that reads no markup and no emoji names in what it is given.

    It raises Interrupted where it leads to a pipe that nobody reads any more.
    """
    return _PipedConsole(stderr=stderr, markup=False, emoji=False, highlight=False)


def replace_unshowable() -> None:
    """Let standard output and errors show `?` for what their encoding lacks, rather than end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def write_export(text: str) -> None:
    """Write a file, or its next lines, to standard output: in UTF-8 where it is piped, made safe in a terminal.

    Raises Interrupted where nobody reads it any more, UnwrittenError where it leads to a file on a full disk.
    """
    try:
        with _naming(sys.stdout):
            if sys.stdout.isatty() or not isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.write(make_safe(text))
            else:
                sys.stdout.flush()
                sys.stdout.buffer.write(text.encode("utf-8", errors="backslashreplace"))
                sys.stdout.buffer.flush()
    except BrokenPipeError:
        _abandon(sys.stdout)
        raise Interrupted(CLOSED_PIPE) from None


@contextlib.contextmanager
def _naming(stream: TextIO) -> Iterator[None]:
    """Raise what the system says of writing to a stream, other than that nobody reads it, by the stream's name."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        _abandon(stream)
        name = "the standard error" if stream is sys.stderr else "the standard output"
        remedy = "Give the command again and let it lead to where there is room: a part of it may stand there now."
        raise UnwrittenError(error.errno, error.strerror or str(error), name, remedy) from error


def _abandon(stream: TextIO) -> None:
    """Let a stream lead nowhere, once whoever read it is gone: what is left to flush would fail at the end."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
