"""What can be said of one attack, and the judging of one command's outcome.

Owns the words traceback, hang, silent wrong and unclear, and how each is told from an exit code and its output. Does
not know how commands are run or what was attacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Word = Literal["right", "traceback", "hang", "silent_wrong", "unclear", "skipped", "broken"]

CRASHES = (
    "Traceback (most recent call last)",
    "MarkupError",
    "panicked at",
    "Fatal Python error",
    "terminate called",
    "Segmentation fault",
)
"""Texts that only a crash prints."""

LONGEST_MESSAGE = 4000
"""Characters of a refusal that a person still reads."""

EXIT_CODES = (0, 1, 2, 130)
"""What the command line promises; 129 and 143 besides, where it was told to end."""


@dataclass(frozen=True)
class Outcome:
    """What one command did: its exit code (negative: a signal; None: killed past its time), output and seconds."""

    arguments: tuple[str, ...]
    code: int | None
    output: str
    seconds: float

    def __str__(self) -> str:
        lines = [line.strip() for line in self.output.strip().splitlines()]
        ended = f"ended with {self.code}" if self.code is not None else "was killed"
        return f"{' '.join(self.arguments)[:160]!r} {ended} after {self.seconds:.1f} s: {' / '.join(lines[-4:])[-400:]}"


@dataclass(frozen=True)
class Verdict:
    """One word for an attack, and what led to it."""

    word: Word
    detail: str = ""


class Caught(Exception):  # noqa: N818 - it ends a case early, as a finding
    """An attack has found something: no more commands of its case need to run."""

    def __init__(self, word: Word, detail: str) -> None:
        super().__init__(word, detail)
        self.verdict = Verdict(word, detail)


def judge_crash(outcome: Outcome) -> None:
    """Raise Caught where a command hung or crashed, whatever it was given."""
    if outcome.code is None:
        raise Caught("hang", str(outcome))
    found = next((text for text in CRASHES if text in outcome.output), None)
    if found is not None:
        raise Caught("traceback", f"{' '.join(outcome.arguments)[:160]!r}: {format_crash(outcome.output, found)}")
    if outcome.code not in EXIT_CODES:
        raise Caught("traceback", str(outcome))
    if outcome.code == 1 and not outcome.output.strip():
        raise Caught("traceback", f"{outcome}: no message")


def format_crash(output: str, found: str) -> str:
    """Where in fewtune a crash began, and what it says."""
    lines = output[output.find(found) :].strip().splitlines()
    said = next((line for line in lines[1:] if line[:1].strip() and not line.startswith("Process ")), lines[0])
    places = [line.strip().split("/src/")[1] for line in lines if 'File "' in line and "/src/fewtune/" in line]
    return f"{said[:300]} ({places[-1] if places else 'outside fewtune'})"


def judge_refusal(outcome: Outcome, names: Sequence[str]) -> None:
    """Raise Caught where a command did not refuse with code 2 and one short message that holds each of `names`."""
    judge_crash(outcome)
    if outcome.code == 0:
        raise Caught("silent_wrong", f"accepted: {outcome}")
    flat = "".join(outcome.output.split())
    missing = [name for name in names if "".join(name.split()).lower() not in flat.lower()]
    if missing:
        raise Caught("unclear", f"names no {', '.join(missing)}: {outcome}")
    if outcome.code != 2:
        raise Caught("unclear", f"no refusal: {outcome}")
    told = outcome.output[max(0, outcome.output.find("fewtune: ")) :]  # a report may stand before it
    if len(told) > LONGEST_MESSAGE:
        raise Caught("unclear", f"{len(told)} characters of message: {outcome}")
