"""Reads the predictions of many trials ahead of use, in a second process where there are many.

Owns the thread and the process. Does not know what is kept of a table (`predictions`).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

from fewtune.analysis.predictions import AnswerReader, Asked
from fewtune.errors import RecordError
from fewtune.records import PredictionsError, Record
from fewtune.system.processor import usable_cores
from fewtune.system.signals import held_back

READ_AHEAD = 32
"""Tables of predictions that wait to be looked at, at most."""

MOST_ALONE = 2000
"""Tables up to which starting a process takes longer than it saves."""

OWN_SHARE = 0.54
"""What of many tables is read here: the process beside has to start first."""

_PROGRAM = "import sys; from fewtune.analysis.reading import read_for_another; read_for_another(int(sys.argv[1]))"


def read_all(reader: AnswerReader, records: Iterable[Record]) -> None:
    """Read what trials answered that was not read yet; raises RecordError as `reader.answers` does, the first one's.

    Predictions of which no figure can be made are left out, and the reader says so.
    Codes are given in the order of records, whoever reads them: the task's labels first.
    """
    waiting = [Asked.of(record) for record in records if not reader.has(record.trial_id)]
    if len(waiting) <= MOST_ALONE or usable_cores() < 2 or os.name != "posix":
        read_ahead(reader, waiting)
        return
    own = int(OWN_SHARE * len(waiting))
    labels = [*reader.labels, *(label for each in waiting[:own] for label in each.labels)]
    with _read_beside(AnswerReader(reader.load, labels), waiting[own:]) as pipe:
        read_ahead(reader, waiting[:own])
        try:
            reader.take_over(pipe.recv())
        except (EOFError, OSError):  # it met a table that it could not read, was killed, or never started
            read_ahead(reader, waiting[own:])


def read_ahead(reader: AnswerReader, asked: Sequence[Asked]) -> None:
    """Read tables, the next ones while one is looked at; those of which no figure can be made are left out."""
    waiting = iter(asked)
    with ThreadPoolExecutor(1, "predictions") as pool:
        ahead = deque((each, pool.submit(reader.load, each.trial_id)) for each in islice(waiting, READ_AHEAD))
        while ahead:
            looked_at, table = ahead.popleft()
            ahead.extend((each, pool.submit(reader.load, each.trial_id)) for each in islice(waiting, 1))
            try:
                reader.take(looked_at, table.result())
            except PredictionsError as error:
                reader.leave_out(error.trial_id, error.fault)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


@contextmanager
def _read_beside(reader: AnswerReader, asked: Sequence[Asked]) -> Iterator[Connection]:
    """Have a process read tables by a new reader while the caller does something else; yields where answers come.

    It imports nothing of the caller's own program, which may run on importing, and says nothing: whatever it cannot do,
    its caller does, and meets what is wrong.
    """
    request = ForkingPickler.dumps((reader, asked))
    ours, theirs = Pipe()

    def ask() -> None:  # beside the caller, for a pipe holds little until the process listens
        with contextlib.suppress(OSError):  # it ended: nothing will come
            ours.send_bytes(request)

    with ours, ThreadPoolExecutor(1, "request") as pool:
        process = None
        with theirs, held_back(), contextlib.suppress(OSError):  # Ctrl-C is its caller's to tell
            command = [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
        try:
            pool.submit(ask)
            yield ours
        finally:
            if process is not None:
                process.kill()
                process.wait()


def read_for_another(number: int) -> None:
    """What the process beside does over its end of the pipe; where a table cannot be read, its caller meets it."""
    with Connection(number) as pipe, contextlib.suppress(RecordError, EOFError, OSError):
        reader, asked = pipe.recv()
        read_ahead(reader, asked)
        pipe.send(reader.kept())
