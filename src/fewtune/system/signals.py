"""Raises signals that end a command as exceptions, so that it cleans up and reports.

Owns which signals these are and the exit code of each. Ctrl-C is Python's own KeyboardInterrupt.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that ask a command to end: of a scheduler or `kill`, and of a terminal that closes."""


REPEAT_SECONDS = 0.05
"""After which an interrupt that was lost comes once more."""

_came: list[KeyboardInterrupt] = []
"""What signals raised within `raise_on_signals`."""


CLOSED_PIPE = 13
"""SIGPIPE, where there are signals: whoever read what is printed is gone. Python hears of it as an error of writing."""


class Interrupted(KeyboardInterrupt):
    """A signal of ENDING came, or nobody reads what is printed any more; handled wherever Ctrl-C is."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(name_signal(number))


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise Interrupted at the first of ENDING, within; a second one ends the process at once.

    A signal that is ignored stays ignored, as `nohup` wants it. One that came where nothing can be raised, as while an
    object is thrown away, comes once more.
    """

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        _came.append(Interrupted(number))
        raise _came[-1]

    def interrupt(number: int, frame: FrameType | None) -> None:
        _came.append(KeyboardInterrupt())
        raise _came[-1]

    def repeat(lost: sys.UnraisableHookArgs) -> None:
        if not any(lost.exc_value is each for each in _came):
            unraisable(lost)
            return
        number = lost.exc_value.number if isinstance(lost.exc_value, Interrupted) else signal.SIGINT
        signal.signal(number, end if number in ENDING else interrupt)
        timer = threading.Timer(REPEAT_SECONDS, os.kill, (os.getpid(), number))
        timer.daemon = True
        timer.start()

    before = {number: signal.getsignal(number) for number in ENDING}
    before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, end)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    unraisable, sys.unraisablehook = sys.unraisablehook, repeat
    try:
        with as_interrupted():
            yield
    finally:
        _came.clear()
        sys.unraisablehook = unraisable
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def as_interrupted() -> Iterator[None]:
    """Within `raise_on_signals`: if a library turns an interrupt into an error of its own, the interrupt is raised.

    pydantic's serialisers do so. Whoever ends something on an interrupt asks for it around what is interrupted.
    """
    try:
        yield
    except Exception as error:
        if _came:
            raise _came[0] from error
        raise


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Keep Ctrl-C and signals of ENDING waiting, within; a process that is started here never hears of any."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, *ENDING})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """The exit code of a command that a signal ended: 128 and the signal's number, 130 for Ctrl-C."""
    return 128 + (interrupt.number if isinstance(interrupt, Interrupted) else int(signal.SIGINT))


def format_interrupt(interrupt: KeyboardInterrupt) -> str:
    """What ended a command, in words."""
    return f"Stopped by {interrupt}" if isinstance(interrupt, Interrupted) else "Stopped"


def name_signal(number: int) -> str:
    """A signal's name, such as SIGKILL; its number where it has none, as most real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
