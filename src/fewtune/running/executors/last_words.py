"""Prints a last message where Ray ends the command itself with exit code 1.

Owns a process beside the command. It is this file run as a script, so it imports the standard library alone.
"""

from __future__ import annotations

import atexit
import contextlib
import socket
import subprocess
import sys
import time

CONNECT_SECONDS = 2.0
CLOSING_SECONDS = 5.0
"""Seconds that a process which was killed may still be connected to."""

Address = tuple[str, int]


class LastWords:
    """Words that stand on standard error where this process is gone at once, and whoever listened there is too."""

    def __init__(self, address: Address, words: str) -> None:
        host, port = address
        command = [sys.executable, __file__, host, str(port), words]
        # Ctrl-C, which reaches all processes of a terminal, is for the command.
        self._beside = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        atexit.register(self.leave_unsaid)

    def leave_unsaid(self) -> None:
        """End the process beside this one: this one can speak for itself."""
        atexit.unregister(self.leave_unsaid)
        with contextlib.suppress(OSError):  # somebody ended it
            self._beside.communicate(b"\n")


def answers(address: Address) -> bool:
    """Whether a process listens there."""
    try:
        socket.create_connection(address, CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def main(host: str, port: str, words: str) -> None:
    """Wait for the command's end; say the words where it came without one of its own, and its node goes too."""
    if sys.stdin.buffer.read():
        return
    until = time.monotonic() + CLOSING_SECONDS
    while answers((host, int(port))):
        if time.monotonic() > until:
            return
        time.sleep(0.05)
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
