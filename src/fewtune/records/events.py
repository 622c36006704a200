"""The event log of a running study, one line an event, in `OUT/events.jsonl`.

Owns reading and appending lines. No result is made of events.
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fewtune.records.files import name_path

EVENTS = "events.jsonl"


def read_lines(out: Path) -> list[str]:
    """The lines of a folder's events as they stand; none where it has no such file."""
    path = out / EVENTS
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []


def parse_events(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Every line that is an event: a finite `time`, a name `event`, its values.

    Lines that are none (half written when a process was killed or a disk full, or edited since) are passed over: they
    tell nothing.
    """
    read = [_parse_event(line) for line in lines]
    return [event for event in read if event is not None]


def _parse_event(line: str) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
        known = isinstance(event, dict) and isinstance(event["event"], str) and type(event["time"]) in (int, float)
        return event if known and math.isfinite(event["time"]) else None
    except (ValueError, KeyError, RecursionError, OverflowError):
        return None


def append_event(out: Path, event: str, **values: Any) -> None:
    """Add one line to events.jsonl, whole or not at all: UTC time in seconds, the event's name, its values.

    An OSError names the file. One process at a time may add lines: the one that holds the folder.
    """
    path = out / EVENTS
    line = json.dumps({"time": round(time.time(), 3), "event": event, **values}).encode() + b"\n"
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            # What an earlier command left half written must not take this line with it.
            line = b"\n" + line if size and os.pread(handle, 1, size - 1) != b"\n" else line
            try:
                whole = os.write(handle, line) == len(line)
            except OSError:
                os.ftruncate(handle, size)
                raise
            if not whole:
                os.ftruncate(handle, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)
    except OSError as error:
        raise name_path(error, path) from error
